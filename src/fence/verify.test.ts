import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan, type Plan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { readCapture, writeCapture } from "../machine/capture.js";
import { isCutHere } from "../machine/link_state.js";
import type { Machine } from "../machine/machine.js";
import { LINK_DISABLE, NV_PMC_ENABLE } from "../machine/part.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import { carryOutPlan } from "./carry_out_plan.js";
import { readBack, recordedState } from "./verify.js";
import { withEvidence } from "./with_evidence.js";

const APART = ["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3"];

function planFor(machine: Machine, assign: string[]): Plan {
  return makePlan(machine, parseAssignments(machine, assign));
}

async function fenced(name: string, assign: string[]): Promise<{ vm: VirtualMachine; plan: Plan; after: Machine }> {
  const machine = builtinMachine(name);
  const vm = new VirtualMachine(machine);
  const plan = planFor(machine, assign);
  const { gpus } = await carryOutPlan(plan, (at) => vm.port(at));
  return { vm, plan, after: withEvidence(machine, gpus) };
}

test("before the fence every GPU with a link to cut is open and readable, after it none is", async () => {
  const untouched = new VirtualMachine(builtinMachine("c4140"));
  const before = readBack(planFor(untouched.machine, APART), (at) => untouched.port(at));
  assert.ok(before.every((gpu) => gpu.open && gpu.readable && /not proven cut/.test(gpu.reason ?? "")));
  const { vm, plan } = await fenced("c4140", APART);
  const after = readBack(plan, (at) => vm.port(at));
  for (const gpu of after) {
    assert.deepEqual([gpu.open, gpu.readable, gpu.reason], [false, true, undefined]);
    assert.deepEqual(gpu.expected, { disableMask: 0x003f0000, cut: [0, 1, 2, 3, 4, 5] });
    assert.equal(gpu.actual.disableMask, 0x003f0000);
  }
});

test("a reset by somebody else opens the fence, and reading back says so", async () => {
  const { vm, plan } = await fenced("c4140", APART);
  const gpu = vm.machine.gpus[1]?.address ?? "";
  vm.secondaryBusReset(gpu, "port");
  const verdicts = readBack(plan, (at) => vm.port(at));
  assert.deepEqual(
    verdicts.map((each) => each.open),
    [false, true, false, false],
  );
  assert.equal(verdicts[1]?.readable, false);
});

test("a link that is up although its register says cut is open", async () => {
  const { vm, plan } = await fenced("c4140", APART);
  const [first] = readBack(plan, (at) => ({ ...vm.port(at), linksUp: () => [3] }));
  assert.equal(first?.open, true);
  assert.match(first?.reason ?? "", /link 3 is up although cut/);
});

test("a fence survives the way into a capture and back, for each kind of part", async () => {
  for (const name of ["sequoia", "c4140", "hgx-a100-4"]) {
    const { after, plan } = await fenced(name, APART);
    const read = readCapture(writeCapture(after, "2024-01-01T00:00:00Z"));
    assert.ok(recordedState(plan, read).every((gpu) => !gpu.open && gpu.readable));
    const replayed = new VirtualMachine(read);
    assert.ok(readBack(plan, (at) => replayed.port(at)).every((gpu) => !gpu.open));
    for (const gpu of read.gpus) {
      const cut = gpu.links.filter((link) => isCutHere(gpu.part, link)).map((link) => link.number);
      const planned = plan.gpus.find((each) => each.address === gpu.address)?.cutLinks;
      assert.deepEqual(
        cut,
        planned?.filter((number) => gpu.links.some((link) => link.number === number)),
      );
      for (const link of gpu.links) assert.equal(link.state, cut.includes(link.number) ? "cut" : "up");
    }
  }
});

test("each link carries exactly the registers that prove it", async () => {
  const { after } = await fenced("hgx-a100-4", APART);
  const link = after.gpus[0]?.links[5];
  assert.deepEqual(link?.evidence?.registers, [
    { offset: 0, value: 0x170000a1 },
    { offset: 0xa5f64c, value: 1 },
    { offset: 0xa5f650, value: 1 },
  ]);
});

test("a capture proves nothing by its state words, by half of the registers, or by registers that contradict", async () => {
  const { after, plan } = await fenced("c4140", APART);
  const changed = (change: (registers: { offset: number; value: number }[]) => { offset: number; value: number }[]) => {
    const gpus = after.gpus.map((gpu) => ({
      ...gpu,
      links: gpu.links.map((link, i) => ({
        ...link,
        state: "cut" as const,
        evidence: { registers: i === 0 ? change(link.evidence?.registers ?? []) : (link.evidence?.registers ?? []) },
      })),
    }));
    return recordedState(plan, { ...after, gpus }).every((gpu) => gpu.open);
  };
  const bare = after.gpus.map((gpu) => ({ ...gpu, links: gpu.links.map(({ evidence: _, ...link }) => link) }));
  assert.ok(recordedState(plan, { ...after, gpus: bare }).every((gpu) => gpu.open && !gpu.readable));
  assert.ok(
    changed((all) => all.map((each) => (each.offset === LINK_DISABLE ? { ...each, value: 0xbadf3f00 } : each))),
  );
  assert.ok(changed((all) => all.map((each) => (each.offset === NV_PMC_ENABLE ? { ...each, value: 0x20 } : each))));
  assert.ok(changed((all) => [...all, { offset: LINK_DISABLE, value: 0 }]));
  assert.ok(!changed((all) => all), "and unchanged they do prove it");
});

test("a GPU that cannot be read any more loses its old evidence", async () => {
  const { after } = await fenced("c4140", APART);
  const vm = new VirtualMachine(after);
  const [first] = after.gpus;
  assert.ok(first);
  vm.gpu(first.address).faults.configUnreadable = true;
  const result = await carryOutPlan(planFor(after, APART), (at) => vm.port(at));
  const [lost, kept] = withEvidence(after, result.gpus).gpus;
  assert.ok(lost?.links.every((link) => link.evidence === undefined && link.state !== "cut" && link.state !== "up"));
  assert.ok(kept?.links.every((link) => link.state === "cut"));
});

test("a link that is cut at its far end only is down, not up", async () => {
  const description = builtinMachine("c4140");
  const host = description.gpus[3];
  const functions = description.functions.map((fn) =>
    fn.address === host?.address ? { ...fn, driver: "nvidia" } : fn,
  );
  const machine = { ...description, functions };
  const vm = new VirtualMachine(machine);
  const { gpus } = await carryOutPlan(planFor(machine, ["a=GPU0", "b=GPU1", "c=GPU2"]), (at) => vm.port(at));
  const after = withEvidence(machine, gpus);
  assert.ok(after.gpus[3]?.links.every((link) => link.state === "down" && link.evidence === undefined));
});
