import type { GpuPort } from "../../src/fence/gpu_port.js";
import { restoreConfig, type SavedConfig, saveConfig } from "../../src/fence/saved_config.js";
import type { Machine } from "../../src/machine/machine.js";
import { partFacts } from "../../src/machine/part.js";
import type { PciAddress } from "../../src/pci/address.js";
import { VfioError } from "../../src/vfio/error.js";
import type { Steps } from "../../src/vfio/steps.js";
import { VirtualMachine } from "../../src/virtual/virtual_machine.js";
import type { Access, Deviation, Fault } from "./fault.js";

/** Thrown from within a server that has been killed: whatever it still tries, it does not do. */
export class Killed extends Error {}

/** What the hardware tells whoever judges it. */
export interface HardwareWatch {
  /** A register was written, a reset begun or ended: at this moment everything has to hold. */
  changed(): void;
  /** A reset by the server is about to begin. */
  resetting(gpu: PciAddress): void;
}

/** What happens to a GPU whatever the server believes. */
export interface GpuTruth {
  /** The owner whose client may touch it, or has left something running in it that no reset has ended; else undefined. */
  touchedBy: string | undefined;
  /** A client has it open. */
  open: boolean;
  /** Somebody else has reset it, and the server has not looked since. */
  resetOutside: boolean;
  /** A reset by the server has begun and not ended. */
  pending: boolean;
  /** The pending reset may end now, or fail. */
  ending: "well" | "failing" | undefined;
  /** Resets so far, by whomever. */
  resets: number;
}

/**
 * A virtual machine that outlives its servers, with everything that a server does to it counted, so that a fault can be put
 * at any access. A reset takes until somebody says that it is over.
 */
export class ExploredHardware {
  readonly vm: VirtualMachine;
  readonly truth: ReadonlyMap<PciAddress, GpuTruth>;
  /** What the present step has done so far. */
  accesses: Access[] = [];
  deviation: Deviation | undefined;
  /**
   * Digests of what the operation that runs has done so far, by which its place in the code is known, and of what it has
   * read of registers.
   */
  done = 0;
  read = 0;
  /** The server is dead: nothing of it reaches the hardware any more. */
  dead = false;
  watch: HardwareWatch = { changed: () => {}, resetting: () => {} };
  readonly #firmware: ReadonlyMap<PciAddress, SavedConfig>;

  /** All links are up, and config space is as firmware leaves it. */
  constructor(readonly machine: Machine) {
    const { vm, firmware } = powerOn(machine);
    this.vm = vm;
    this.#firmware = firmware;
    const addresses = machine.gpus.map(({ address }) => address);
    const quiet = {
      touchedBy: undefined,
      open: false,
      resetOutside: false,
      pending: false,
      ending: undefined,
      resets: 0,
    };
    this.truth = new Map(addresses.map((at): [PciAddress, GpuTruth] => [at, { ...quiet }]));
  }

  of(gpu: PciAddress): GpuTruth {
    const truth = this.truth.get(gpu);
    if (truth === undefined) throw new Error(`no GPU ${gpu}`);
    return truth;
  }

  /** The links that are cut at this end, whatever can be read of them. */
  cutAt(gpu: PciAddress): ReadonlySet<number> {
    const virtual = this.vm.gpu(gpu);
    const links = virtual.inReset ? 0 : (partFacts(virtual.gpu.part)?.links ?? 0);
    let mask = 0;
    for (let link = 0; link < links; link++) if (virtual.linkCut(link)) mask |= 1 << link;
    return linksOf(mask);
  }

