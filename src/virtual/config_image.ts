import type { Bar, PciFunction } from "../pci/function.js";
import { assignedBar, BAR_WIDTH_64, barRegisters, decodedSize } from "./bar_registers.js";
import { type CapabilityPlace, extendedPlaces, standardPlaces } from "./capability_places.js";
import { type ConfigRegister, ConfigRegisters } from "./config_registers.js";
import { extendedCapability } from "./extended_capabilities.js";
import {
  EXPRESS,
  FLR_CAPABLE,
  INITIATE_FLR,
  MSI,
  POWER_MANAGEMENT,
  type StandardBodies,
  standardCapability,
} from "./standard_capabilities.js";

/** Width of a config access in bytes. */
export type ConfigSize = 1 | 2 | 4;

/** Offsets of the header (PCI 3.0 section 6.1). */
const COMMAND = 0x04;
const STATUS = 0x06;
const BAR0 = 0x10;
const CAPABILITIES_POINTER = 0x34;

const COMMAND_IO = 1 << 0;
const COMMAND_MEMORY = 1 << 1;
const COMMAND_BUS_MASTER = 1 << 2;
const COMMAND_INTERRUPT_DISABLE = 1 << 10;
/** Memory, bus master, parity error response, SERR#, interrupt disable: the bits that every PCI Express function has. */
const COMMAND_WRITABLE = 0x0546;
const STATUS_INTERRUPT = 1 << 3;
const STATUS_CAPABILITIES = 1 << 4;
/** Parity errors, aborts and the system error. */
const STATUS_CLEARABLE = 0xf900;
const MULTIFUNCTION = 0x80;
const PIN_A = 1;

/** Offsets in the MSI, the Power Management and the PCI Express capability. */
const MSI_CONTROL = 0x02;
const MSI_ENABLE = 1 << 0;
const POWER_CONTROL = 0x04;
const DEVICE_CAPABILITIES = 0x04;
const DEVICE_CONTROL = 0x08;

/**
 * The config space of a virtual function. It has 4096 bytes with a PCI Express capability, else 256. Its capabilities
 * are those of the function, in the function's order, with bodies that an operating system can work on: every bit is
 * read-only, writable or cleared by writing 1, so BAR sizing (PCI 3.0 section 6.2.5.1) needs no code of its own.
 *
 * A reset loses everything, sticky bits included, as power off does. The power state reads as written and has no other
 * effect: BARs answer in D3hot as well.
 */
export class ConfigImage {
  readonly #registers: ConfigRegisters;
  readonly #resetValues: Uint8Array;
  readonly #bars: readonly Bar[];
  readonly #express: number | undefined;
  readonly #msi: number | undefined;
  readonly #power: number | undefined;

  /**
   * Builds the image as firmware and the kernel left it: BARs assigned, decoding on where the function says so.
   * @param most bytes at most, for a function whose bus has no more config space
   * @param bodies what its standard capabilities hold, when not what a GPU's do
   */
  constructor(fn: PciFunction, most: 256 | 4096 = 4096, bodies: StandardBodies = standardCapability) {
    const standard = standardPlaces(fn.capabilities);
    const bodyOf = ({ id, room }: CapabilityPlace) => bodies(id, fn, room);
    // One that has no room for its body is in the list, but not there to be used.
    const offsetOf = (id: number) => standard.find((place) => place.id === id && bodyOf(place) !== undefined)?.offset;
    this.#express = offsetOf(EXPRESS);
    this.#msi = offsetOf(MSI);
    this.#power = offsetOf(POWER_MANAGEMENT);
    this.#bars = fn.bars;
    this.#registers = new ConfigRegisters(this.#express === undefined ? 256 : most);
    this.#registers.define(headerRegisters(fn, standard[0]?.offset));
    for (const bar of fn.bars) this.#registers.define(barRegisters(bar));
    standard.forEach((place, i) => {
      const next = standard[i + 1]?.offset ?? 0;
      this.#registers.define([{ at: 0, size: 2, value: (place.id & 0xff) | (next << 8) }], place.offset);
      this.#registers.define(bodyOf(place) ?? [], place.offset);
    });
    if (this.size === 4096) this.#putExtended(extendedPlaces(fn.capabilities));
    this.#resetValues = this.#registers.copy();
    this.#assign(fn.bars);
  }

  /** Bytes of config space, 256 or 4096. */
  get size(): number {
    return this.#registers.size;
  }

