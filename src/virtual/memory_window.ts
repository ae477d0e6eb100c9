import { PRI_DECODE_ERROR } from "./pri_error.js";
import type { RegisterUnit } from "./register_unit.js";
import { readThrough, type VideoMemory, writeThrough } from "./video_memory.js";

/** A part of BAR0 that shows memory. Its accesses are of any size and go through as they are. */
export interface Aperture {
  /** Where in BAR0 it begins and ends. */
  readonly start: number;
  readonly end: number;
  /** Fills `data` from `offset` in BAR0, all of it within the aperture. */
  readMemory(offset: number, data: Uint8Array): void;
  writeMemory(offset: number, data: Uint8Array): void;
}

/** `NV_PBUS_BAR0_WINDOW` (NVIDIA/open-gpu-doc manuals/volta/gv100/dev_bus). */
export const NV_PBUS_BAR0_WINDOW = 0x1700;
/** Where the window lies in BAR0 (nouveau instmem/nv50.c). */
export const BAR0_WINDOW_START = 0x700000;
export const BAR0_WINDOW_SIZE = 0x100000;

/** The base in units of 64 KiB, and which memory it is in. */
const BASE = 0x00ffffff;
const BASE_UNIT = 0x10000;
const TARGET = 0x03000000;

/** The 1 MiB window in BAR0 onto the GPU's memory, and the register that says where it looks. */
export class MemoryWindow implements RegisterUnit, Aperture {
  readonly pages = [NV_PBUS_BAR0_WINDOW >>> 12];
  readonly start = BAR0_WINDOW_START;
  readonly end = BAR0_WINDOW_START + BAR0_WINDOW_SIZE;
  readonly #memory: () => VideoMemory | undefined;
  #register = 0;

  constructor(memory: () => VideoMemory | undefined) {
    this.#memory = memory;
  }

  read(offset: number): number | undefined {
    return offset === NV_PBUS_BAR0_WINDOW ? this.#register : undefined;
  }

  write(offset: number, value: number): boolean {
    if (offset !== NV_PBUS_BAR0_WINDOW) return false;
    this.#register = value & (BASE | TARGET);
    return true;
  }

  reset(): void {
    this.#register = 0;
  }

  readMemory(offset: number, data: Uint8Array): void {
    readThrough(this.#target, this.#at(offset), data, offset, PRI_DECODE_ERROR);
  }

  writeMemory(offset: number, data: Uint8Array): void {
    writeThrough(this.#target, this.#at(offset), data);
  }

  /** Only target 0, the GPU's own memory, is modelled: through the window nobody gets at the host's. */
  get #target(): VideoMemory | undefined {
    return (this.#register & TARGET) === 0 ? this.#memory() : undefined;
  }

  #at(offset: number): number {
    return (this.#register & BASE) * BASE_UNIT + (offset - BAR0_WINDOW_START);
  }
}
