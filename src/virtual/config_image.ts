import type { Bar, Capability, PciFunction } from "../pci/function.js";

/** Width of a config access in bytes. */
export type ConfigSize = 1 | 2 | 4;

/** Offsets of the header (PCI 3.0 section 6.1) and of the PCI Express capability (PCIe base specification 7.5.3). */
const COMMAND = 0x04;
const STATUS = 0x06;
const CACHE_LINE_SIZE = 0x0c;
const BAR0 = 0x10;
const EXPANSION_ROM = 0x30;
const CAPABILITIES_POINTER = 0x34;
const INTERRUPT_LINE = 0x3c;
const EXTENDED_CAPABILITIES = 0x100;
const DEVICE_CAPABILITIES = 0x04;
const DEVICE_CONTROL = 0x08;
const LINK_CONTROL = 0x10;
const DEVICE_CONTROL_2 = 0x28;
const LINK_CONTROL_2 = 0x30;

const COMMAND_MEMORY = 1 << 1;
const COMMAND_BUS_MASTER = 1 << 2;
/** I/O, memory, bus master, parity error response, SERR#, interrupt disable: the bits a PCI Express function has. */
const COMMAND_WRITABLE = 0x0547;
/** Bits 2..1 of a memory BAR (bit 0 clear): decoder width 64; bit 3: prefetchable. */
const BAR_WIDTH_64 = 1 << 2;
const BAR_PREFETCHABLE = 1 << 3;
const STATUS_CAPABILITIES = 1 << 4;
const CAPABILITY_EXPRESS = 0x10;
const FUNCTION_LEVEL_RESET = 1 << 28;
const INITIATE_FLR = 1 << 15;
/** Device Control after a reset: relaxed ordering, no snoop, maximum read request 512 bytes. */
const DEVICE_CONTROL_RESET = 0x2810;
/** Express capability version 2, an endpoint. */
const EXPRESS_ENDPOINT_V2 = 0x02;

const ALL_ONES = { 1: 0xff, 2: 0xffff, 4: 0xffffffff } as const;

/**
 * The config space of a virtual function: 256 bytes, 4096 with a PCI Express capability. Every byte has a mask of the
 * bits that software may change, so that BAR sizing (PCI 3.0 section 6.2.5.1) needs no code of its own.
 */
export class ConfigImage {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #writable: Uint8Array;
  readonly #resetValues: Uint8Array;
  readonly #express: number | undefined;

  /** Builds the image as firmware and the kernel left it: BARs assigned, decoding on where the function says so. */
  constructor(fn: PciFunction) {
    const express = expressOffset(fn);
    const size = express === undefined ? 256 : 4096;
    this.#express = express;
    this.#bytes = new Uint8Array(size);
    this.#view = new DataView(this.#bytes.buffer);
    this.#writable = new Uint8Array(size);
    this.#putHeader(fn);
    this.#putCapabilities(fn);
    this.#resetValues = this.#bytes.slice();
    this.#assign(fn);
  }

