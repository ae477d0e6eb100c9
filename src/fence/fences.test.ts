import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MadeUpGpuDevice } from "../../test/made_up_gpu_device.js";
import { runs } from "../../test/runs.js";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan, type Plan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE } from "../machine/part.js";
import { runToEnd, type Steps, withinTime } from "../vfio/steps.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import { Fences } from "./fences.js";
import { brokenInvariants } from "./invariants.js";
import type { FenceEvent } from "./progress.js";
import { vfioPort } from "./vfio_port.js";

const GPU0 = "0004:04:00.0";
const GPU1 = "0004:05:00.0";
const GPU2 = "0004:06:00.0";
const FAR_GPU = "0035:03:00.0";
const APART = ["a=GPU0", "b=GPU1", "c=GPU2"];

function serving(vm: VirtualMachine, assign: string[]): Plan {
  return makePlan(vm.machine, parseAssignments(vm.machine, assign), { resetAll: true });
}

/** Runs steps to their end, which must come: a lost turn would be waited for without end. */
function run(steps: Steps): void {
  runToEnd(withinTime(steps, 1000));
}

/** A virtual machine with all of its GPUs behind fences, and a watch on every link between two owners. */
function setUp(assign: string[] = APART, { machine = "sequoia", delay = 0 } = {}) {
  const vm = new VirtualMachine(structuredClone(builtinMachine(machine)));
  const events: FenceEvent[] = [];
  const devices = new Map(vm.machine.gpus.map((gpu) => [gpu.address, new MadeUpGpuDevice(vm, gpu.address, { delay })]));
  const device = (address: string) => {
    const found = devices.get(address);
    assert.ok(found);
    return found;
  };
  const fences = new Fences(serving(vm, assign), (at) => vfioPort(device(at), () => vm.linksUp(at)), {
    onEvent: (event) => events.push(event),
  });
  const broken: string[] = [];
  /** Looks at the hardware: no link between owners may be up that a client can use, and the invariants hold. */
  const look = () => {
    for (const { gpu, link, far } of fences.plan.crossLinks) {
      const touched = fences.of(gpu).attached || (far !== null && fences.of(far).attached);
      if (touched && vm.linkUp(gpu, link)) broken.push(`link ${link} of ${gpu} is up`);
    }
    const moments = (address: string) => {
      const { state, attached } = fences.of(address);
      const cut = new Set([0, 1, 2, 3, 4, 5].filter((link) => !vm.gpu(address).linkEnabled(link)));
      return { state: state.kind, attached, cut };
    };
    broken.push(...brokenInvariants(fences.plan, moments));
  };
  for (const each of devices.values()) each.onChange = look;
  const resets = (address: string) => device(address).events.filter((event) => event === "reset").length;
  return { vm, fences, events, device, broken, look, resets };
}

/** Attaches a client to every GPU of an assignment, as after renewAll and open. */
function attachAll({ fences }: ReturnType<typeof setUp>): void {
  run(fences.renewAll());
  for (const fence of fences.all) fence.attached = fence.plan.assignment !== "host";
}

function kinds({ fences }: ReturnType<typeof setUp>): string[] {
  return fences.all.map((fence) => fence.state.kind);
}

test("before any client comes all GPUs are fenced, the assigned ones by a reset, the host's by a cut", () => {
  const all = setUp(["a=GPU0,GPU1", "b=GPU2"]);
  assert.deepEqual(new Set(kinds(all)), new Set(["unfenced"]));
  run(all.fences.renewAll());
  assert.deepEqual(new Set(kinds(all)), new Set(["in force"]));
  const masks = all.fences.all.map(({ state }) => state.kind === "in force" && state.snapshot.disableMask);
  assert.deepEqual(masks, [0x0c0000, 0x0c0000, 0x170000, 0, 0, 0]);
  assert.deepEqual([GPU0, GPU1, GPU2, FAR_GPU].map(all.resets), [1, 1, 1, 0]);
  assert.equal(all.vm.hmis, 0);
});

