import type { Gpu } from "../machine/machine.js";
import type { PciFunction } from "../pci/function.js";
import { BAR0_SIZE, Bar0, type RegisterFaults } from "./bar0.js";
import { ConfigImage, type ConfigSize } from "./config_image.js";
import { completeFunction } from "./default_function.js";
import { recordedRegisters } from "./link_registers.js";
import type { Peers } from "./peer_window.js";
import type { VideoMemory } from "./video_memory.js";

const ALL_ONES = 0xffffffff;
const PCI_BAR0 = 0x10;
const PCI_BAR_64 = 1 << 2;

export interface Faults extends RegisterFaults {
  /** Config reads give all ones and config writes are lost, as of a function that fell off the bus. */
  configUnreadable: boolean;
}

/** Who shows the GPU to a client, and is told what happens in it. */
export interface GpuListener {
  /** The interrupt line or the time until the alarm may have changed; `rearmed` when the driver wants the next MSI. */
  interruptsChanged(rearmed: boolean): void;
  /** An access to a register that is not modelled. */
  unmodelled(access: "read" | "write", offset: number): void;
}

const ALONE: Peers = { linkUp: () => false, memory: () => undefined };

/** One virtual GPU: config space, its registers, its memory, and what a reset does to each. */
export class VirtualGpu {
  readonly faults: Faults;
  /** Whether its driver wants the links trained; set as after the driver was loaded. */
  driverAsks = true;
  /** Set by who serves the GPU. */
  listener: GpuListener | undefined;
  readonly #bar0: Bar0;
  readonly #function: PciFunction | undefined;
  #memory: VideoMemory | undefined;
  #config: { image: ConfigImage; bar0: bigint } | undefined;
  /** Resets that hold the GPU at this moment: those of several GPUs on one bus may overlap. */
  #resets = 0;