  /** Whether the function answers accesses to its memory BARs. */
  get memoryDecoding(): boolean {
    return (this.#view.getUint16(COMMAND, true) & COMMAND_MEMORY) !== 0;
  }

  /** The address in BAR0, 0 while nothing is assigned. */
  get bar0(): bigint {
    const low = this.#view.getUint32(BAR0, true);
    const high = (low & 0x7) === BAR_WIDTH_64 ? this.#view.getUint32(BAR0 + 4, true) : 0;
    return (BigInt(high) << 32n) | BigInt((low & ~0xf) >>> 0);
  }

  /** Reads little endian; beyond the end of config space nobody answers and all ones come back. */
  read(offset: number, size: ConfigSize): number {
    if (!this.#holds(offset, size)) return ALL_ONES[size];
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.#bytes[offset + i] ?? 0);
    return value;
  }

  /** Writes the bits that are writable; returns whether the write asks for a function level reset. */
  write(offset: number, size: ConfigSize, value: number): boolean {
    if (!this.#holds(offset, size)) return false;
    for (let i = 0; i < size; i++) {
      const mask = this.#writable[offset + i] ?? 0;
      const kept = (this.#bytes[offset + i] ?? 0) & ~mask;
      this.#bytes[offset + i] = kept | ((value >>> (8 * i)) & mask);
    }
    return this.#asksForReset(offset, size, value);
  }

  /** Back to the values after a conventional or a function level reset: BARs 0, command 0. */
  reset(): void {
    this.#bytes.set(this.#resetValues);
  }

  #holds(offset: number, size: ConfigSize): boolean {
    return Number.isInteger(offset) && offset >= 0 && offset + size <= this.#bytes.length;
  }

  #asksForReset(offset: number, size: ConfigSize, value: number): boolean {
    if (this.#express === undefined) return false;
    const high = this.#express + DEVICE_CONTROL + 1;
    if (offset > high || offset + size <= high) return false;
    const capable = (this.#view.getUint32(this.#express + DEVICE_CAPABILITIES, true) & FUNCTION_LEVEL_RESET) !== 0;
    return capable && ((value >>> (8 * (high - offset))) & (INITIATE_FLR >> 8)) !== 0;
  }

  #putHeader(fn: PciFunction): void {
    this.#view.setUint16(0x00, fn.vendorId ?? 0, true);
    this.#view.setUint16(0x02, fn.deviceId ?? 0, true);
    this.#allow16(COMMAND, COMMAND_WRITABLE);
    this.#view.setUint32(0x08, (((fn.classCode ?? 0) << 8) | (fn.revision ?? 0)) >>> 0, true);
    this.#writable[CACHE_LINE_SIZE] = 0xff;
    this.#bytes[0x0e] = fn.multifunction === true ? 0x80 : 0;
    this.#view.setUint16(0x2c, fn.subsystemVendorId ?? 0, true);
    this.#view.setUint16(0x2e, fn.subsystemId ?? 0, true);
    this.#writable[INTERRUPT_LINE] = 0xff;
    this.#bytes[INTERRUPT_LINE + 1] = 1;
    for (const bar of fn.bars) this.#putBar(bar);
  }

  #putBar(bar: Bar): void {
    const at = barOffset(bar);
    if (at === undefined) return;
    const mask = ~(barSize(bar) - 1n);
    if (bar.index === "rom") {
      this.#allow32(at, Number(mask & 0xfffff801n) | 1);
      return;
    }
    if (bar.kind === "io") {
      this.#view.setUint32(at, 1, true);
      this.#allow32(at, Number(mask & 0xfffffffcn));
      return;
    }
    this.#view.setUint32(at, (bar.width === 64 ? BAR_WIDTH_64 : 0) | (bar.prefetchable ? BAR_PREFETCHABLE : 0), true);
    this.#allow32(at, Number(mask & 0xfffffff0n));
    if (bar.width === 64) this.#allow32(at + 4, Number((mask >> 32n) & 0xffffffffn));
  }

  #putCapabilities(fn: PciFunction): void {
    const standard = chain(fn.capabilities, false, 0x40, 0xf8);
    if (standard.length > 0) {
      this.#view.setUint16(STATUS, STATUS_CAPABILITIES, true);
      this.#bytes[CAPABILITIES_POINTER] = standard[0]?.offset ?? 0;
    }
    standard.forEach(({ offset, id }, i) => {
      this.#bytes[offset] = id;
      this.#bytes[offset + 1] = standard[i + 1]?.offset ?? 0;
    });
    if (this.#express === undefined) return;
    this.#putExpress(this.#express, fn.express?.functionLevelReset === true);
    const extended = chain(fn.capabilities, true, EXTENDED_CAPABILITIES, 0xffc);
    // The list has to begin at 0x100: an empty entry there leads to a first capability that lies elsewhere.
    if (extended.length > 0 && extended[0]?.offset !== EXTENDED_CAPABILITIES)
      extended.unshift({ offset: EXTENDED_CAPABILITIES, id: 0 });
    extended.forEach(({ offset, id }, i) => {
      const next = extended[i + 1]?.offset ?? 0;
      this.#view.setUint32(offset, ((next << 20) | (1 << 16) | id) >>> 0, true);
    });
  }

  #putExpress(at: number, functionLevelReset: boolean): void {
    this.#view.setUint16(at + 2, EXPRESS_ENDPOINT_V2, true);
    this.#view.setUint32(at + DEVICE_CAPABILITIES, functionLevelReset ? FUNCTION_LEVEL_RESET : 0, true);
    this.#view.setUint16(at + DEVICE_CONTROL, DEVICE_CONTROL_RESET, true);
    this.#allow16(at + DEVICE_CONTROL, 0xffff & ~INITIATE_FLR);
    this.#allow16(at + LINK_CONTROL, 0x0fff);
    this.#allow16(at + DEVICE_CONTROL_2, 0xffff);
    this.#allow16(at + LINK_CONTROL_2, 0xffff);
  }

  #assign(fn: PciFunction): void {
    for (const bar of fn.bars) {
      const at = barOffset(bar);
      if (at === undefined) continue;
      this.write(at, 4, lowHalf(bar));
      if (bar.width === 64 && bar.index !== "rom") this.write(at + 4, 4, Number((bar.address >> 32n) & 0xffffffffn));
    }
    const decodes = fn.bars.some((bar) => bar.kind === "memory" && bar.index !== "rom" && !bar.disabled);
    if (decodes) this.write(COMMAND, 2, COMMAND_MEMORY | COMMAND_BUS_MASTER);
  }

