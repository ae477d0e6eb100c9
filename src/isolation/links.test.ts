import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, to, withMask } from "../../test/made_up_machine.js";
import type { Gpu, Link } from "../machine/machine.js";
import { LinkGraph } from "./links.js";

const [A, B] = ["0000:01:00.0", "0000:02:00.0"];

function cuts(a: Gpu, b: Gpu): string {
  const graph = new LinkGraph(machineOf([a, b]));
  return a.links.map((link) => graph.cutAt({ gpu: a, link })).join(" ");
}

function assumed(one: Gpu): Gpu {
  return { ...one, links: one.links.map((link): Link => ({ ...link, assumed: true })) };
}

test("a link is cut when either end has it disabled, and at both when both have", () => {
  const a = gpu(A, "a", [to(B, 0), to(B, 1)]);
  const b = gpu(B, "b", [to(A, 0), to(A, 1)]);
  assert.equal(cuts(a, b), "none none");
  assert.equal(cuts(withMask(a, 0x10000), b), "one none");
  assert.equal(cuts(a, withMask(b, 0x20000)), "none one");
  assert.equal(cuts(withMask(a, 0x30000), withMask(b, 0x10000)), "both one");
});

test("where it is only assumed which links meet, the far end proves nothing until all of its links are cut", () => {
  const a = assumed(gpu(A, "a", [to(B, 0), to(B, 1)]));
  const b = assumed(gpu(B, "b", [to(A, 0), to(A, 1)]));
  assert.equal(cuts(a, withMask(b, 0x10000)), "none none");
  assert.equal(cuts(a, withMask(b, 0x30000)), "one one");
});

test("a far end that lists fewer links than this one does not cut them all", () => {
  const a = gpu(A, "a", [to(B), to(B)]);
  assert.equal(cuts(a, withMask(gpu(B, "b", [to(A)]), 0x10000)), "none none");
});

test("a state without registers, or with registers that cannot be read, cuts nothing", () => {
  const said = gpu(A, "a", [to(B, 0)]);
  const claimed = { ...said, links: said.links.map((link): Link => ({ ...link, state: "cut" })) };
  const b = gpu(B, "b", [to(A, 0)]);
  assert.equal(cuts(claimed, b), "none");
  for (const value of [0xbadf1234, 0xbad00100, 0xffffffff]) assert.equal(cuts(withMask(said, value), b), "none");
});

test("a part without a fence strategy proves nothing, whatever its registers read", () => {
  assert.equal(cuts(withMask(gpu(A, "a", [to(B, 0)], "unknown"), 0x3f0000), gpu(B, "b", [to(A, 0)])), "none");
});

test("a link to a GPU that is not there, or to itself, counts as unknown", () => {
  const graph = new LinkGraph(machineOf([gpu(A, "a", [to("0009:00:00.0", 0), to(A, 1)])]));
  assert.equal(graph.toUnknown.length, 2);
  assert.equal(graph.pairs.length, 0);
});
