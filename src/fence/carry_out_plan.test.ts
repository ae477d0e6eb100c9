import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { runs } from "../../test/runs.js";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan, type Plan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import type { Machine } from "../machine/machine.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE } from "../machine/part.js";
import { pause } from "../vfio/steps.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import { carryOutPlan } from "./carry_out_plan.js";
import type { GpuPort } from "./gpu_port.js";
import type { FenceEvent } from "./progress.js";
import { withEvidence } from "./with_evidence.js";

const GPU0 = "0004:04:00.0";
const GPU1 = "0004:05:00.0";
const GPU2 = "0004:06:00.0";

function planFor(machine: Machine, assign: string[]): Plan {
  return makePlan(machine, parseAssignments(machine, assign));
}

/** Carries the plan out on a virtual machine; returns both, and what a person would have watched. */
async function fence(machine: Machine, assign: string[], prepare: (vm: VirtualMachine) => void = () => {}) {
  const vm = new VirtualMachine(machine);
  prepare(vm);
  const events: FenceEvent[] = [];
  const plan = planFor(machine, assign);
  const result = await carryOutPlan(plan, (at) => vm.port(at), { onProgress: (event) => events.push(event) });
  const stepsOf = (gpu: string) => events.filter((event) => event.gpu === gpu).map((event) => event.step);
  return { vm, plan, result, stepsOf };
}

/** A Sequoia whose three first GPUs were each fenced alone. */
async function fencedApart(): Promise<Machine> {
  const machine = builtinMachine("sequoia");
  const { result } = await fence(machine, ["a=GPU0", "b=GPU1", "c=GPU2"]);
  return withEvidence(machine, result.gpus);
}

test("a Sequoia with two GPUs for one tenant and one for another is cut as planned, with no reset", async () => {
  const { vm, result, stepsOf } = await fence(builtinMachine("sequoia"), ["a=GPU0,GPU1", "b=GPU2"]);
  assert.equal(result.verified, true);
  assert.equal(result.virtual, true);
  const masks = result.gpus.map((gpu) => gpu.after.disableMask);
  assert.deepEqual(masks, [0x000c0000, 0x000c0000, 0x00170000, 0, 0, 0]);
  assert.deepEqual(result.gpus[0]?.before, { disableMask: 0, cut: [], linksUp: [0, 1, 2, 3, 4, 5] });
  assert.deepEqual(result.gpus[0]?.after, { disableMask: 0xc0000, cut: [2, 3], linksUp: [0, 1, 4, 5] });
  assert.deepEqual(vm.linksUp(GPU2), [3, 5]);
  assert.ok(result.gpus.every((gpu) => gpu.touched && !gpu.reset && gpu.reason === undefined));
  assert.deepEqual(stepsOf("GPU0"), ["read", "sequence", "read back", "done"]);
});

for (const [name, assign] of [
  ["redbud", ["a=GPU0", "b=GPU1"]],
  ["minsky", ["a=GPU1", "b=GPU2", "c=GPU3", "d=GPU4"]],
  ["c4140", ["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3"]],
  ["dgx1v", ["a=GPU0,GPU4", "b=GPU1,GPU5", "c=GPU7"]],
  ["hgx-a100-4", ["a=GPU0,GPU1", "b=GPU2"]],
] as const) {
  test(`${name}: every link between two owners is down at both ends, every other one is up`, async () => {
    const { vm, plan, result } = await fence(builtinMachine(name), [...assign]);
    assert.equal(result.verified, true);
    const planOf = new Map(plan.gpus.map((gpu) => [gpu.address, gpu]));
    for (const gpu of vm.machine.gpus) {
      for (const link of gpu.links) {
        const far = link.far.kind === "gpu" ? planOf.get(link.far.gpu) : undefined;
        const apart = far !== undefined && far.assignment !== planOf.get(gpu.address)?.assignment;
        assert.equal(vm.linkUp(gpu.address, link.number), !apart, `${gpu.name} link ${link.number}`);
      }
    }
  });
}

test("taking a fence down resets each GPU, NPU links first, and all its links come up again", async () => {
  const apart = await fencedApart();
  const { vm, result, stepsOf } = await fence(apart, ["all=GPU0,GPU1,GPU2"]);
  assert.equal(result.verified, true);
  assert.deepEqual(
    result.gpus.slice(0, 3).map((gpu) => [gpu.before.disableMask, gpu.after.disableMask, gpu.reset]),
    [
      [0x1d0000, 0, true],
      [0x1d0000, 0, true],
      [0x170000, 0, true],
    ],
  );
  assert.equal(vm.hmis, 0);
  assert.deepEqual(vm.linksUp(GPU0), [0, 1, 2, 3, 4, 5]);
  const reset = ["far ends", "npu reset", "sbr", "restore", "sequence"];
  assert.deepEqual(stepsOf("GPU0"), ["read", "sequence", ...reset, "read back", "done"]);
});

