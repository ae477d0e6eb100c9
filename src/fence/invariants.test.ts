import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { brokenInvariants, type GpuMoment, invariant, openedByReset } from "./invariants.js";

const GPU0 = "0004:04:00.0";
const GPU2 = "0004:06:00.0";
const machine = builtinMachine("sequoia");
const plan = makePlan(machine, parseAssignments(machine, ["a=GPU0,GPU1", "b=GPU2"]), { resetAll: true });

/** Every GPU with a client and as planned, but for the changes. */
function broken(changes: Record<string, Partial<GpuMoment>>): string {
  const planned = new Map(plan.gpus.map((gpu) => [gpu.address, new Set(gpu.cutLinks)]));
  return brokenInvariants(plan, (address) => ({
    state: "in force",
    attached: true,
    cut: planned.get(address) ?? new Set(),
    ...changes[address],
  })).join("\n");
}

test("all rules hold for GPUs that are as planned, and while one of them is being renewed", () => {
  assert.equal(broken({}), "");
  assert.equal(broken({ [GPU0]: { state: "renewing", cut: new Set() } }), "");
});

test("each rule that is broken is named with its link", () => {
  assert.match(broken({ [GPU2]: { cut: new Set([0]) } }), /the fence of GPU2 is in force, but link 1, 2, 4 is not cut/);
  const open = { state: "renewing", cut: new Set<number>() } as const;
  const both = broken({ [GPU0]: open, [GPU2]: open });
  assert.match(both, /a client may be there, but link 2 of 0004:04:00.0 to 0004:06:00.0 is not cut/);
  assert.match(both, /both ends of link 2 .* are being renewed/);
  const nobody = { ...open, attached: false };
  assert.doesNotMatch(broken({ [GPU0]: nobody, [GPU2]: nobody }), /of 0004:04:00.0/);
});

test("a reset opens no link whose far end is cut, and every other one it does", () => {
  const planned = new Map(plan.gpus.map((gpu) => [gpu.address, new Set(gpu.cutLinks)]));
  assert.deepEqual(
    openedByReset(plan, GPU0, (at) => planned.get(at)),
    [],
  );
  const opened = openedByReset(plan, GPU0, (at) => (at === GPU2 ? new Set([1]) : planned.get(at)));
  assert.deepEqual(opened, [`a reset of ${GPU0} would open link 3 of ${GPU0} to ${GPU2}`]);
  assert.deepEqual(
    openedByReset(plan, GPU0, () => undefined),
    [],
    "nobody can reach what is not asked for",
  );
});

test("of a link whose number at the far end nobody knows, every end there has to be cut", () => {
  const unknown = { ...plan, crossLinks: plan.crossLinks.map((link) => ({ ...link, farLink: null })) };
  const cuts = plan.gpus.find(({ address }) => address === GPU2)?.cutLinks ?? [];
  const opened = (cut: number[]) => openedByReset(unknown, GPU0, (at) => (at === GPU2 ? new Set(cut) : undefined));
  assert.deepEqual(opened(cuts), []);
  assert.notDeepEqual(opened(cuts.slice(1)), []);
});

test("a rule that does not hold stops what relies on it", () => {
  invariant(true, "");
  assert.throws(() => invariant(false, "water flows down"), { code: "EFENCE_INVARIANT", message: /water flows down/ });
});
