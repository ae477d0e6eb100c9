import assert from "node:assert/strict";
import { test } from "node:test";
import { FencedDevice } from "../../src/fence/fenced_device.js";
import { Fences } from "../../src/fence/fences.js";
import { GuardedRegisters } from "../../src/fence/guarded_registers.js";
import { strategyFor } from "../../src/fence/strategy.js";
import { HOST, ownersOf, parseAssignments } from "../../src/isolation/assignment.js";
import { makePlan } from "../../src/isolation/plan.js";
import { builtinMachine } from "../../src/machine/builtin.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_ENABLE } from "../../src/machine/part.js";
import type { DeviceClient } from "../../src/vfio/device.js";
import { VfioError } from "../../src/vfio/error.js";
import type { Steps } from "../../src/vfio/steps.js";
import { BridgeDevice } from "../../src/virtual/bridge_device.js";
import { GpuDevice } from "../../src/virtual/gpu_device.js";
import { PEER_LINK, PEER_WINDOW_START } from "../../src/virtual/peer_window.js";
import type { Faults } from "../../src/virtual/virtual_gpu.js";
import { VirtualMachine } from "../../src/virtual/virtual_machine.js";
import { runs } from "../runs.js";
import { bytesOf, numberOf } from "./guest.js";

const CLIENT: DeviceClient = {
  dma: { read: () => assert.fail("no DMA"), write: () => assert.fail("no DMA") },
  trigger: () => false,
  setIntx: () => {},
  start: () => {},
};
const BAR0 = 0;
const CONFIG = 7;
const PAGE = 4096;
/** Where in the memories the clients look for what came over a link. */
const LETTERBOX = 0;

/** Numbers below a limit, the same for the same seed (Mulberry32). */
function randomNumbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

/** Registers whose every write is worth a try, and what to write there. */
const REGISTERS = [
  NV_PMC_ENABLE,
  0x12004c,
  0x122204,
  LINK_DISABLE,
  LINK_DISABLE - 2,
  PEER_LINK,
  ...[0, 3, 4, 11].flatMap((link) => Object.values(ga100LinkRegisters(link))),
];
const VALUES = [0, 1, 2, 4, 0x02000000, 0x003f0000, 0xbadf5040, 0xffffffff];

/** A hostile client with all that it has ever got: its socket's device, and mappings of BAR0, which no reset takes. */
class Attacker {
  /** From when it is let in until the GPU is reset after it has gone. */
  mayTouch = false;
  isOpen = false;
  /** What its device does for it, or after it. */
  work: Steps | undefined;
  failures = 0;
  resets = 0;

  constructor(
    readonly address: string,
    readonly device: FencedDevice,
    readonly inner: GpuDevice,
    readonly guarded: GuardedRegisters,
    readonly random: (limit: number) => number,
  ) {}

  /** Goes on by one step with what it has its device do, or has it do something. */
  step(): void {
    if (this.work !== undefined) this.#advance(this.work);
    else if (!this.isOpen) this.work = this.#open();
    else if (this.random(3) === 0) this.work = this.#close();
    else this.work = this.#reset();
  }

  cancel(): void {
    this.work?.return();
    this.work = undefined;
  }

  *#open(): Steps {
    yield* this.device.beforeOpen();
    this.device.open(CLIENT);
    this.isOpen = true;
    this.mayTouch = true;
  }

  *#reset(): Steps {
    yield* this.device.reset();
    this.resets++;
  }

  *#close(): Steps {
    this.isOpen = false;
    this.device.close();
    yield { deadline: 0 };
    yield* this.device.afterClose();
    this.mayTouch = false;
  }

  #advance(work: Steps): void {
    try {
      if (work.next().done === true) this.work = undefined;
    } catch {
      this.failures++;
      this.work = undefined;
    }
  }

  /** One access by a message; refused ones count as done. */
  access(): void {
    if (!this.isOpen || this.work !== undefined) return;
    const { device, random } = this;
    const data =
      random(2) === 0 ? bytesOf(VALUES[random(VALUES.length)] ?? 0) : new Uint8Array(1 + random(16)).fill(random(256));
    try {
      if (random(2) === 0) device.write(CONFIG, random(8) === 0 ? 0 : random(4096 - data.length), data);
      else device.write(BAR0, REGISTERS[random(REGISTERS.length)] ?? 0, data);
      if (random(4) === 0) device.write(CONFIG, 4, Uint8Array.of(random(2) === 0 ? 0 : 6, 0));
      if (random(16) === 0) device.write(CONFIG, 0, new Uint8Array(256).fill(0xff));
    } catch (error) {
      assert.ok(error instanceof VfioError, String(error));
    }
  }

  /** One access by what it has mapped of BAR0, whatever its device says. */
  touch(): void {
    if (!this.mayTouch) return;
    const { random } = this;
    const at = REGISTERS[random(REGISTERS.length)] ?? 0;
    if (!this.guarded.shareAPage(at, 4, PAGE))
      this.inner.write(BAR0, at & ~3, bytesOf(VALUES[random(VALUES.length)] ?? 0));
  }

  /** Writes into the memory at the far end of a link, by its mapping. */
  sendOver(link: number, value: number): void {
    this.inner.write(BAR0, PEER_LINK, bytesOf(link));
    this.inner.write(BAR0, PEER_WINDOW_START + LETTERBOX, bytesOf(value));
  }
}