  /** Comes up as the machine was found: registers that its links record as evidence have the values recorded. */
  constructor(
    readonly gpu: Gpu,
    fn: PciFunction | undefined,
    peers = ALONE,
  ) {
    const evidence = gpu.links.flatMap((link) => (link.evidence === undefined ? [] : [link.evidence]));
    const recorded = recordedRegisters(evidence);
    this.faults = { stuckReads: new Map(recorded.unreadable), droppedWrites: new Set(), configUnreadable: false };
    this.#function = fn;
    this.#bar0 = new Bar0(gpu.part, recorded.values, {
      faults: this.faults,
      peers,
      memory: () => this.#memory,
      interruptsChanged: (rearmed) => this.listener?.interruptsChanged(rearmed),
      unmodelled: (access, offset) => this.listener?.unmodelled(access, offset),
    });
  }

  /** The memory behind BAR1, when anybody gave the GPU one. */
  get memory(): VideoMemory | undefined {
    return this.#memory;
  }

  /** Gives the GPU its memory. Config space, where BAR1 gets the memory's size, is then as firmware left it. */
  set memory(memory: VideoMemory | undefined) {
    this.#memory = memory;
    this.#config = undefined;
  }

  /** Whether the GPU is held in reset, or not yet back from it: nothing answers and no link is up. */
  get inReset(): boolean {
    return this.#resets > 0;
  }

  /** Whether memory accesses that the bus routes here are answered. */
  get decodesMemory(): boolean {
    return this.#answersConfig && this.#image.memoryDecoding;
  }

  /** Bytes of a memory BAR, 0 where there is none. */
  barSize(index: number): number {
    return Number(this.#image.barSize(index));
  }

  /** Bytes of config space. */
  get configSize(): number {
    return this.#image.size;
  }

  /** Whether the function interrupts by message. */
  get msiEnabled(): boolean {
    return this.#answersConfig && this.#image.msiEnabled;
  }

  /** Whether the function must not drive its INTx line. */
  get interruptDisabled(): boolean {
    return this.#image.interruptDisabled;
  }

  /** Shows in config space whether the function has an interrupt pending on its INTx line. */
  setInterruptStatus(pending: boolean): void {
    this.#image.setInterruptStatus(pending);
  }

  /** Whether the chip interrupts its host, by whatever way config space says. */
  get interruptLine(): boolean {
    return this.#bar0.interruptLine;
  }

  /** Milliseconds until the alarm raises {@link interruptLine}; undefined when it will not. */
  get untilAlarm(): number | undefined {
    return this.#bar0.untilAlarm;
  }

  /** Reads config space; all ones when nobody answers. */
  readConfig(offset: number, size: ConfigSize): number {
    return this.#answersConfig ? this.#image.read(offset, size) : 2 ** (8 * size) - 1;
  }

  /** Writes config space; a function that advertises FLR is reset by writing its Initiate bit. */
  writeConfig(offset: number, size: ConfigSize, value: number): void {
    if (!this.#answersConfig) return;
    if (this.#image.write(offset, size, value)) this.functionLevelReset();
    else this.listener?.interruptsChanged(false);
  }

  /** As {@link readConfig}, any number of bytes. */
  readConfigBytes(offset: number, data: Uint8Array): void {
    if (this.#answersConfig) this.#image.readBytes(offset, data);
    else data.fill(0xff);
  }

  /** As {@link writeConfig}, any number of bytes. */
  writeConfigBytes(offset: number, data: Uint8Array): void {
    if (!this.#answersConfig) return;
    if (this.#image.writeBytes(offset, data)) this.functionLevelReset();
    else this.listener?.interruptsChanged(false);
  }

  /** Reads a 32-bit register of BAR0: all ones while BAR0 is not decoded, `0xBADFxxxx` where no register answers. */
  readBar0(offset: number): number {
    return this.#decodesForCpu(offset) ? this.#bar0.read(offset) : ALL_ONES;
  }

  /** Writes a 32-bit register of BAR0; lost while BAR0 is not decoded. */
  writeBar0(offset: number, value: number): void {
    if (this.#decodesForCpu(offset)) this.#bar0.write(offset, value >>> 0);
  }

  /** The registers themselves, for accesses that a hypervisor has routed to BAR0; undefined while none is answered. */
  get registers(): Bar0 | undefined {
    return this.decodesMemory && hasBar0(this.#image) ? this.#bar0 : undefined;
  }

  /** What a secondary bus reset does to the GPU. The NPU's side of it is {@link VirtualMachine.secondaryBusReset}. */
  secondaryBusReset(): void {
    this.#image.reset();
    this.#bar0.secondaryBusReset();
  }

  /** What a function level reset does: config space is lost all the same, locked links stay blocked. */
  functionLevelReset(): void {
    this.#image.reset();
    this.#bar0.functionLevelReset();
  }

  /** Holds the GPU in reset until {@link endReset} is called as often. */
  beginReset(): void {
    this.#resets++;
    this.secondaryBusReset();
  }

  endReset(): void {
    this.#resets--;
  }

  /** Whether this end of link n would train. */
  linkEnabled(link: number): boolean {
    return this.driverAsks && !this.inReset && this.#bar0.linkEnabled(link);
  }

  /** Whether link n is cut at this end until a reset, whoever can read that at the moment. */
  linkCut(link: number): boolean {
    return this.#bar0.linkCut(link);
  }

  /** What its registers that have to do with links hold, whoever can read them, for whoever compares moments. */
  get linkRegisters(): readonly number[] {
    return this.#bar0.linkRegisters;
  }

  get #answersConfig(): boolean {
    return !this.faults.configUnreadable && !this.inReset;
  }

  /** BAR0 answers at the address that the CPU has it mapped at, and nowhere else. */
  #decodesForCpu(offset: number): boolean {
    const { image, bar0 } = this.#mapped;
    const mapped = bar0 !== 0n && image.bar0 === bar0;
    return mapped && !this.inReset && image.memoryDecoding && offset >= 0 && offset < BAR0_SIZE;
  }

  get #image(): ConfigImage {
    return this.#mapped.image;
  }

  /** Made when it is first looked at: most GPUs of a large machine never are. */
  get #mapped(): { image: ConfigImage; bar0: bigint } {
    if (this.#config === undefined) {
      const fn = completeFunction(this.gpu, this.#function);
      const image = new ConfigImage(this.#memory === undefined ? fn : withBar1Size(fn, this.#memory.size));
      this.#config = { image, bar0: image.bar0 };
    }
    return this.#config;
  }
}

/** Whether BAR0 has an address. Asked before every access, so in numbers: bigints have to be allocated. */
function hasBar0(image: ConfigImage): boolean {
  const low = image.read(PCI_BAR0, 4);
  return low >>> 4 !== 0 || ((low & PCI_BAR_64) !== 0 && image.read(PCI_BAR0 + 4, 4) !== 0);
}

/** The function with a BAR1 that shows all of its memory. */
function withBar1Size(fn: PciFunction, size: number): PciFunction {
  return { ...fn, bars: fn.bars.map((bar) => (bar.index === 1 ? { ...bar, size: BigInt(size) } : bar)) };
}
