import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { machineTreePath, missing, output, samplePath } from "../../test/device_tree_sample.js";
import { processorTime } from "../../test/processor_time.js";
import { DeviceTreeError } from "../devicetree/error.js";
import { walk } from "../devicetree/path.js";
import { u32Bytes } from "../devicetree/property.js";
import { readDeviceTree } from "../devicetree/read.js";
import type { DeviceTreeNode } from "../devicetree/tree.js";
import { writeDeviceTree } from "../devicetree/write.js";
import { readDeviceTreeDirectory } from "./device_tree_directory.js";

const scratch = mkdtempSync(join(tmpdir(), "linkfence-directory-"));
after(() => rmSync(scratch, { recursive: true }));

let made = 0;

/** A new directory with the given files in it, `#address-cells` always among them. */
function directoryOf(files: Record<string, string | Uint8Array> = {}): string {
  const path = join(scratch, `tree-${made++}`);
  mkdirSync(path);
  for (const [name, value] of Object.entries({ "#address-cells": u32Bytes(2), ...files })) {
    writeFileSync(join(path, name), value);
  }
  return path;
}

/** The tree as the kernel shows it: with a `name` file in every node, in an order that is none. */
function unfold(root: DeviceTreeNode): string {
  const top = join(scratch, `tree-${made++}`);
  for (const { node, path } of [...walk(root)]) {
    mkdirSync(top + path, { recursive: true });
    writeFileSync(join(top + path, "name"), `${node.name.replace(/@.*/, "")}\0`);
    for (const [name, value] of [...node.properties].reverse()) writeFileSync(join(top + path, name), value);
  }
  return top;
}

/** The tree in the order of a directory, for a comparison that is blind to order. */
function sorted(node: DeviceTreeNode): unknown {
  const children = [...node.children].sort((a, b) => (a.name < b.name ? -1 : 1)).map(sorted);
  return { name: node.name, properties: [...node.properties].sort(([a], [b]) => (a < b ? -1 : 1)), children };
}

function refused(path: string, code: string, message: RegExp): void {
  const took = processorTime(() =>
    assert.throws(
      () => readDeviceTreeDirectory(path),
      (error: unknown) => {
        assert.ok(error instanceof DeviceTreeError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, message);
        return true;
      },
    ),
  );
  assert.ok(took < 1000, `${took} ms`);
}

test("a directory shows the tree that the flattened one holds, in the order of names and unit addresses", () => {
  const flat = readDeviceTree(readFileSync(samplePath("board.dtb")));
  const tree = readDeviceTreeDirectory(unfold(flat.root));
  assert.deepEqual(sorted(tree.root), sorted(flat.root));
  assert.deepEqual(tree.unreadable, []);
  assert.deepEqual(tree.reservations, []);
  assert.deepEqual(
    [...walk(tree.root)].map(({ path }) => path),
    [
      "/",
      "/chosen",
      "/cpus",
      "/cpus/cpu@8",
      "/cpus/cpu@10",
      "/memory@0",
      "/npu@5011000",
      "/npu@5011000/link@0",
      "/npu@5011000/link@1",
      "/power-mgt",
    ],
  );
  const names = [...tree.root.properties.keys()];
  assert.deepEqual(names, [...names].sort());
});

const wsp = machineTreePath("op920.wsp.dtb");
test("a Witherspoon's directory shows its whole tree", { skip: wsp ? false : "its tree is not at hand" }, () => {
  const flat = readDeviceTree(readFileSync(wsp ?? ""));
  assert.deepEqual(sorted(readDeviceTreeDirectory(unfold(flat.root)).root), sorted(flat.root));
});

test("dtc reads the directory as the same tree", { skip: missing("dtc") }, () => {
  const top = unfold(readDeviceTree(readFileSync(samplePath("board.dtb"))).root);
  const source = (...args: string[]) => output("dtc", ["-q", "-s", "-O", "dts", ...args]).toString();
  const flat = join(scratch, "flat.dtb");
  writeFileSync(flat, writeDeviceTree(readDeviceTreeDirectory(top)));
  assert.equal(source("-I", "dtb", flat), source("-I", "fs", top));
});

