import assert from "node:assert/strict";
import { test } from "node:test";
import { node, sample } from "../../test/device_tree_sample.js";
import { compatible, findNode, walk } from "./path.js";
import { readDeviceTree } from "./read.js";

const { root } = readDeviceTree(sample("board.dtb"));

test("every node is found under the path it is walked at, with its parent", () => {
  let count = 0;
  for (const { node, path, parent } of walk(root)) {
    count++;
    assert.equal(findNode(root, path), node);
    if (parent === undefined) assert.equal(path, "/");
    else assert.ok(parent.children.includes(node));
  }
  assert.equal(count, 10);
});

test("a unit address may be left out where only one node is meant", () => {
  assert.equal(findNode(root, "/npu")?.name, "npu@5011000");
  assert.equal(findNode(root, "/npu/link@1")?.name, "link@1");
  assert.equal(findNode(root, "/npu/link"), undefined);
  assert.equal(findNode(node("", {}, [node("a@1"), node("a")]), "/a")?.name, "a");
});

test("a path that leads nowhere finds nothing", () => {
  for (const path of ["", "cpus", "/cpu", "/cpus/cpu@9", "/npu@", "/npu@5011000/link@0/x"]) {
    assert.equal(findNode(root, path), undefined, path);
  }
});

test("a node is compatible with each text of its list and with no part of one", () => {
  assert.equal(compatible(root, "linkfence,board"), true);
  assert.equal(compatible(root, "linkfence,any"), true);
  assert.equal(compatible(root, "linkfence"), false);
  assert.equal(compatible(node("x"), "linkfence"), false);
});

test("walking a chain of 100,000 nodes does not exhaust the stack", () => {
  let chain = node("x");
  for (let count = 1; count < 100_000; count++) chain = node("", {}, [chain]);
  let last = "";
  // Paths of unnamed nodes stay short, so that the test measures the walk alone.
  for (const { node } of walk(chain)) last = node.name;
  assert.equal(last, "x");
});