test("regrouping resets a GPU only behind far ends that are cut, so no link between owners is up at any moment", async () => {
  const machine = await fencedApart();
  const vm = new VirtualMachine(machine);
  const plan = planFor(machine, ["a=GPU0,GPU1", "b=GPU2"]);
  const crossing = plan.crossLinks.map(({ gpu, link }) => [gpu, link] as const);
  assert.ok(crossing.length >= 4);
  const watched = (at: string): GpuPort => {
    const port = vm.port(at);
    const check = () => {
      for (const [gpu, link] of crossing) assert.equal(vm.linkUp(gpu, link), false);
    };
    return {
      ...port,
      writeBar0: (offset, value) => {
        port.writeBar0(offset, value);
        check();
      },
      *secondaryBusReset() {
        yield* port.secondaryBusReset();
        check();
      },
    };
  };
  const result = await carryOutPlan(plan, watched);
  assert.equal(result.verified, true);
  assert.deepEqual(vm.linksUp(GPU0), [0, 1, 4, 5]);
});

test("without the NPU's links held the same reset freezes bridges: the fence is what prevents it", async () => {
  const machine = await fencedApart();
  const vm = new VirtualMachine(machine);
  const bare = (at: string): GpuPort => {
    const { holdNpuLinks: _, releaseNpuLinks: __, ...port } = vm.port(at);
    return port;
  };
  await carryOutPlan(planFor(machine, ["a=GPU0,GPU1", "b=GPU2"]), bare);
  assert.equal(vm.hmis, 4, "two links each of GPU0 and GPU1");
  assert.deepEqual(vm.linksUp(GPU0), [0, 4], "the links to the CPU are gone");
});

for (const [what, register] of [
  ["the disable register", LINK_DISABLE],
  ["NV_PMC_ENABLE", NV_PMC_ENABLE],
  ["NV_PMC_BOOT_0", NV_PMC_BOOT_0],
] as const) {
  test(`a GPU whose ${what} answers 0xBADFxxxx or all ones is never verified, the others are`, async () => {
    for (const value of [0xbadf1234, 0xbad00200, 0xffffffff]) {
      const { result } = await fence(builtinMachine("sequoia"), ["a=GPU0", "b=GPU1", "c=GPU2"], (vm) =>
        vm.gpu(GPU1).faults.stuckReads.set(register, value),
      );
      assert.equal(result.verified, false);
      assert.deepEqual(
        result.gpus.map((gpu) => gpu.verified),
        [true, false, true, true, true, true],
      );
      assert.match(result.gpus[1]?.reason ?? "", /unreadable/);
      assert.deepEqual(result.gpus[1]?.after, { disableMask: null, cut: null, linksUp: null });
    }
  });
}

test("a register that a capture recorded as unreadable keeps its GPU unverified", async () => {
  const machine = structuredClone(builtinMachine("c4140"));
  const link = machine.gpus[0]?.links[0];
  assert.ok(link);
  link.evidence = { registers: [{ offset: LINK_DISABLE, value: 0xbadf5040 }] };
  const { result } = await fence(machine, ["a=GPU0", "b=GPU1"]);
  assert.deepEqual([result.verified, result.gpus[0]?.verified, result.gpus[1]?.verified], [false, false, true]);
});

test("a GA100 whose lock does not answer 1 is not verified", async () => {
  const machine = builtinMachine("hgx-a100-4");
  const address = machine.gpus[0]?.address ?? "";
  const { result } = await fence(machine, ["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3"], (vm) =>
    vm.gpu(address).faults.droppedWrites.add(ga100LinkRegisters(7).lock),
  );
  assert.equal(result.gpus[0]?.verified, false);
  assert.match(result.gpus[0]?.reason ?? "", /link 7 is not blocked/);
  assert.deepEqual(
    result.gpus[0]?.after.cut,
    [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11],
    "the other links are cut all the same",
  );
});

test("a GPU is not reset while a far end in another assignment is not proven cut", async () => {
  const machine = await fencedApart();
  const { vm, result, stepsOf } = await fence(machine, ["a=GPU0,GPU1", "b=GPU2"], (each) => {
    each.gpu(GPU2).secondaryBusReset();
  });
  assert.ok(!stepsOf("GPU0").includes("sbr"));
  const [first, , third] = result.gpus;
  assert.deepEqual([first?.verified, first?.reset, third?.verified], [false, false, false]);
  assert.match(first?.reason ?? "", /not reset: the far end, link .* of GPU2, is not proven cut/);
  assert.equal(vm.gpu(GPU0).readBar0(LINK_DISABLE), 0x001d0000, "it stays as cut as it was");
});

