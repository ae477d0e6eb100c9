import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { node, sample } from "../../test/device_tree_sample.js";
import { DeviceTreeError } from "./error.js";
import { MAX_DEPTH } from "./limits.js";
import { textBytes, u32Bytes } from "./property.js";
import { readDeviceTree } from "./read.js";
import type { DeviceTree, DeviceTreeNode } from "./tree.js";
import { writeDeviceTree } from "./write.js";

function treeOf(root: DeviceTreeNode): DeviceTree {
  return { root, reservations: [], bootCpu: 0 };
}

function refused(tree: DeviceTree, code: string): void {
  assert.throws(
    () => writeDeviceTree(tree),
    (error: unknown) => error instanceof DeviceTreeError && error.code === code && error.offset === undefined,
  );
}

const name = fc.stringMatching(/^[a-z0-9,._+?#-]{1,31}$/);
const properties = fc.uniqueArray(fc.tuple(name, fc.uint8Array({ maxLength: 40 })), { selector: ([key]) => key });
function nodes(levels: number): fc.Arbitrary<DeviceTreeNode> {
  const children =
    levels === 1
      ? fc.constant<DeviceTreeNode[]>([])
      : fc.uniqueArray(nodes(levels - 1), { selector: (child) => child.name, maxLength: 4 });
  return fc
    .tuple(name, properties, children)
    .map(([name, properties, children]) => ({ name, properties: new Map(properties), children }));
}
const word64 = fc.bigInt({ min: 1n, max: 0xffffffffffffffffn });
const reservation = fc.tuple(word64, word64).map(([address, size]) => ({ address, size }));
const anyTree: fc.Arbitrary<DeviceTree> = fc
  .tuple(nodes(4), fc.array(reservation, { maxLength: 3 }), fc.nat({ max: 0xffffffff }))
  .map(([node, reservations, bootCpu]) => ({ root: { ...node, name: "" }, reservations, bootCpu }));

test("what is written reads back equal, with properties and children in their order", () => {
  fc.assert(
    fc.property(anyTree, (tree) => {
      const again = readDeviceTree(writeDeviceTree(tree));
      assert.deepEqual(again, tree);
      assert.deepEqual([...again.root.properties.keys()], [...tree.root.properties.keys()]);
    }),
  );
});

test("a tree that dtc wrote is written the same, byte for byte, where no name ends another", () => {
  const bytes = sample("board.dtb");
  assert.deepEqual(writeDeviceTree(readDeviceTree(bytes)), bytes);
});

test("each property name is stored once", () => {
  const tree = treeOf(
    node("", { status: textBytes("okay") }, [
      node("a", { status: textBytes("okay") }),
      node("b", { status: textBytes("disabled") }),
    ]),
  );
  const written = Buffer.from(writeDeviceTree(tree)).toString("latin1");
  assert.equal(written.split("status\0").length - 1, 1);
});

test("a tree no reader would take is refused", () => {
  refused(treeOf(node("root")), "EFDT_NAME");
  refused(treeOf(node("", {}, [node("")])), "EFDT_NAME");
  refused(treeOf(node("", {}, [node("a/b")])), "EFDT_NAME");
  refused(treeOf(node("", {}, [node("a\0b")])), "EFDT_NAME");
  refused(treeOf(node("", {}, [node("ä")])), "EFDT_NAME");
  refused(treeOf(node("", { ["x".repeat(256)]: new Uint8Array() })), "EFDT_NAME");
  refused(treeOf(node("", {}, [node("a"), node("a")])), "EFDT_DUPLICATE");
  refused(treeOf(node("", { phandle: u32Bytes(0) })), "EFDT_PHANDLE");
  refused(treeOf(node("", { phandle: u32Bytes(1) }, [node("a", { phandle: u32Bytes(1) })])), "EFDT_DUPLICATE_PHANDLE");
  refused(treeOf(node("", { rom: new Uint8Array(17 << 20) })), "EFDT_LIMIT");
  refused({ ...treeOf(node("")), bootCpu: -1 }, "EFDT_VALUE");
  refused({ ...treeOf(node("")), reservations: [{ address: 0n, size: 0n }] }, "EFDT_VALUE");
  refused({ ...treeOf(node("")), reservations: [{ address: 1n << 64n, size: 1n }] }, "EFDT_VALUE");
});

test("nodes deeper than a reader goes, or inside themselves, are refused", () => {
  const nested = (levels: number): DeviceTreeNode => node("x", {}, levels === 1 ? [] : [nested(levels - 1)]);
  const deepest = treeOf(node("", {}, [nested(MAX_DEPTH - 1)]));
  assert.deepEqual(readDeviceTree(writeDeviceTree(deepest)), deepest);
  refused(treeOf(node("", {}, [nested(MAX_DEPTH)])), "EFDT_DEPTH");
  const loop = node("x");
  loop.children.push(loop);
  refused(treeOf(node("", {}, [loop])), "EFDT_DEPTH");
});
