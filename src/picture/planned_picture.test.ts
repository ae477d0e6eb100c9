import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, to, withMask } from "../../test/made_up_machine.js";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import type { Machine } from "../machine/machine.js";
import { layOut } from "./layout.js";
import { pictureOf } from "./picture.js";
import { plannedPicture } from "./planned_picture.js";
import { toSvg } from "./svg.js";

function planned(machine: Machine, ...assign: string[]) {
  const assignments = parseAssignments(machine, assign);
  return plannedPicture(machine, assignments, makePlan(machine, assignments));
}

const [A, B] = ["0000:41:00.0", "0000:42:00.0"];

test("links that a plan cuts are drawn cut, and the registers stay what they are", () => {
  const machine = builtinMachine("sequoia");
  const before = structuredClone(machine);
  const picture = planned(machine, "vm1=GPU0,GPU1", "vm2=GPU2");
  const states = picture.wires.filter(({ to: end }) => end === undefined).map(({ state }) => state);
  assert.deepEqual([states.filter((state) => state === "cut-both").length, states.length], [4, 12]);
  assert.ok(picture.wires.every(({ findings }) => findings.length === 0));
  assert.deepEqual(machine, before);
  assert.ok(pictureOf(machine).wires.every(({ state }) => state === "up"));
});

test("links that are cut and not in the plan come up in it", () => {
  const cut = machineOf([withMask(gpu(A, "GPU0", [to(B, 0)]), 0x10000), withMask(gpu(B, "GPU1", [to(A, 0)]), 0x10000)]);
  assert.equal(pictureOf(cut).wires[0]?.state, "cut-both");
  const [wire] = planned(cut, "vm1=GPU0,GPU1").wires;
  assert.equal(wire?.state, "up");
  assert.deepEqual(
    wire?.ends.map((end) => end.cut),
    [false, false],
  );
});

test("a GPU that is not touched is cut as it is now, and a link that nobody cuts has its problem", () => {
  const bound = machineOf([gpu(A, "GPU0", [to(B, 0)]), gpu(B, "GPU1", [to(A, 0)])]);
  const functions = bound.functions.map((fn) => (fn.address === B ? { ...fn, driver: "nvidia" } : fn));
  assert.equal(planned({ ...bound, functions }, "vm1=GPU0").wires[0]?.state, "cut-one");
  const strange = machineOf([gpu(A, "GPU0", [to(B, 0)], "unknown"), gpu(B, "GPU1", [to(A, 0)], "unknown")]);
  const picture = planned(strange, "vm1=GPU0");
  const [wire] = picture.wires;
  assert.equal(wire?.state, "up");
  const [about] = wire?.findings ?? [];
  assert.equal(picture.findings.find(({ number }) => number === about)?.kind, "link-cannot-be-cut");
});

test("a picture of a plan says so, and shares no id with one of the machine", () => {
  const machine = builtinMachine("sequoia");
  const text = toSvg(layOut(planned(machine, "vm1=GPU0,GPU1", "vm2=GPU2")), { ids: "plan-" });
  assert.match(text, /<title id="plan-lf-title">Planned NVLink topology of sequoia \(virtual\)<\/title>/);
  assert.match(text, />planned: cut at both ends</);
  assert.match(text, /<title>link 2 of GPU0 to link \d of GPU2: planned: cut at both ends; far end assumed<\/title>/);
  for (const [, id] of text.matchAll(/ id="([^"]*)"/g)) assert.match(id ?? "", /^plan-/);
  for (const [, id] of text.matchAll(/url\(#([^)]*)\)/g)) assert.ok(text.includes(`id="${id}"`), id);
  assert.doesNotMatch(toSvg(layOut(pictureOf(machine))), /planned|plan-/);
});
