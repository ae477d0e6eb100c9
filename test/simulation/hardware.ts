import type { Machine } from "../../src/machine/machine.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE } from "../../src/machine/part.js";
import type { PciAddress } from "../../src/pci/address.js";
import type { Steps, Wait } from "../../src/vfio/index.js";
import type { Bar0 } from "../../src/virtual/bar0.js";
import { VirtualGpu } from "../../src/virtual/virtual_gpu.js";
import { type ResetPath, VirtualMachine, type VirtualPort } from "../../src/virtual/virtual_machine.js";
import type { Random } from "../fuzz/random.js";
import { clock } from "./clock.js";

/** Told what happens in the hardware, in the middle of whatever makes it happen. */
export interface HardwareWatch {
  /** Something was written to a GPU, or its reset began or ended. */
  touched(gpu: PciAddress): void;
  /** A client's access has come to a GPU's registers. */
  clientAccess(gpu: PciAddress): void;
  /** A reset of the GPU begins. */
  resetBegins(gpu: PciAddress): void;
}

interface RunningReset {
  readonly gpu: PciAddress;
  readonly steps: Steps;
  readonly late: number;
  wait: Wait;
  over: boolean;
}

/** Without these being written after a reset, GP100's and GV100's link unit answers errors. */
const PRIV_RING = [0x12004c, 0x122204];
/** What reads from a register that does not answer give. */
const ERRORS = [0xffffffff, 0xbadf1100, 0xbad00200] as const;
const KINDS = [
  "all ones",
  "some registers",
  "dropped writes",
  "dead registers",
  "config unreadable",
  "slow resets",
  "lost reset",
] as const;
export type HardwareFault = (typeof KINDS)[number];

const realRegisters = Object.getOwnPropertyDescriptor(VirtualGpu.prototype, "registers")?.get;

/**
 * A virtual machine that is there for longer than any server: a reset that has begun ends by itself, whatever becomes of
 * whoever waits for it, and what is broken comes and goes.
 */
export class SimulatedMachine extends VirtualMachine {
  readonly #watch: HardwareWatch;
  #resets: RunningReset[] = [];
  /** Milliseconds by which resets are late, by GPU. */
  readonly #late = new Map<PciAddress, number>();
  readonly #broken = new Map<PciAddress, HardwareFault>();

  constructor(machine: Machine, watch: HardwareWatch, options: { resetClearsMemory: boolean }) {
    super(machine, options);
    this.#watch = watch;
    for (const { address } of machine.gpus) this.#watchRegisters(address);
  }

  /** GPUs that something is wrong with. */
  get broken(): ReadonlyMap<PciAddress, HardwareFault> {
    return this.#broken;
  }