test("a GPU that says it is another chip is neither written to nor reset", async () => {
  const { vm, result, stepsOf } = await fence(await fencedApart(), ["a=GPU0,GPU1", "b=GPU2"], (each) => {
    each.gpu(GPU0).faults.stuckReads.set(NV_PMC_BOOT_0, 0x150000a1);
  });
  assert.ok(!stepsOf("GPU0").includes("sbr") && !stepsOf("GPU0").includes("npu reset"));
  assert.match(result.gpus[0]?.reason ?? "", /reads 0x150000a1, a GV100 reads 0x140000a1/);
  assert.equal(vm.gpu(GPU0).readBar0(LINK_DISABLE), 0x001d0000);
});

test("a GPU whose first cut failed is verified when its reset healed it", async () => {
  const machine = await fencedApart();
  const vm = new VirtualMachine(machine);
  vm.gpu(GPU0).faults.stuckReads.set(LINK_DISABLE, 0xbadf1100);
  const healing = (at: string): GpuPort => {
    const port = vm.port(at);
    return {
      ...port,
      *secondaryBusReset() {
        yield* port.secondaryBusReset();
        vm.gpu(at).faults.stuckReads.clear();
      },
    };
  };
  const plan = planFor(machine, ["all=GPU0,GPU1,GPU2"]);
  const steps = plan.steps.map((step) => ({ ...step, farEndsFirst: [] }));
  const result = await carryOutPlan({ ...plan, steps }, healing);
  assert.deepEqual([result.gpus[0]?.verified, result.gpus[0]?.before.cut], [true, null]);
});

test("a link that a reset did not open again is said to be missing", async () => {
  const machine = await fencedApart();
  const vm = new VirtualMachine(machine);
  const noReset = (at: string): GpuPort => ({ ...vm.port(at), secondaryBusReset: () => pause(0) });
  const result = await carryOutPlan(planFor(machine, ["a=GPU0,GPU1", "b=GPU2"]), noReset);
  assert.equal(result.gpus[0]?.verified, false);
  assert.match(result.gpus[0]?.reason ?? "", /link 0, 4 is cut although it is to stay up/);
});

test("a reset that fails is followed by restore and cut all the same, and is not verified", async () => {
  const machine = await fencedApart();
  const vm = new VirtualMachine(machine);
  const failing = (at: string): GpuPort => {
    const port = vm.port(at);
    if (at !== GPU0) return port;
    return {
      ...port,
      *secondaryBusReset() {
        yield* port.secondaryBusReset();
        throw new Error("the port did not come back in time");
      },
    };
  };
  const result = await carryOutPlan(planFor(machine, ["a=GPU0,GPU1", "b=GPU2"]), failing);
  assert.equal(vm.gpu(GPU0).readBar0(LINK_DISABLE), 0x000c0000);
  assert.deepEqual([result.gpus[0]?.verified, result.gpus[0]?.reset], [false, true]);
  assert.match(result.gpus[0]?.reason ?? "", /did not come back/);
  assert.equal(vm.bridge(machine.gpus[0]?.bridges[0] ?? "").inReset, true, "its NPU links stay in reset");
  assert.equal(result.gpus[1]?.verified, true);
});

test("a reset that takes another GPU's fence with it is found by the last read-back", async () => {
  const machine = await fencedApart();
  const vm = new VirtualMachine(machine);
  const neighbours = (at: string): GpuPort => {
    const port = vm.port(at);
    return {
      ...port,
      *secondaryBusReset() {
        yield* port.secondaryBusReset();
        if (at === GPU1) vm.gpu(GPU2).secondaryBusReset();
      },
    };
  };
  const result = await carryOutPlan(planFor(machine, ["a=GPU0,GPU1", "b=GPU2"]), neighbours);
  assert.equal(result.verified, false);
  assert.equal(result.gpus[2]?.verified, false);
});

test("a device that throws is a GPU that is not verified, and a watcher that throws changes nothing", async () => {
  const machine = builtinMachine("c4140");
  const vm = new VirtualMachine(machine);
  const [first] = machine.gpus;
  const ports = (at: string) => {
    if (at === first?.address) throw new Error("no such device");
    return vm.port(at);
  };
  const result = await carryOutPlan(planFor(machine, ["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3"]), ports, {
    onProgress: () => {
      throw new Error("the pipe is closed");
    },
  });
  assert.deepEqual(
    result.gpus.map((gpu) => gpu.verified),
    [false, true, true, true],
  );
  assert.equal(result.gpus[0]?.reason, "no such device");
});