test("six GPUs are reset side by side: all are in reset before the first is out of it", () => {
  const six = setUp(["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3", "e=GPU4", "f=GPU5"], { delay: 40 });
  run(six.fences.renewAll());
  const steps = six.events.map(({ step }) => step).filter((step) => step === "sbr" || step === "restore");
  assert.deepEqual(steps, [...Array(6).fill("sbr"), ...Array(6).fill("restore")]);
  assert.deepEqual(new Set(kinds(six)), new Set(["in force"]));
});

test("a GPU that cannot be fenced is failed with its reason, and the others are fenced all the same", () => {
  for (const fault of ["dropped", "0xbadf", "config", "no reset"] as const) {
    const all = setUp();
    const gpu = all.vm.gpu(GPU1);
    if (fault === "dropped") gpu.faults.droppedWrites.add(LINK_DISABLE);
    if (fault === "0xbadf") gpu.faults.stuckReads.set(LINK_DISABLE, 0xbadf1100);
    if (fault === "config") gpu.faults.configUnreadable = true;
    if (fault === "no reset") all.device(GPU1).failing = "after";
    run(all.fences.renewAll());
    assert.deepEqual(kinds(all).slice(0, 3), ["in force", "failed", "in force"], fault);
    const { state } = all.fences.of(GPU1);
    assert.ok(state.kind === "failed" && state.reason.length > 10);
    assert.ok(all.events.some((event) => event.gpu === "GPU1" && event.step === "failed"));
    // Whatever was wrong with it passes: the next reset heals it.
    gpu.faults.droppedWrites.clear();
    gpu.faults.stuckReads.clear();
    gpu.faults.configUnreadable = false;
    all.device(GPU1).failing = undefined;
    run(all.fences.of(GPU1).renew());
    assert.equal(all.fences.of(GPU1).state.kind, "in force");
  }
});

test("a link that is trained although its register says cut keeps the fence from being in force", () => {
  const vm = new VirtualMachine(builtinMachine("c4140"));
  const plan = serving(vm, ["a=GPU0", "b=GPU1"]);
  const first = plan.gpus[0]?.address ?? "";
  const fences = new Fences(plan, (at) => ({ ...vm.port(at), linksUp: () => (at === first ? [3] : []) }));
  run(fences.renewAll());
  const { state } = fences.of(first);
  assert.match(state.kind === "failed" ? state.reason : "", /link 3 is up although cut/);
});

test("another chip than planned is neither written to nor reset", () => {
  const all = setUp();
  all.vm.gpu(GPU1).faults.stuckReads.set(NV_PMC_BOOT_0, 0x150000a1);
  run(all.fences.renewAll());
  assert.equal(all.resets(GPU1), 0);
  assert.deepEqual(
    all.device(GPU1).writes.filter(([region]) => region === 0),
    [],
  );
});

test("a GPU is reset only after its far ends were read back as cut, and those are cut again when they are not", () => {
  const all = setUp();
  attachAll(all);
  // Somebody else resets GPU2: its addresses, its disable bits and its fence are gone.
  all.fences.of(GPU2).attached = false;
  all.vm.secondaryBusReset(GPU2, "firmware");
  all.vm.releaseNpuLinks(GPU2);
  run(all.fences.of(GPU0).renew());
  assert.deepEqual(all.broken, []);
  assert.equal(all.vm.gpu(GPU2).linkEnabled(0), false, "cut again, without a reset");
  assert.equal(all.resets(GPU2), 1);
  assert.equal(all.fences.of(GPU2).state.kind, "in force");
});

test("a reset is refused, and not carried out, when a far end cannot be proven cut", () => {
  for (const [fault, value] of [
    ["dropped", 0],
    ["unreadable", 0xbadf1100],
    ["all ones", 0xffffffff],
  ] as const) {
    const all = setUp();
    attachAll(all);
    const { faults } = all.vm.gpu(GPU2);
    if (fault === "dropped") {
      all.vm.secondaryBusReset(GPU2, "firmware");
      faults.droppedWrites.add(LINK_DISABLE);
    } else faults.stuckReads.set(LINK_DISABLE, value);
    const renew = () => run(all.fences.of(GPU0).renew());
    assert.throws(renew, { code: "EFENCE_FAR_END", errno: "EIO", message: /not reset: the far end, links .* of GPU2/ });
    assert.equal(all.resets(GPU0), 1, "only the one before the clients came");
    assert.deepEqual(kinds(all).slice(0, 3), ["failed", "in force", "failed"]);
    assert.equal(all.vm.gpu(GPU0).linkEnabled(0), false, "it is as cut as it was");
    faults.stuckReads.clear();
    faults.droppedWrites.clear();
    renew();
    assert.deepEqual(all.fences.of(GPU0).state.kind, "in force");
    assert.equal(all.fences.of(GPU2).state.kind, "failed", "its own client waits for its own reset");
  }
});

