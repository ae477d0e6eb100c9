import assert from "node:assert/strict";
import { test } from "node:test";
import { node, sample } from "../../test/device_tree_sample.js";
import { nextPhandle, phandleIndex, phandleOf } from "./phandle.js";
import { u32Bytes } from "./property.js";
import { readDeviceTree } from "./read.js";
import type { DeviceTreeNode } from "./tree.js";

function treeOf(...children: DeviceTreeNode[]) {
  return { root: node("", {}, children), reservations: [], bootCpu: 0 };
}

test("phandles are found under both names", () => {
  const index = phandleIndex(readDeviceTree(sample("board.dtb")));
  assert.deepEqual(
    [...index].map(([phandle, { path }]) => [phandle, path]),
    [
      [0x10, "/cpus/cpu@8"],
      [0x11, "/cpus/cpu@10"],
      [0x20, "/npu@5011000"],
      [0x21, "/npu@5011000/link@0"],
      [0xfffffffe, "/npu@5011000/link@1"],
    ],
  );
  assert.equal(index.get(0x21)?.parent, index.get(0x20)?.node);
});

test("a node without a phandle has none", () => assert.equal(phandleOf(node("x")), undefined));

test("what cannot be a phandle is an error", () => {
  const wrong = (properties: Record<string, Uint8Array>) =>
    assert.throws(() => phandleOf(node("x", properties)), { code: "EFDT_PHANDLE" });
  wrong({ phandle: u32Bytes(0) });
  wrong({ phandle: u32Bytes(0xffffffff) });
  wrong({ phandle: u32Bytes(1, 2) });
  wrong({ phandle: new Uint8Array() });
  wrong({ "linux,phandle": u32Bytes(0) });
  wrong({ phandle: u32Bytes(1), "linux,phandle": u32Bytes(2) });
});

test("a phandle of two nodes is an error that names both", () => {
  const tree = treeOf(node("a", { phandle: u32Bytes(7) }), node("b", { "linux,phandle": u32Bytes(7) }));
  assert.throws(() => phandleIndex(tree), { code: "EFDT_DUPLICATE_PHANDLE", message: /\/a and \/b.*0x7/ });
});

test("the next phandle is free and valid, even after the highest there is", () => {
  assert.equal(nextPhandle(new Map()), 1);
  assert.equal(nextPhandle(new Map([5, 9, 2].map((phandle) => [phandle, ""]))), 10);
  assert.equal(nextPhandle(new Map([1, 2, 0xfffffffe].map((phandle) => [phandle, ""]))), 3);
});