  /** As a fence, or a device for a client, reaches the GPU. */
  port(gpu: PciAddress): GpuPort {
    const real = this.vm.port(gpu);
    const { holdNpuLinks, releaseNpuLinks } = real;
    const npu = (act: () => void) => this.#access({ gpu, kind: "npu", offset: 0 }, act);
    return {
      readConfig: (offset, size) => {
        return this.#access(
          { gpu, kind: "config read", offset },
          () => real.readConfig(offset, size),
          2 ** (8 * size) - 1,
        );
      },
      writeConfig: (offset, size, value) => {
        this.#access({ gpu, kind: "config write", offset }, () => real.writeConfig(offset, size, value));
      },
      readBar0: (offset) => {
        return this.#access({ gpu, kind: "register read", offset }, () => real.readBar0(offset), 0xffffffff);
      },
      writeBar0: (offset, value) => {
        this.#access({ gpu, kind: "register write", offset }, () => real.writeBar0(offset, value));
      },
      secondaryBusReset: () => this.#reset(gpu),
      linksUp: real.linksUp,
      ...(holdNpuLinks && { holdNpuLinks: () => npu(holdNpuLinks) }),
      ...(releaseNpuLinks && { releaseNpuLinks: () => npu(releaseNpuLinks) }),
    };
  }

  /** Somebody else resets the GPU: its disable bits and its config space are gone. */
  resetOutside(gpu: PciAddress): void {
    this.vm.secondaryBusReset(gpu, "port");
    this.#wasReset(gpu);
    this.of(gpu).resetOutside = true;
    this.watch.changed();
  }

  /**
   * The server is gone, and with it its clients' ways to the hardware.
   * @param bus whether the kernel resets what the server had open, as it does when it closes VFIO devices, and restores it
   */
  kill(bus: boolean): void {
    this.dead = true;
    for (const [gpu, truth] of this.truth) {
      if (truth.pending) this.vm.gpu(gpu).endReset();
      Object.assign(truth, { pending: false, ending: undefined, open: false, touchedBy: undefined });
      if (!bus) continue;
      this.vm.secondaryBusReset(gpu, "firmware");
      this.vm.releaseNpuLinks(gpu);
      const saved = this.#firmware.get(gpu);
      if (saved !== undefined) restoreConfig(this.vm.port(gpu), saved);
      this.#wasReset(gpu);
    }
  }

  /** Whatever a moment has of the hardware that may matter later. */
  get fingerprint(): unknown[] {
    return [...this.truth].map(([gpu, truth]) => {
      const virtual = this.vm.gpu(gpu);
      const config = Array.from({ length: 32 }, (_, word) => virtual.readConfig(4 * word, 4));
      const { resets: _, ...rest } = truth;
      const bridges = virtual.gpu.bridges.map((at) => [this.vm.bridge(at).inReset, this.vm.bridge(at).frozen]);
      return [rest, config, virtual.linkRegisters, bridges];
    });
  }

  *#reset(gpu: PciAddress): Steps {
    const truth = this.of(gpu);
    this.#access({ gpu, kind: "reset", offset: 0 }, () => {
      const before = this.vm.hmis;
      truth.resetOutside = false;
      this.watch.resetting(gpu);
      this.vm.secondaryBusReset(gpu, "port");
      this.vm.gpu(gpu).beginReset();
      this.#wasReset(gpu);
      if (this.vm.hmis > before) throw new Error(`the reset of ${gpu} froze an NPU bridge`);
    });
    truth.pending = true;
    let failing = false;
    try {
      yield { deadline: Number.POSITIVE_INFINITY, done: () => truth.ending !== undefined };
      failing = truth.ending === "failing";
    } finally {
      // What a dead server would still do has no effect.
      if (!this.dead) {
        truth.pending = false;
        truth.ending = undefined;
        this.vm.gpu(gpu).endReset();
        this.watch.changed();
      }
    }
    if (failing) throw new VfioError("EIO", "it did not come back in time");
  }

  #wasReset(gpu: PciAddress): void {
    const truth = this.of(gpu);
    truth.resets++;
    if (!truth.open) truth.touchedBy = undefined;
  }

  #access<T>(access: Access, act: () => T, allOnes?: T): T {
    if (this.dead) throw new Killed("the server is dead");
    const fault = this.#faultOf(access);
    this.accesses.push(access);
    const result = this.#carryOut(access, act, fault, allOnes);
    this.done = mixed(this.done, access.offset + 7 * access.kind.length + 13 * access.gpu.charCodeAt(3));
    if (access.kind === "register read" && typeof result === "number") this.read = mixed(this.read, result);
    if (!access.kind.endsWith("read")) this.watch.changed();
    return result;
  }

  /** An error stays with its register until the step is over. */
  #faultOf({ gpu, kind, offset }: Access): Fault | undefined {
    if (this.deviation?.at === this.accesses.length)
      return fits(this.deviation.fault, kind) ? this.deviation.fault : undefined;
    const first = this.deviation?.fault === "0xBADF" ? this.accesses[this.deviation.at] : undefined;
    if (first?.kind !== "register read" || first.gpu !== gpu || first.offset !== offset) return undefined;
    if (kind === "register read") return "0xBADF";
    return kind === "register write" ? "lost" : undefined;
  }

  #carryOut<T>({ gpu }: Access, act: () => T, fault: Fault | undefined, allOnes: T | undefined): T {
    switch (fault) {
      case "kill":
        this.dead = true;
        throw new Killed("the server is killed");
      case "all ones":
        return allOnes as T;
      case "0xBADF":
        return 0xbadf1100 as T;
      case "lost":
        return undefined as T;
      case "outside reset":
        this.resetOutside(gpu);
    }
    return act();
  }
}

/** Whether this can go wrong with such an access. */
function fits(fault: Fault, kind: Access["kind"]): boolean {
  if (fault === "all ones") return kind.endsWith("read");
  if (fault === "0xBADF") return kind === "register read";
  return fault === "lost" ? kind.endsWith("write") : true;
}

/** One virtual machine for each description, for making one takes long: it is put back as it was when it was new. */
const machines = new Map<Machine, { vm: VirtualMachine; firmware: ReadonlyMap<PciAddress, SavedConfig> }>();

function powerOn(machine: Machine): { vm: VirtualMachine; firmware: ReadonlyMap<PciAddress, SavedConfig> } {
  const known = machines.get(machine);
  const vm = known?.vm ?? new VirtualMachine(machine);
  const addresses = machine.gpus.map(({ address }) => address);
  const firmware = known?.firmware ?? new Map(addresses.map((at) => [at, saveConfig(vm.port(at))]));
  machines.set(machine, { vm, firmware });
  for (const npu of new Set(machine.bridges.map((bridge) => bridge.npu))) vm.resetNpu(npu);
  for (const at of addresses) {
    while (vm.gpu(at).inReset) vm.gpu(at).endReset();
    vm.secondaryBusReset(at, "firmware");
    vm.releaseNpuLinks(at);
    const saved = firmware.get(at);
    if (saved !== undefined) restoreConfig(vm.port(at), saved);
  }
  return { vm, firmware };
}

/** The same set for the same links each time. */
const sets = new Map<number, ReadonlySet<number>>();

function linksOf(mask: number): ReadonlySet<number> {
  let links = sets.get(mask);
  if (links === undefined) {
    links = new Set(Array.from({ length: 32 }, (_, link) => link).filter((link) => (mask & (1 << link)) !== 0));
    sets.set(mask, links);
  }
  return links;
}

function mixed(digest: number, value: number): number {
  return (Math.imul(digest ^ value, 0x9e3779b1) + (digest >>> 15)) >>> 0;
}