test("a hostile owner of the far end that switches the NVLink engine or decoding off stops nobody's reset", () => {
  const all = setUp();
  attachAll(all);
  all.vm.gpu(GPU2).writeBar0(NV_PMC_ENABLE, 0);
  run(all.fences.of(GPU0).renew());
  all.vm.gpu(GPU2).writeConfig(4, 2, 0);
  run(all.fences.of(GPU0).renew());
  assert.equal(all.vm.gpu(GPU2).readConfig(4, 2), 0, "put back as found");
  assert.deepEqual([all.fences.of(GPU0).state.kind, all.fences.of(GPU2).state.kind], ["in force", "in force"]);
  assert.deepEqual(all.broken, []);
});

test("an owner whose enable register reads as an error stops nobody's reset, and has its links looked at all the same", () => {
  for (const value of [0, 0xffffffff, 0xbadf1234, 0xbad0ffff]) {
    const all = setUp();
    attachAll(all);
    all.vm.gpu(GPU2).writeBar0(NV_PMC_ENABLE, value);
    run(all.fences.of(GPU0).renew());
    all.vm.gpu(GPU2).writeBar0(NV_PMC_ENABLE, value);
    all.fences.of(GPU2).readBack();
    assert.deepEqual([all.fences.of(GPU0).state.kind, all.fences.of(GPU2).state.kind], ["in force", "in force"]);
    all.vm.gpu(GPU2).writeBar0(NV_PMC_ENABLE, value);
    run(all.fences.of(GPU2).renew());
    assert.deepEqual(all.broken, []);
  }
});

test("a reset by somebody else who put config space back is found, whatever the link unit answers", () => {
  const all = setUp();
  attachAll(all);
  const gpu = all.vm.gpu(GPU1);
  const bars = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => [at, gpu.readConfig(at, 4)] as const);
  all.vm.secondaryBusReset(GPU1, "firmware");
  for (const [at, value] of bars) gpu.writeConfig(at, 4, value);
  all.fences.of(GPU1).readBack();
  const { state } = all.fences.of(GPU1);
  assert.match(state.kind === "failed" ? state.reason : "", /links 0, 2, 3, 4 are not proven cut/);
});

test("with a client attached GPUs are not reset all at once", () => {
  const all = setUp();
  attachAll(all);
  assert.throws(() => run(all.fences.renewAll()), { code: "EFENCE_PLAN" });
  assert.equal(all.resets(GPU0), 1);
});

test("GPUs that share a cut link take turns, others do not wait for each other", () => {
  const all = setUp(["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3"]);
  attachAll(all);
  const [first, second, other] = [GPU0, GPU1, FAR_GPU].map((at) => all.fences.of(at).renew());
  for (const steps of [first, second, other]) steps?.next();
  const renewing = [GPU0, GPU1, FAR_GPU].map((at) => all.fences.of(at).state.kind === "renewing");
  assert.deepEqual(renewing, [true, false, true]);
  first?.return();
  second?.next();
  assert.equal(all.fences.of(GPU1).state.kind, "renewing", "the turn was given back");
  for (const steps of [second, other]) if (steps !== undefined) run(steps);
  assert.deepEqual(all.broken, []);
});