test("a plan that does not isolate, and a step for a part without a strategy, are refused with nothing touched", async () => {
  const machine = builtinMachine("c4140");
  const plan = planFor(machine, ["a=GPU0", "b=GPU1"]);
  const untouchable = () => assert.fail("a GPU was opened");
  await assert.rejects(carryOutPlan({ ...plan, isolated: false }, untouchable), {
    code: "EFENCE_PLAN",
    errno: "EINVAL",
  });
  const unknown = plan.gpus.map((gpu) => ({ ...gpu, part: "unknown" as const }));
  await assert.rejects(carryOutPlan({ ...plan, gpus: unknown }, untouchable), { code: "EFENCE_PART", errno: "ENODEV" });
  const stray = [...plan.steps, { action: "cut" as const, gpu: "ffff:00:00.0", farEndsFirst: [] }];
  await assert.rejects(carryOutPlan({ ...plan, steps: stray }, untouchable), { code: "EFENCE_PLAN" });
});

test("a GPU that is not to be touched is not opened, and is judged by the other ends of its links", async () => {
  const machine = withDriver(builtinMachine("c4140"), 3);
  const plan = planFor(machine, ["a=GPU0", "b=GPU1", "c=GPU2"]);
  const host = plan.gpus[3];
  assert.ok(host?.untouched);
  for (const broken of [false, true]) {
    const vm = new VirtualMachine(machine);
    if (broken) vm.gpu(plan.gpus[0]?.address ?? "").faults.droppedWrites.add(LINK_DISABLE);
    const ports = (at: string) => (at === host.address ? assert.fail("the host's GPU was opened") : vm.port(at));
    const result = await carryOutPlan(plan, ports);
    assert.equal(result.gpus[3]?.verified, !broken);
    assert.equal(result.gpus[3]?.touched, false);
    assert.match(result.gpus[3]?.reason ?? "", broken ? /not proven cut at the other end/ : /cut at the other end/);
  }
});

test("whatever breaks, what is called verified is proven by registers, and no link of it reaches another owner", async () => {
  const machines = await Promise.all([fencedApart(), builtinMachine("sequoia"), builtinMachine("c4140")]);
  const groupings = [
    ["a=GPU0,GPU1", "b=GPU2"],
    ["a=GPU0", "b=GPU1", "c=GPU2"],
    ["a=GPU1,GPU2", "b=GPU0"],
    ["a=GPU0,GPU1,GPU2"],
  ];
  const registers = fc.constantFrom(NV_PMC_BOOT_0, NV_PMC_ENABLE, LINK_DISABLE, 0x12004c, 0x122204);
  const fault = fc.record({
    gpu: fc.nat(3),
    register: registers,
    kind: fc.constantFrom(
      "stuck" as const,
      "dropped" as const,
      "config" as const,
      "reset" as const,
      "no reset" as const,
    ),
    value: fc.constantFrom(0, 0xbadf1234, 0xffffffff, 0x003f0000, 0x02000000),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...machines),
      fc.constantFrom(...groupings),
      fc.array(fault, { maxLength: 3 }),
      async (machine, assign, faults) => {
        const vm = new VirtualMachine(machine);
        const dead = new Set<string>();
        for (const each of faults) {
          const address = machine.gpus[each.gpu]?.address ?? "";
          const gpu = vm.gpu(address);
          if (each.kind === "stuck") gpu.faults.stuckReads.set(each.register, each.value);
          if (each.kind === "dropped") gpu.faults.droppedWrites.add(each.register);
          if (each.kind === "config") gpu.faults.configUnreadable = true;
          if (each.kind === "reset") gpu.secondaryBusReset();
          if (each.kind === "no reset") dead.add(address);
        }
        const plan = planFor(machine, assign);
        const result = await carryOutPlan(plan, (at) => {
          const port = vm.port(at);
          return dead.has(at) ? { ...port, secondaryBusReset: noReset } : port;
        });
        for (const [i, gpu] of result.gpus.entries()) {
          if (!gpu.verified) {
            assert.ok(gpu.reason);
            continue;
          }
          assert.deepEqual(gpu.after.cut, plan.gpus[i]?.cutLinks);
          // A register stuck at a value that looks cut is the one lie that reading alone cannot find; the link state does.
          for (const link of plan.gpus[i]?.cutLinks ?? []) assert.equal(vm.linkUp(gpu.address, link), false);
        }
      },
    ),
    { numRuns: runs(50) },
  );
});

function noReset(): never {
  throw new Error("no reset");
}

function withDriver(machine: Machine, index: number): Machine {
  const address = machine.gpus[index]?.address;
  const functions = machine.functions.map((fn) => (fn.address === address ? { ...fn, driver: "nvidia" } : fn));
  return { ...machine, functions };
}