  /** Whether the function answers accesses to its memory BARs. */
  get memoryDecoding(): boolean {
    return (this.#registers.byte(COMMAND) & COMMAND_MEMORY) !== 0;
  }

  /** Whether the function may read and write memory, and with that raise MSIs. */
  get busMastering(): boolean {
    return (this.#registers.byte(COMMAND) & COMMAND_BUS_MASTER) !== 0;
  }

  /** Whether the function must not assert its INTx line. */
  get interruptDisabled(): boolean {
    return (this.#registers.word(COMMAND) & COMMAND_INTERRUPT_DISABLE) !== 0;
  }

  /** Whether the function signals by MSI, and so not by INTx. */
  get msiEnabled(): boolean {
    return this.#msi !== undefined && (this.#registers.byte(this.#msi + MSI_CONTROL) & MSI_ENABLE) !== 0;
  }

  /** The address in BAR0, 0 while nothing is assigned. */
  get bar0(): bigint {
    const low = this.#registers.double(BAR0);
    const high = (low & 0x7) === BAR_WIDTH_64 ? this.#registers.double(BAR0 + 4) : 0;
    return (BigInt(high) << 32n) | BigInt((low & ~0xf) >>> 0);
  }

  /** Bytes that a BAR decodes, 0 where there is none; 64-bit BARs go by the number of their lower half. */
  barSize(index: number | "rom"): bigint {
    const bar = this.#bars.find((each) => each.index === index);
    return bar === undefined ? 0n : decodedSize(bar);
  }

  /** Shows in the Status register whether the function has an interrupt pending for its INTx line. */
  setInterruptStatus(asserted: boolean): void {
    const status = this.#registers.byte(STATUS) & ~STATUS_INTERRUPT;
    this.#registers.set(STATUS, asserted ? status | STATUS_INTERRUPT : status);
  }

  /** Reads little endian; beyond the end of config space nobody answers and all ones come back. */
  read(offset: number, size: ConfigSize): number {
    if (!this.#holds(offset, size)) return 2 ** (8 * size) - 1;
    if (size === 4) return this.#registers.double(offset);
    return size === 2 ? this.#registers.word(offset) : this.#registers.byte(offset);
  }

  /** Writes what software may change; returns whether the write asks for a function level reset. */
  write(offset: number, size: ConfigSize, value: number): boolean {
    if (!this.#holds(offset, size)) return false;
    let asks = false;
    for (let i = 0; i < size; i++) asks = this.#writeByte(offset + i, (value >>> (8 * i)) & 0xff) || asks;
    return asks;
  }

  /** Fills `data` from an offset on, however aligned; what lies beyond the end of config space reads as ones. */
  readBytes(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) data[i] = this.#registers.byte(offset + i);
  }

  /** Writes bytes, however aligned, as {@link write} does; what lies beyond the end of config space is lost. */
  writeBytes(offset: number, data: Uint8Array): boolean {
    let asks = false;
    for (let i = 0; i < data.length; i++) asks = this.#writeByte(offset + i, data[i] ?? 0) || asks;
    return asks;
  }

  /** Back to the values after a conventional or a function level reset: BARs 0, command 0. */
  reset(): void {
    this.#registers.restore(this.#resetValues);
  }

  #holds(offset: number, size: ConfigSize): boolean {
    return Number.isInteger(offset) && offset >= 0 && offset + size <= this.size;
  }

  /** Returns whether the byte asks for a function level reset. */
  #writeByte(offset: number, value: number): boolean {
    // D1 and D2 are not supported: writing one of them changes nothing (PCI Power Management 1.2 section 3.2.4).
    if (this.#power !== undefined && offset === this.#power + POWER_CONTROL && isD1OrD2(value)) return false;
    this.#registers.write(offset, value);
    if (this.#express === undefined || offset !== this.#express + DEVICE_CONTROL + 1) return false;
    return (value & (INITIATE_FLR >> 8)) !== 0 && this.#resettable(this.#express);
  }

  #resettable(express: number): boolean {
    return (this.#registers.double(express + DEVICE_CAPABILITIES) & FLR_CAPABLE) !== 0;
  }

  #putExtended(extended: readonly CapabilityPlace[]): void {
    extended.forEach(({ offset, id, room }, i) => {
      const { version, registers } = extendedCapability(id, room);
      const next = extended[i + 1]?.offset ?? 0;
      this.#registers.define([{ at: 0, size: 4, value: (next << 20) | (version << 16) | (id & 0xffff) }], offset);
      this.#registers.define(registers, offset);
    });
  }

  #assign(bars: readonly Bar[]): void {
    for (const { at, value } of bars.flatMap(assignedBar)) this.write(at, 4, value);
    const decodes = bars.some((bar) => bar.kind === "memory" && bar.index !== "rom" && !bar.disabled);
    if (decodes) this.write(COMMAND, 2, COMMAND_MEMORY | COMMAND_BUS_MASTER);
  }
}

function headerRegisters(fn: PciFunction, firstCapability: number | undefined): ConfigRegister[] {
  const io = fn.bars.some((bar) => bar.kind === "io") ? COMMAND_IO : 0;
  const status = firstCapability === undefined ? 0 : STATUS_CAPABILITIES;
  return [
    { at: 0x00, size: 2, value: fn.vendorId ?? 0 },
    { at: 0x02, size: 2, value: fn.deviceId ?? 0 },
    { at: COMMAND, size: 2, writable: COMMAND_WRITABLE | io },
    { at: STATUS, size: 2, value: status, clearable: STATUS_CLEARABLE },
    { at: 0x08, size: 4, value: ((fn.classCode ?? 0) << 8) | (fn.revision ?? 0) },
    // Cache line size.
    { at: 0x0c, size: 1, writable: 0xff },
    { at: 0x0e, size: 1, value: fn.multifunction === true ? MULTIFUNCTION : 0 },
    { at: 0x2c, size: 2, value: fn.subsystemVendorId ?? 0 },
    { at: 0x2e, size: 2, value: fn.subsystemId ?? 0 },
    { at: CAPABILITIES_POINTER, size: 1, value: firstCapability ?? 0 },
    // Interrupt line and pin.
    { at: 0x3c, size: 1, writable: 0xff },
    { at: 0x3d, size: 1, value: PIN_A },
  ];
}

function isD1OrD2(value: number): boolean {
  const state = value & 0x3;
  return state === 1 || state === 2;
}