test("the directory itself may be a link, and no link below it is followed", () => {
  const tree = directoryOf({ model: "x\0" });
  mkdirSync(join(tree, "cpus"));
  symlinkSync("..", join(tree, "cpus", "loop"));
  symlinkSync("/etc/hostname", join(tree, "cpus", "file"));
  const link = join(scratch, "link");
  symlinkSync(tree, link);
  const { root } = readDeviceTreeDirectory(link);
  assert.deepEqual(
    [...walk(root)].map(({ path, node }) => [path, [...node.properties.keys()]]),
    [
      ["/", ["#address-cells", "model"]],
      ["/cpus", []],
    ],
  );
});

test("a FIFO or socket among the properties is left out and not waited for", () => {
  const tree = directoryOf();
  execFileSync("mkfifo", [join(tree, "model"), join(tree, "pipe")]);
  assert.deepEqual([...readDeviceTreeDirectory(tree).root.properties.keys()], ["#address-cells"]);
});

test("a name property that says something else than the node's name is kept", () => {
  const tree = directoryOf({ name: "device-tree\0" });
  assert.equal(readDeviceTreeDirectory(tree).root.properties.has("name"), true);
});

/** Runs as a user who is not root, which may read everything. */
function asOrdinaryUser<T>(work: () => T): T {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  try {
    return work();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

test("what may not be read is named and left out", () => {
  const tree = directoryOf({ "security-password": "secret" });
  mkdirSync(join(tree, "cpus"));
  chmodSync(scratch, 0o755);
  chmodSync(join(tree, "security-password"), 0);
  chmodSync(join(tree, "cpus"), 0);
  const { root, unreadable } = asOrdinaryUser(() => readDeviceTreeDirectory(tree));
  chmodSync(join(tree, "cpus"), 0o700);
  assert.deepEqual([...root.properties.keys()], ["#address-cells"]);
  assert.deepEqual(unreadable, ["/security-password", "/cpus"]);
});

test("a directory that is no device tree is refused at once, whatever is in it", () => {
  refused("/", "EFDT_DIRECTORY", /\/ holds no device tree: none of #address-cells, compatible, model/);
  refused("/proc", "EFDT_DIRECTORY", /holds no device tree/);
  refused(tmpdir(), "EFDT_DIRECTORY", /holds no device tree/);
  const almost = directoryOf({ "#address-cells": "2\n", model: "a car" });
  refused(almost, "EFDT_DIRECTORY", /holds no device tree/);
});

test("what is no directory, or not there, is refused", () => {
  refused(join(scratch, "none"), "EFDT_DIRECTORY", /none: no such file or directory/);
  refused(samplePath("board.dtb"), "EFDT_DIRECTORY", /board\.dtb: not a directory/);
});

test("a huge file is refused before it is read", () => {
  const tree = directoryOf({ rom: "" });
  truncateSync(join(tree, "rom"), 2 ** 30);
  refused(tree, "EFDT_LIMIT", /rom/);
});

test("nodes nested too deep are refused", () => {
  const tree = directoryOf();
  mkdirSync(join(tree, ...new Array<string>(64).fill("x")), { recursive: true });
  refused(tree, "EFDT_DEPTH", /64 levels/);
});

test("a name that no device tree has is refused", () => {
  refused(directoryOf({ "a\x1bb": "" }), "EFDT_NAME", /"a\\u001bb"/);
});

test("two nodes with one phandle are refused", () => {
  const tree = directoryOf({ phandle: u32Bytes(1) });
  mkdirSync(join(tree, "cpus"));
  writeFileSync(join(tree, "cpus", "phandle"), u32Bytes(1));
  refused(tree, "EFDT_DUPLICATE_PHANDLE", /\/cpus/);
});
