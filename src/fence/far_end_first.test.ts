import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { machineOf } from "../../test/made_up_machine.js";
import { runs } from "../../test/runs.js";
import { makePlan, type Plan } from "../isolation/plan.js";
import { BUILTIN_MACHINES, builtinMachine } from "../machine/builtin.js";
import type { Assignment, Gpu, Machine } from "../machine/machine.js";
import { ga100LinkRegisters, LINK_DISABLE } from "../machine/part.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import { carryOutPlan, type FenceResult } from "./carry_out_plan.js";
import type { GpuPort } from "./gpu_port.js";
import { withEvidence } from "./with_evidence.js";

/** Eight A100s, each with two links into each of six NVSwitches, four GPUs to a set of switches. */
function switched(): Machine {
  const gpus = Array.from({ length: 8 }, (_, i): Gpu => {
    const links = Array.from({ length: 12 }, (_, number): Gpu["links"][number] => {
      const far = { kind: "switch", switch: `s${Math.floor(i / 4)}.${number % 6}` } as const;
      return { number, far, state: "up", origin: "nvidia-smi" };
    });
    const address = `0000:${(0x10 + i).toString(16)}:00.0`;
    return { address, name: `GPU${i}`, part: "GA100", nvlink: "present", links, bridges: [], origin: "nvidia-smi" };
  });
  return machineOf(gpus);
}

const MACHINES = [
  ...BUILTIN_MACHINES.map(
    ({ name }) =>
      () =>
        builtinMachine(name),
  ),
  switched,
];

/** GPU i belongs to owner `owners[i]`, 0 being the host. */
function assigned(machine: Machine, owners: readonly number[]): Assignment[] {
  return [1, 2, 3].flatMap((owner) => {
    const members = machine.gpus.filter((_, i) => owners[i] === owner).map((gpu) => gpu.address);
    return members.length > 0 ? [{ name: `o${owner}`, members }] : [];
  });
}

/** Everything that joins two owners at this moment, as `GPU/link` or `switch`. */
function crossings(vm: VirtualMachine, ownerOf: ReadonlyMap<string, string>): Set<string> {
  const found = new Set<string>();
  const users = new Map<string, Set<string>>();
  for (const gpu of vm.machine.gpus) {
    const owner = ownerOf.get(gpu.address) ?? "";
    for (const { number, far } of gpu.links) {
      if (!vm.linkUp(gpu.address, number)) continue;
      if (far.kind === "gpu" && ownerOf.get(far.gpu) !== owner) found.add(`${gpu.address}/${number}`);
      if (far.kind === "switch") users.set(far.switch, (users.get(far.switch) ?? new Set()).add(owner));
    }
  }
  for (const [name, owners] of users) if (owners.size > 1) found.add(name);
  return found;
}

/** Carries the plan out and looks at every link after every access and reset: what is apart once stays apart. */
async function watched(vm: VirtualMachine, plan: Plan): Promise<FenceResult> {
  const ownerOf = new Map(plan.gpus.map((gpu) => [gpu.address, gpu.assignment]));
  let last = crossings(vm, ownerOf);
  // Kept for later: what a port throws is the fence's to handle.
  const broken: string[] = [];
  const look = (what: string) => {
    const now = crossings(vm, ownerOf);
    for (const crossing of now) if (!last.has(crossing)) broken.push(`${crossing} joins two owners after ${what}`);
    last = now;
  };
  const port = (at: string): GpuPort => {
    const { holdNpuLinks, releaseNpuLinks, ...own } = vm.port(at);
    const then = (what: string, action: (() => void) | undefined) =>
      action && {
        [what]: () => {
          action();
          look(`${what} of ${at}`);
        },
      };
    return {
      ...own,
      writeBar0: (offset, value) => {
        own.writeBar0(offset, value);
        look(`a write of ${value.toString(16)} to ${offset.toString(16)} of ${at}`);
      },
      writeConfig: (offset, size, value) => {
        own.writeConfig(offset, size, value);
        look(`a config write to ${at}`);
      },
      *secondaryBusReset() {
        yield* own.secondaryBusReset();
        look(`a reset of ${at}`);
      },
      ...then("holdNpuLinks", holdNpuLinks),
      ...then("releaseNpuLinks", releaseNpuLinks),
    };
  };
  const result = await carryOutPlan(plan, port);
  assert.deepEqual(broken, []);
  return result;
}

const owners = fc.array(fc.nat(3), { minLength: 8, maxLength: 8 });

test("from any grouping to any other, no two owners are joined again at any moment", async () => {
  const machine = fc.integer({ min: 0, max: MACHINES.length - 1 });
  let resets = 0;
  await fc.assert(
    fc.asyncProperty(machine, owners, owners, async (which, first, second) => {
      const described = (MACHINES[which] ?? switched)();
      const vm = new VirtualMachine(described);
      const before = await watched(vm, makePlan(described, assigned(described, first)));
      assert.equal(before.verified, true);
      assert.ok(before.gpus.every((gpu) => !gpu.reset));
      const between = withEvidence(described, before.gpus);
      const plan = makePlan(between, assigned(between, second));
      const result = await watched(vm, plan);
      assert.equal(result.verified, true);
      assert.equal(vm.hmis, 0);
      for (const gpu of plan.gpus) {
        const { reset } = result.gpus.find(({ address }) => address === gpu.address) ?? {};
        assert.equal(reset, gpu.resetNeeded, `${gpu.name}: reset only when a link comes back`);
        if (reset === true) resets++;
      }
      assert.equal(crossings(vm, new Map(plan.gpus.map((gpu) => [gpu.address, gpu.assignment]))).size, 0);
    }),
    { numRuns: runs(30), seed: 8335 },
  );
  assert.ok(resets > runs(10), `only ${resets} resets`);
});

test("whatever GPU loses its writes or answers nonsense, no two owners are joined again, and it is not called verified", async () => {
  const machine = fc.integer({ min: 0, max: MACHINES.length - 1 });
  const fault = fc.constantFrom("lost", "nonsense", "off the bus");
  await fc.assert(
    fc.asyncProperty(machine, owners, owners, fc.nat(3), fault, async (which, first, second, place, kind) => {
      const described = (MACHINES[which] ?? switched)();
      const vm = new VirtualMachine(described);
      const before = await watched(vm, makePlan(described, assigned(described, first)));
      const between = withEvidence(described, before.gpus);
      const { faults, gpu } = vm.gpu(described.gpus[place]?.address ?? "");
      const registers =
        gpu.part === "GA100" ? gpu.links.map(({ number }) => ga100LinkRegisters(number).lock) : [LINK_DISABLE];
      for (const register of registers) {
        if (kind === "lost") faults.droppedWrites.add(register);
        if (kind === "nonsense") faults.stuckReads.set(register, 0xbadf1100);
      }
      if (kind === "off the bus") faults.configUnreadable = true;
      const plan = makePlan(between, assigned(between, second));
      const result = await watched(vm, plan);
      const own = plan.gpus.find(({ address }) => address === gpu.address);
      const verdict = result.gpus.find(({ address }) => address === gpu.address);
      const asked = (own?.cutLinks.length ?? 0) > 0 || own?.resetNeeded === true;
      if (kind !== "lost" && asked) assert.equal(verdict?.verified, false);
      if (verdict?.verified === true) assert.ok(own?.cutLinks.every((link) => !vm.linkUp(gpu.address, link)));
    }),
    { numRuns: runs(40), seed: 922 },
  );
});
