import type { Gpu } from "../machine/machine.js";
import type { PciFunction } from "../pci/function.js";
import { ConfigImage, type ConfigSize } from "./config_image.js";
import { completeFunction } from "./default_function.js";
import { type LinkRegisters, linkRegisters, recordedRegisters } from "./link_registers.js";

/** Bytes of a GPU's register BAR. */
const BAR0_SIZE = 0x1000000;
const ALL_ONES = 0xffffffff;

/** What is broken about a virtual GPU: for tests, and for captures that recorded registers which do not answer. */
export interface Faults {
  /** BAR0 offset to the value that every read there gives, whatever the register holds. */
  readonly stuckReads: Map<number, number>;
  /** BAR0 offsets at which writes are lost. */
  readonly droppedWrites: Set<number>;
  /** Config reads give all ones and config writes are lost, as of a function that fell off the bus. */
  configUnreadable: boolean;
}

/** One virtual GPU: config space, the registers of its links, and what a reset does to both. */
export class VirtualGpu {
  readonly faults: Faults;
  /** Whether its driver wants the links trained; set as after the driver was loaded. */
  driverAsks = true;
  readonly #registers: LinkRegisters;
  readonly #function: PciFunction | undefined;
  #config: { image: ConfigImage; bar0: bigint } | undefined;

  /** Comes up as the machine was found: registers that its links record as evidence have the values recorded. */
  constructor(
    readonly gpu: Gpu,
    fn: PciFunction | undefined,
  ) {
    const evidence = gpu.links.flatMap((link) => (link.evidence === undefined ? [] : [link.evidence]));
    const recorded = recordedRegisters(evidence);
    this.faults = { stuckReads: new Map(recorded.unreadable), droppedWrites: new Set(), configUnreadable: false };
    this.#registers = linkRegisters(gpu.part, recorded.values);
    this.#function = fn;
  }

  /** Reads config space; all ones when nobody answers. */
  readConfig(offset: number, size: ConfigSize): number {
    return this.faults.configUnreadable ? 2 ** (8 * size) - 1 : this.#image.read(offset, size);
  }

  /** Writes config space; a function that advertises FLR is reset by writing its Initiate bit. */
  writeConfig(offset: number, size: ConfigSize, value: number): void {
    if (this.faults.configUnreadable) return;
    if (this.#image.write(offset, size, value)) this.functionLevelReset();
  }

  /** Reads a 32-bit register of BAR0: all ones while BAR0 is not decoded, `0xBADFxxxx` where no register answers. */
  readBar0(offset: number): number {
    if (!this.#decodes(offset)) return ALL_ONES;
    return this.faults.stuckReads.get(offset) ?? this.#registers.read(offset);
  }

  /** Writes a 32-bit register of BAR0; lost while BAR0 is not decoded. */
  writeBar0(offset: number, value: number): void {
    if (this.#decodes(offset) && !this.faults.droppedWrites.has(offset)) this.#registers.write(offset, value >>> 0);
  }

  /** What a secondary bus reset does to the GPU. The NPU's side of it is {@link VirtualMachine.secondaryBusReset}. */
  secondaryBusReset(): void {
    this.#image.reset();
    this.#registers.secondaryBusReset();
  }

  /** What a function level reset does: config space is lost all the same, locked links stay blocked. */
  functionLevelReset(): void {
    this.#image.reset();
    this.#registers.functionLevelReset();
  }

  /** Whether this end of link n would train. */
  linkEnabled(link: number): boolean {
    return this.driverAsks && this.#registers.enabled(link);
  }

  /** BAR0 answers at the address that the CPU has it mapped at, and nowhere else. */
  #decodes(offset: number): boolean {
    const { image, bar0 } = this.#mapped;
    return image.memoryDecoding && bar0 !== 0n && image.bar0 === bar0 && offset >= 0 && offset < BAR0_SIZE;
  }

  get #image(): ConfigImage {
    return this.#mapped.image;
  }

  /** Made when it is first looked at: most GPUs of a large machine never are. */
  get #mapped(): { image: ConfigImage; bar0: bigint } {
    if (this.#config === undefined) {
      const image = new ConfigImage(completeFunction(this.gpu, this.#function));
      this.#config = { image, bar0: image.bar0 };
    }
    return this.#config;
  }
}
