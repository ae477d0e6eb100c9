import { VFIO_PCI_ROM_REGION_INDEX } from "../vfio/constants.js";
import type { VfioRegion } from "../vfio/device.js";
import { PCI_BAR0, PCI_CAPABILITIES_POINTER, PCI_ROM, PCI_STATUS, PCI_STATUS_CAPABILITIES } from "./config_offsets.js";

/** The part of config space that has something to virtualise in it: the header and the first list of capabilities. */
const SIZE = 256;
const BARS = 6;
const BAR_IO = 0x1;
const BAR_TYPE = 0x6;
const BAR_64 = 0x4;
const MOST_CAPABILITIES = 48;

const CAPABILITY_POWER = 0x01;
const CAPABILITY_EXPRESS = 0x10;
const CAPABILITY_ADVANCED_FEATURES = 0x13;

/** Reads config space of the hardware. */
export type ReadConfig = (offset: number, data: Uint8Array) => void;
/** Writes config space of the hardware; `data` is valid during the call. */
export type WriteConfig = (offset: number, data: Uint8Array) => void;

/**
 * What a client sees of config space where it must not be the hardware's own: its BARs and ROM, whose addresses are its
 * guest's while the hardware keeps those that the fence works with; function level reset, which is not there (the only
 * reset is the one that fences again); and the power state, which only seems to change, for a GPU in D3hot could not prove
 * to others that its links are cut.
 */
export class ClientConfig {
  /** Bits that are the client's, not the hardware's; 1 is ours. */
  readonly #ours = new Uint8Array(SIZE);
  /** Those of them that the client may change. */
  readonly #writable = new Uint8Array(SIZE);
  readonly #powerOn = new Uint8Array(SIZE);
  readonly #value = new Uint8Array(SIZE);
  /** Where our last bit is. */
  #end = PCI_ROM + 4;
  readonly #scratch = new Uint8Array(SIZE);

  /**
   * @param hardware config space that is known to be good
   * @param regions of the device: the BARs' sizes
   */
  constructor(hardware: ReadConfig, regions: readonly (VfioRegion | undefined)[]) {
    const header = new Uint8Array(SIZE);
    for (let at = 0; at < SIZE; at += 4) hardware(at, header.subarray(at, at + 4));
    this.#addBars(header, regions);
    this.#addCapabilities(header);
    this.reset();
  }

  /** As after power on: no addresses. */
  reset(): void {
    this.#value.set(this.#powerOn);
  }

  /** Puts what is the client's over what was read from the hardware. */
  overlay(offset: number, data: Uint8Array): void {
    const past = Math.min(offset + data.length, this.#end);
    for (let at = Math.max(offset, PCI_BAR0); at < past; at++) {
      const ours = this.#ours[at] ?? 0;
      if (ours !== 0) data[at - offset] = ((data[at - offset] ?? 0) & ~ours) | ((this.#value[at] ?? 0) & ours);
    }
  }

  /** Takes what is the client's out of a write and gives the hardware the rest. */
  write(offset: number, data: Uint8Array, hardware: WriteConfig): void {
    if (offset >= this.#end || offset + data.length <= PCI_BAR0) {
      hardware(offset, data);
      return;
    }
    const past = Math.min(offset + data.length, this.#end);
    let run = offset;
    for (let at = offset; at < past; at++) {
      const ours = this.#ours[at] ?? 0;
      if (ours === 0) continue;
      const writable = this.#writable[at] ?? 0;
      const byte = data[at - offset] ?? 0;
      this.#value[at] = ((this.#value[at] ?? 0) & ~writable) | (byte & writable);
      if (at > run) hardware(run, data.subarray(run - offset, at - offset));
      run = at + 1;
      if (ours === 0xff) continue;
      // The rest of the byte is the hardware's; ours are bits that it is to see as 0.
      this.#scratch[at] = byte & ~ours;
      hardware(at, this.#scratch.subarray(at, at + 1));
    }
    if (run < offset + data.length) hardware(run, data.subarray(run - offset));
  }

  #addBars(header: Uint8Array, regions: readonly (VfioRegion | undefined)[]): void {
    for (let index = 0; index < BARS; index++) {
      const at = PCI_BAR0 + 4 * index;
      const size = regions[index]?.size ?? 0;
      const low = header[at] ?? 0;
      const io = (low & BAR_IO) !== 0;
      const wide = !io && (low & BAR_TYPE) === BAR_64 && index + 1 < BARS;
      const mask = size > 0 ? ~(powerOfTwo(size) - 1n) : 0n;
      const flags = size > 0 ? low & (io ? 0x3 : 0xf) : 0;
      this.#own(at, flags, Number(mask & (io ? 0xfffffffcn : 0xfffffff0n)));
      if (!wide) continue;
      this.#own(at + 4, 0, Number((mask >> 32n) & 0xffffffffn));
      index++;
    }
    const rom = regions[VFIO_PCI_ROM_REGION_INDEX]?.size ?? 0;
    this.#own(PCI_ROM, 0, rom > 0 ? Number(~(powerOfTwo(rom) - 1n) & 0xfffff800n) | 1 : 0);
  }

  #addCapabilities(header: Uint8Array): void {
    if (((header[PCI_STATUS] ?? 0) & PCI_STATUS_CAPABILITIES) === 0) return;
    let at = (header[PCI_CAPABILITIES_POINTER] ?? 0) & ~3;
    for (let hops = 0; hops < MOST_CAPABILITIES && at >= 0x40; hops++) {
      switch (header[at]) {
        case CAPABILITY_POWER:
          // Power state, and No_Soft_Reset: from a D3hot that is none, nothing is lost.
          this.#ownByte(at + 4, 0x0b, 0x08, 0x03);
          break;
        case CAPABILITY_EXPRESS:
          this.#ownByte(at + 7, 0x10, 0, 0); // Function Level Reset Capability
          this.#ownByte(at + 9, 0x80, 0, 0); // Initiate Function Level Reset
          break;
        case CAPABILITY_ADVANCED_FEATURES:
          this.#ownByte(at + 3, 0x02, 0, 0); // FLR_CAP
          this.#ownByte(at + 4, 0x01, 0, 0); // INITIATE_FLR
          break;
      }
      at = (header[at + 1] ?? 0) & ~3;
    }
  }

  /** Makes a 32-bit register the client's. */
  #own(at: number, value: number, writable: number): void {
    for (let i = 0; i < 4; i++) this.#ownByte(at + i, 0xff, (value >>> (8 * i)) & 0xff, (writable >>> (8 * i)) & 0xff);
  }

  #ownByte(at: number, ours: number, value: number, writable: number): void {
    if (at >= SIZE) return;
    this.#ours[at] = ours;
    this.#powerOn[at] = value;
    this.#writable[at] = writable;
    this.#end = Math.max(this.#end, at + 1);
  }
}

/** What a BAR of this many bytes decodes. */
function powerOfTwo(size: number): bigint {
  let decoded = 16n;
  while (decoded < BigInt(size)) decoded <<= 1n;
  return decoded;
}