function ownersApart(machine: string, assign: string[], seed: number) {
  const vm = new VirtualMachine(structuredClone(builtinMachine(machine)));
  const assignments = parseAssignments(vm.machine, assign);
  const random = randomNumbers(seed);
  const inners = new Map(
    vm.machine.gpus.map(({ address }) => [address, new GpuDevice(vm, address, { memorySize: 2 ** 20 })]),
  );
  const bridges = vm.machine.bridges.map(({ address }) => new BridgeDevice(vm, address));
  /** Links may train before whoever has asked for the reset goes on. */
  function* slowReset(address: string): Steps {
    yield* vm.resetSteps(address, "port");
    yield { deadline: 0 };
  }
  const port = (address: string) => ({ ...vm.port(address), secondaryBusReset: () => slowReset(address) });
  const fences = new Fences(makePlan(vm.machine, assignments, { resetAll: true }), port);
  const ownerOf = ownersOf(vm.machine, assignments);
  const attackers = vm.machine.gpus.flatMap(({ address }) => {
    const inner = inners.get(address);
    if (ownerOf(address) === HOST || inner === undefined) return [];
    const fence = fences.of(address);
    const guarded = new GuardedRegisters(strategyFor(fence.plan.part)?.guarded ?? assert.fail());
    return [new Attacker(address, new FencedDevice(inner, fence, { pageSize: PAGE }), inner, guarded, random)];
  });
  const touching = new Map(attackers.map((each) => [each.address, each]));
  const cross = vm.machine.gpus.flatMap(({ address, links }) =>
    links.flatMap(({ number, far }) =>
      far.kind === "gpu" && ownerOf(far.gpu) !== ownerOf(address) ? [{ address, number, far: far.gpu }] : [],
    ),
  );
  /** Looks at the hardware alone. */
  const look = (after: string) => {
    for (const { address, number, far } of cross) {
      if (touching.get(address)?.mayTouch !== true && touching.get(far)?.mayTouch !== true) continue;
      assert.equal(vm.linkUp(address, number), false, `link ${number} of ${address} is up ${after}`);
    }
    assert.equal(vm.hmis, 0, after);
  };
  /** Somebody on the host resets a GPU that nobody has, and whose links no reset relies on at this moment. */
  const resetFromOutside = (attacker: Attacker) => {
    const isReliedOn = fences.all.some(({ state }) => state.kind === "renewing");
    if (attacker.mayTouch || attacker.work !== undefined || isReliedOn) return;
    vm.secondaryBusReset(attacker.address, "firmware");
    vm.releaseNpuLinks(attacker.address);
  };
  /** Sends bytes over every link to another owner. */
  const send = (after: string) => {
    for (const { address, number, far } of cross) {
      const from = touching.get(address);
      if (from?.mayTouch !== true) continue;
      from.sendOver(number, 0xbad);
      const data = new Uint8Array(4);
      inners.get(far)?.memory.read(LETTERBOX, data);
      assert.equal(numberOf(data), 0, `bytes crossed link ${number} of ${address} ${after}`);
    }
  };
  /** Lets everybody end what they are at. */
  const finish = (when: string) => {
    for (let i = 0; attackers.some(({ work }) => work !== undefined); i++) {
      assert.ok(i < 10000, `somebody waits for ever ${when}`);
      for (const each of attackers) if (each.work !== undefined) each.step();
      look(when);
    }
  };
  const dispose = () => {
    for (const each of [...inners.values(), ...bridges]) each.dispose();
  };
  return { vm, fences, attackers, bridges, random, look, send, resetFromOutside, finish, dispose };
}

/** Runs steps to their end in no time: what they wait for is a clock of ours. */
function runNow(steps: Steps, clock: { now: number }): void {
  for (let i = 0; i < 10000; i++) {
    const result = steps.next();
    if (result.done === true) return;
    clock.now = Math.max(clock.now, result.value.deadline);
  }
  assert.fail("it waits for ever");
}

const MACHINES: [string, string[]][] = [
  ["sequoia", ["a=GPU0", "b=GPU1", "c=GPU2", "d=GPU3", "e=GPU4", "f=GPU5"]],
  ["sequoia", ["a=GPU0,GPU1", "b=GPU2"]],
  ["minsky", ["a=GPU1", "b=GPU2", "c=GPU3,GPU4"]],
  ["dgx1v", ["a=GPU0", "b=GPU1", "c=GPU2,GPU3", "d=GPU4", "e=GPU5", "f=GPU6", "g=GPU7"]],
  ["hgx-a100-4", ["a=GPU0,GPU1", "b=GPU2", "c=GPU3"]],
];