  #allow16(at: number, mask: number): void {
    this.#writable[at] = mask & 0xff;
    this.#writable[at + 1] = (mask >>> 8) & 0xff;
  }

  #allow32(at: number, mask: number): void {
    this.#allow16(at, mask & 0xffff);
    this.#allow16(at + 2, (mask >>> 16) & 0xffff);
  }
}

/** Where the Express capability lies, when the whole of it fits. */
function expressOffset(fn: PciFunction): number | undefined {
  return chain(fn.capabilities, false, 0x40, 0xc0).find((capability) => capability.id === CAPABILITY_EXPRESS)?.offset;
}

/** The capabilities of one list that lie where they can, each place once, in ascending order. */
function chain(
  capabilities: readonly Capability[],
  extended: boolean,
  first: number,
  last: number,
): { offset: number; id: number }[] {
  const places = new Map<number, number>();
  for (const capability of capabilities) {
    const { offset, id } = capability;
    if (capability.extended !== extended || !Number.isInteger(offset) || offset % 4 !== 0) continue;
    if (offset >= first && offset <= last && !places.has(offset)) places.set(offset, id);
  }
  return [...places].map(([offset, id]) => ({ offset, id })).sort((a, b) => a.offset - b.offset);
}

function barOffset(bar: Bar): number | undefined {
  if (bar.index === "rom") return EXPANSION_ROM;
  const last = bar.width === 64 ? 4 : 5;
  return Number.isInteger(bar.index) && bar.index >= 0 && bar.index <= last ? BAR0 + 4 * bar.index : undefined;
}

/**
 * What the BAR's register itself holds of an address. Sources on POWER give the CPU's address, which for a 32-bit BAR is
 * above 4 GiB; its host bridge has that 2 GiB window at 2 GiB on the bus (skiboot include/phb4.h, `M32_PCI_START`).
 */
function lowHalf(bar: Bar): number {
  const beyond = bar.width === 32 && bar.address >> 32n !== 0n;
  return Number(beyond ? 0x80000000n | (bar.address & 0x7fffffffn) : bar.address & 0xffffffffn);
}

/** The size a BAR is given: a power of two, 16 MiB where the source does not say (config space alone never does). */
function barSize(bar: Bar): bigint {
  const least = bar.index === "rom" ? 0x800n : 16n;
  const wanted = bar.size ?? 0x1000000n;
  let size = least;
  const most = bar.width === 64 ? 1n << 63n : 1n << 31n;
  while (size < wanted && size < most) size <<= 1n;
  return size;
}