test("cancelled at whatever wait, a reset leaves its GPU fenced or untouched, and its turn to others", () => {
  for (let waits = 0; waits < 6; waits++) {
    const all = setUp();
    attachAll(all);
    const steps = all.fences.of(GPU0).renew();
    let over = false;
    for (let i = 0; i < waits && !over; i++) over = steps.next().done === true;
    steps.return();
    all.look();
    assert.deepEqual(all.broken, [], `after ${waits} waits`);
    for (const link of [0, 2, 3, 4]) assert.equal(all.vm.gpu(GPU0).linkEnabled(link), false);
    const { state } = all.fences.of(GPU0);
    assert.equal(state.kind, waits === 0 || over ? "in force" : "failed");
    if (state.kind === "failed") {
      assert.match(state.reason, /cancelled/);
      assert.equal(all.vm.gpu(GPU0).readConfig(4, 2), 0, "what was left in the middle answers nobody");
    }
    assert.notEqual(all.vm.gpu(GPU0).readConfig(0x10, 4), 0, "its addresses are back");
    run(all.fences.of(GPU1).renew());
    run(all.fences.of(GPU0).renew());
    assert.equal(all.fences.of(GPU0).state.kind, "in force");
  }
});

test("a reset that waits for its turn and is cancelled changes nothing", () => {
  const all = setUp();
  attachAll(all);
  const [first, second] = [all.fences.of(GPU0).renew(), all.fences.of(GPU1).renew()];
  first.next();
  second.next();
  second.return();
  assert.equal(all.fences.of(GPU1).state.kind, "in force");
  assert.equal(all.resets(GPU1), 1);
  run(first);
});

test("whatever resets interleave, are cancelled, fail or come from outside, no link between owners is up", () => {
  const gpus = [GPU0, GPU1, GPU2];
  const act = fc.record({
    gpu: fc.nat(2),
    what: fc.constantFrom("start", "step", "step", "step", "cancel", "cut", "read back", "fail", "heal", "hostile"),
  });
  let done = 0;
  fc.assert(
    fc.property(fc.constantFrom(APART, ["a=GPU0,GPU1", "b=GPU2"]), fc.array(act, { maxLength: 80 }), (assign, acts) => {
      const all = setUp(assign);
      attachAll(all);
      const running = new Map<string, Steps>();
      const advance = (at: string) => {
        try {
          if (running.get(at)?.next().done !== false) running.delete(at);
        } catch {
          running.delete(at);
        }
        all.look();
      };
      for (const { gpu, what } of acts) {
        const at = gpus[gpu] ?? GPU0;
        const fence = all.fences.of(at);
        try {
          if (what === "start" && !running.has(at)) running.set(at, fence.renew());
          if (what === "start" || what === "step") advance(at);
          if (what === "cancel" && running.has(at)) {
            running.get(at)?.return();
            running.delete(at);
          }
          if (what === "cut") fence.cut();
          if (what === "read back") fence.readBack();
          if (what === "fail") all.device(at).failing = gpu % 2 === 0 ? "before" : "after";
          if (what === "heal") all.device(at).failing = undefined;
          if (what === "hostile") {
            all.vm.gpu(at).writeBar0(LINK_DISABLE, 0);
            all.vm.gpu(at).writeBar0(NV_PMC_ENABLE, 0);
          }
        } catch {
          // The state tells.
        }
        all.look();
      }
      for (const at of gpus) all.device(at).failing = undefined;
      for (let rounds = 0; running.size > 0; rounds++) {
        assert.ok(rounds < 100, "a reset waits for ever");
        for (const at of [...running.keys()]) advance(at);
      }
      for (const at of gpus) {
        run(all.fences.of(at).renew());
        done++;
      }
      assert.deepEqual(new Set(kinds(all)), new Set(["in force"]));
      assert.deepEqual(all.broken, []);
    }),
    { numRuns: runs(50), seed: 4242, endOnFailure: true },
  );
  assert.ok(done > runs(100), `only ${done} resets`);
});

test("a fence that somebody else's reset opened is found by reading back, and only its next reset lets a client on", () => {
  const all = setUp();
  attachAll(all);
  all.vm.secondaryBusReset(GPU1, "firmware");
  const fence = all.fences.of(GPU1);
  fence.readBack();
  assert.equal(fence.state.kind, "failed");
  fence.cut();
  assert.equal(all.vm.gpu(GPU1).linkEnabled(0), false);
  assert.equal(fence.state.kind, "failed", "its client knows of no reset");
  run(fence.renew());
  assert.equal(fence.state.kind, "in force");
});