for (const [machine, assign] of MACHINES) {
  test(`${machine}, ${assign.join(" ")}: whatever hostile clients do between any two steps, no link between owners is up`, (t) => {
    const clock = { now: 0 };
    t.mock.method(performance, "now", () => clock.now);
    let resets = 0;
    for (let seed = 1; seed <= runs(3); seed++) {
      const all = ownersApart(machine, assign, seed);
      const { attackers, random, look, send } = all;
      runNow(all.fences.renewAll(), clock);
      for (let step = 0; step < 1500; step++) {
        const attacker = attackers[random(attackers.length)];
        if (attacker === undefined) continue;
        const after = `in step ${step} of seed ${seed}`;
        const kind = random(10);
        if (kind < 5) attacker.step();
        else if (kind < 7) attacker.access();
        else if (kind < 9) attacker.touch();
        else if (random(6) === 0) attacker.cancel();
        else if (random(3) === 0) all.resetFromOutside(attacker);
        look(after);
        if (random(20) === 0) send(after);
        for (const bridge of all.bridges)
          if (random(40) === 0) bridge.write(CONFIG, random(200), new Uint8Array(16).fill(random(256)));
      }
      all.finish(`at the end of seed ${seed}`);
      for (const each of attackers) {
        runNow(each.isOpen ? each.device.reset() : each.device.beforeOpen(), clock);
        look("after the last reset");
        resets += each.resets;
      }
      const failed = attackers.reduce((sum, { failures }) => sum + failures, 0);
      assert.equal(failed, 0, `seed ${seed}: nobody keeps another from its reset`);
      assert.deepEqual(new Set(all.fences.all.map(({ state }) => state.kind)), new Set(["in force"]));
      all.dispose();
    }
    assert.ok(resets > runs(50), `${resets} resets`);
  });
}

const ga100 = ga100LinkRegisters(3);
const BROKEN: [string, (faults: Faults) => void][] = [
  ["a disable register that answers an error", ({ stuckReads }) => stuckReads.set(LINK_DISABLE, 0xbadf5040)],
  ["a disable register that answers ones", ({ stuckReads }) => stuckReads.set(LINK_DISABLE, 0xffffffff)],
  ["a disable register that takes nothing", ({ droppedWrites }) => droppedWrites.add(LINK_DISABLE)],
  ["an enable register that takes nothing", ({ droppedWrites }) => droppedWrites.add(NV_PMC_ENABLE)],
  ["a dead chip", ({ stuckReads }) => stuckReads.set(0, 0xffffffff)],
  ["a lock that takes nothing", ({ droppedWrites }) => droppedWrites.add(ga100.lock)],
  ["a block register that answers 0", ({ stuckReads }) => stuckReads.set(ga100.block, 0)],
  ["no config space", (faults) => Object.assign(faults, { configUnreadable: true })],
];

for (const machine of ["sequoia", "dgx1v", "hgx-a100-4"]) {
  test(`${machine}: with one GPU broken for ever nobody is joined to it, and whoever has no link to it goes on`, (t) => {
    const clock = { now: 0 };
    t.mock.method(performance, "now", () => clock.now);
    for (const [what, breakIt] of BROKEN) {
      const names = builtinMachine(machine).gpus.map(({ name }) => name);
      const all = ownersApart(
        machine,
        names.map((name) => `of-${name}=${name}`),
        7,
      );
      const broken = all.attackers[1] ?? assert.fail();
      breakIt(all.vm.gpu(broken.address).faults);
      runNow(all.fences.renewAll(), clock);
      const isBroken = all.fences.of(broken.address).state.kind === "failed";
      for (let step = 0; step < runs(300); step++) {
        const attacker = all.attackers[all.random(all.attackers.length)] ?? assert.fail();
        if (all.random(3) > 0) attacker.step();
        else if (all.random(2) === 0) attacker.access();
        else attacker.touch();
        all.look(`with ${what} in step ${step}`);
      }
      if (isBroken) assert.equal(broken.mayTouch, false, `${what}: it is let to nobody`);
      const near = new Set(
        all.vm.gpu(broken.address).gpu.links.flatMap(({ far }) => (far.kind === "gpu" ? [far.gpu] : [])),
      );
      all.finish(`with ${what}`);
      for (const each of all.attackers) {
        if (each === broken || (isBroken && near.has(each.address))) continue;
        runNow(each.isOpen ? each.device.reset() : each.device.beforeOpen(), clock);
        assert.equal(each.failures, 0, `${what}: ${each.address} has failed`);
      }
      all.dispose();
    }
  });
}
