import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAssignments } from "../../isolation/assignment.js";
import { builtinMachine } from "../../machine/builtin.js";
import type { Machine } from "../../machine/machine.js";
import { planToServe } from "./servable_plan.js";

function plan(machine: Machine, assign: string[], includeHost = false) {
  return planToServe(machine, parseAssignments(machine, assign), { includeHost });
}

test("every GPU of an assignment is planned with a reset behind its far ends", () => {
  const { steps, isolated } = plan(builtinMachine("sequoia"), ["a=GPU0", "b=GPU1"]);
  const resets = steps.filter(({ action }) => action === "reset-and-cut");
  assert.equal(isolated, true);
  assert.deepEqual(
    resets.map(({ farEndsFirst }) => farEndsFirst.length),
    [4, 4],
  );
});

test("what cannot be kept apart while it is served is refused, and says that nothing was touched", () => {
  const bound = builtinMachine("sequoia");
  for (const fn of bound.functions) if (fn.address === "0004:06:00.0") fn.driver = "nvidia";
  assert.throws(() => plan(bound, ["a=GPU0"]), { code: "EUSAGE", message: /nothing was touched.*GPU2/ });
  assert.equal(plan(bound, ["a=GPU0"], true).isolated, true);
  const strange = builtinMachine("sequoia");
  for (const gpu of strange.gpus) if (gpu.name === "GPU0") gpu.part = "unknown";
  assert.throws(() => plan(strange, ["a=GPU0"]), { code: "EUSAGE", message: /nothing was touched.*GPU0/ });
  assert.throws(() => plan(strange, ["a=GPU1"]), { code: "EUSAGE", message: /nothing was touched.*GPU0/ });
});

test("an assignment without a GPU is refused: nothing of it would be served", () => {
  const machine = builtinMachine("sequoia");
  const assignments = [{ name: "nic", members: ["0004:00:00.0"] }];
  const options = { includeHost: false };
  assert.throws(() => planToServe(machine, assignments, options), { code: "EUSAGE", message: /nic has no GPU/ });
});