test("another plan's cuts are made at once without a reset, and what it keeps comes with the next reset", () => {
  const all = setUp(["a=GPU0,GPU1", "b=GPU2"]);
  attachAll(all);
  all.fences.replan(serving(all.vm, APART));
  const masks = () =>
    all.fences.all.slice(0, 3).map(({ state }) => state.kind === "in force" && state.snapshot.disableMask);
  assert.deepEqual(masks(), [0x1d0000, 0x1d0000, 0x170000]);
  assert.deepEqual([GPU0, GPU1, GPU2].map(all.resets), [1, 1, 1]);
  all.events.length = 0;
  all.fences.replan(serving(all.vm, ["a=GPU0,GPU1", "b=GPU2"]));
  const { state } = all.fences.of(GPU0);
  assert.deepEqual(state.kind === "in force" && state.stillCut, [0, 4]);
  const waiting = all.events.find((event) => event.gpu === "GPU0" && event.step === "awaits reset");
  assert.match(waiting?.detail ?? "", /brings back links 0, 4 of GPU0/);
  assert.deepEqual(masks(), [0x1d0000, 0x1d0000, 0x170000]);
  for (const at of [GPU0, GPU1]) run(all.fences.of(at).renew());
  assert.deepEqual(masks(), [0x0c0000, 0x0c0000, 0x170000]);
  assert.deepEqual(all.vm.linksUp(GPU0), [0, 1, 4, 5]);
  assert.deepEqual(all.broken, []);
});

test("a plan that comes while a GPU is being reset is the one that its reset ends with", () => {
  const all = setUp(["a=GPU0,GPU1", "b=GPU2"]);
  attachAll(all);
  const steps = all.fences.of(GPU0).renew();
  steps.next();
  all.fences.replan(serving(all.vm, APART));
  all.look();
  run(steps);
  const { state } = all.fences.of(GPU0);
  assert.equal(state.kind === "in force" && state.snapshot.disableMask, 0x1d0000);
  assert.deepEqual(all.broken, []);
});

test("a plan that does not isolate, or is for other GPUs, changes nothing", () => {
  const all = setUp();
  attachAll(all);
  const { plan } = all.fences;
  const foreign = serving(new VirtualMachine(builtinMachine("c4140")), ["a=GPU0"]);
  for (const bad of [{ ...plan, isolated: false }, foreign]) {
    assert.throws(() => all.fences.replan(bad), { code: "EFENCE_PLAN" });
    assert.equal(all.fences.plan, plan);
  }
  assert.throws(() => new Fences({ ...plan, isolated: false }, () => assert.fail("touched")), { code: "EFENCE_PLAN" });
  assert.throws(() => all.fences.of("ffff:00:00.0"), { code: "EFENCE_PLAN" });
});

test("a GPU whose reset is not planned is not reset, and keeps the fence it has", () => {
  const all = setUp();
  attachAll(all);
  assert.throws(() => run(all.fences.of(FAR_GPU).renew()), { code: "EFENCE_PLAN" });
  assert.equal(all.resets(FAR_GPU), 0);
  assert.equal(all.fences.of(FAR_GPU).state.kind, "in force");
});

test("the machine as its fences see it makes a plan that knows which GPUs need a reset", () => {
  const all = setUp();
  run(all.fences.renewAll());
  const machine = all.fences.seen(all.vm.machine);
  const plan = makePlan(machine, parseAssignments(machine, ["a=GPU0"]), { resetAll: true });
  const resets = plan.steps.filter((step) => step.action === "reset-and-cut").map((step) => step.gpu);
  assert.deepEqual(resets, [GPU0, GPU1, GPU2], "GPU1 and GPU2 are the host's again and get their links back");
  all.fences.replan(plan);
  for (const at of [GPU1, GPU2]) run(all.fences.of(at).renew());
  assert.deepEqual(all.vm.linksUp(GPU1), [1, 2, 3, 5]);
});

test("a fence from reset to read-back takes less than a millisecond of CPU", () => {
  const all = setUp();
  attachAll(all);
  const fence = all.fences.of(GPU0);
  const rounds = 200;
  for (let i = 0; i < 50; i++) run(fence.renew());
  const begun = process.cpuUsage();
  for (let i = 0; i < rounds; i++) runToEnd(fence.renew());
  const { user, system } = process.cpuUsage(begun);
  assert.ok((user + system) / rounds < 1000, `${(user + system) / rounds} µs`);
});
