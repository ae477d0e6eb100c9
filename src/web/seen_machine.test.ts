import assert from "node:assert/strict";
import { test } from "node:test";
import { HOST } from "../isolation/assignment.js";
import { makePlan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { seenMachine } from "./seen_machine.js";

test("a GPU that the host's driver had, and the server has now, is planned for as one that may be touched", () => {
  const machine = builtinMachine("c4140");
  const addresses = new Set<string>(machine.gpus.map(({ address }) => address));
  const functions = machine.functions.map((fn) => (addresses.has(fn.address) ? { ...fn, driver: "nvidia" } : fn));
  const described = { ...machine, functions };
  const [gpu0, , , gpu3] = machine.gpus;
  assert.ok(gpu0 !== undefined && gpu3 !== undefined);
  const drivers = { [gpu3.address]: "nvidia" };
  const plan = makePlan(seenMachine(described, { gpus: machine.gpus, drivers }), []);
  const untouched = plan.gpus.filter((gpu) => gpu.untouched).map(({ address }) => address);
  assert.deepEqual(untouched, [gpu3.address]);
  assert.ok(plan.gpus.every(({ assignment }) => assignment === HOST));
  assert.equal(seenMachine(described, { gpus: machine.gpus, drivers }).functions.length, machine.functions.length);
});