  /** When the next reset goes on; infinite when none is under way. */
  get deadline(): number {
    return this.#resets.reduce(
      (least, { wait, late }) => Math.min(least, wait.deadline + late),
      Number.POSITIVE_INFINITY,
    );
  }

  /** Goes on with resets whose time has come. */
  run(): void {
    for (const reset of this.#resets) if (clock.now >= reset.wait.deadline + reset.late) this.#advance(reset);
    this.#resets = this.#resets.filter(({ over }) => !over);
  }

  override port(address: PciAddress): VirtualPort {
    const port = super.port(address);
    const seen =
      <Given extends unknown[]>(does: (...given: Given) => void) =>
      (...given: Given) => {
        does(...given);
        this.#watch.touched(address);
      };
    return {
      ...port,
      writeBar0: seen(port.writeBar0),
      writeConfig: seen(port.writeConfig),
      ...(port.holdNpuLinks && { holdNpuLinks: seen(port.holdNpuLinks) }),
      ...(port.releaseNpuLinks && { releaseNpuLinks: seen(port.releaseNpuLinks) }),
    };
  }

  override *resetSteps(address: PciAddress, through: ResetPath): Steps {
    const steps = super.resetSteps(address, through);
    this.#watch.resetBegins(address);
    const late = this.#late.get(address) ?? 0;
    const reset: RunningReset = { gpu: address, steps, late, wait: { deadline: 0 }, over: false };
    this.#resets.push(reset);
    this.#advance(reset);
    while (!reset.over) yield { deadline: Number.POSITIVE_INFINITY, done: () => reset.over };
  }

  /** Somebody else resets the GPU, at once. */
  resetFromOutside(address: PciAddress): void {
    this.#watch.resetBegins(address);
    this.secondaryBusReset(address, "firmware");
    this.releaseNpuLinks(address);
    this.#watch.touched(address);
  }

  /** Breaks something about a GPU. */
  break(address: PciAddress, random: Random): HardwareFault {
    this.heal(address);
    const fault = random.pick(KINDS);
    const { faults } = this.gpu(address);
    const registers = this.#registersOf(address);
    this.#broken.set(address, fault);
    if (fault === "all ones") for (const each of registers) faults.stuckReads.set(each, ERRORS[0]);
    if (fault === "some registers") {
      for (const each of registers) if (random.once(2)) faults.stuckReads.set(each, random.pick(ERRORS));
    }
    if (fault === "dropped writes") for (const each of registers) if (!random.once(3)) faults.droppedWrites.add(each);
    if (fault === "dead registers") {
      for (const each of registers.filter(() => random.once(2))) {
        faults.stuckReads.set(each, random.pick(ERRORS));
        faults.droppedWrites.add(each);
      }
    }
    if (fault === "config unreadable") faults.configUnreadable = true;
    if (fault === "slow resets") this.#late.set(address, random.pick([1, 30, 500, 5000, 29_890, 29_910]));
    if (fault === "lost reset") this.#late.set(address, 40_000);
    return fault;
  }

  heal(address: PciAddress): void {
    const { faults } = this.gpu(address);
    faults.stuckReads.clear();
    faults.droppedWrites.clear();
    faults.configUnreadable = false;
    this.#late.delete(address);
    this.#broken.delete(address);
  }

  /** The server that has the devices is about to go, and the memory with it. */
  forgetMemory(): void {
    // What a reset does to memory is done at once; the rest of it takes its time.
    for (const reset of this.#resets) while (!reset.over && reset.wait.deadline === 0) this.#advance(reset);
    for (const { address } of this.machine.gpus) {
      const gpu = this.gpu(address);
      gpu.listener = undefined;
      gpu.memory = undefined;
    }
  }

  /** Config space of every GPU is as firmware left it. */
  restoreConfig(): void {
    for (const { address } of this.machine.gpus) this.gpu(address).memory = undefined;
  }

  #registersOf(address: PciAddress): number[] {
    const { part, links } = this.gpu(address).gpu;
    if (part !== "GA100") return [NV_PMC_BOOT_0, NV_PMC_ENABLE, LINK_DISABLE, ...PRIV_RING];
    return [NV_PMC_BOOT_0, ...links.flatMap(({ number }) => Object.values(ga100LinkRegisters(number)))];
  }

  #advance(reset: RunningReset): void {
    const result = reset.steps.next();
    if (result.done === true) reset.over = true;
    else reset.wait = result.value;
    this.#watch.touched(reset.gpu);
  }

  /** Clients' accesses come by this property, those of the fence by the port. */
  #watchRegisters(address: PciAddress): void {
    const gpu = this.gpu(address);
    const watch = this.#watch;
    const watched = (registers: Bar0) => ({
      read: (offset: number) => {
        watch.clientAccess(address);
        return registers.read(offset);
      },
      readBytes: (offset: number, data: Uint8Array) => {
        watch.clientAccess(address);
        registers.readBytes(offset, data);
      },
      writeBytes: (offset: number, data: Uint8Array) => {
        watch.clientAccess(address);
        registers.writeBytes(offset, data);
        watch.touched(address);
      },
    });
    Object.defineProperty(gpu, "registers", {
      get: () => {
        const registers = realRegisters?.call(gpu) as Bar0 | undefined;
        return registers && watched(registers);
      },
    });
  }
}
