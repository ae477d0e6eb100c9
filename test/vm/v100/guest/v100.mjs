import { COMMAND_BUS_MASTER, COMMAND_MEMORY, PciFunction } from "/linkfence/guest/pci_function.mjs";

/** BAR0's registers, in bytes (NVIDIA/open-gpu-doc manuals/volta/gv100; the link registers: nouveau, gpu-admin-tools). */
export const BOOT_0 = 0x0;
export const PMC_ENABLE = 0x200;
export const BAR0_WINDOW = 0x1700;
export const PRI_RING_COMMAND = 0x12004c;
export const PRI_DECODE_CONFIG = 0x122204;
export const LINK_DISABLE = 0xa00148;
/** Where the window onto the GPU's memory lies in BAR0. */
export const BAR0_WINDOW_START = 0x700000;

/** linkfence's own peripheral, a window onto the memory at a link's far end (src/virtual/peer_window.ts). */
export const PEER_LINK = 0xff0000;
export const PEER_BASE = 0xff0004;
export const PEER_STATUS = 0xff0008;
export const PEER_WINDOW = 0xfe0000;

export const V100_BOOT_0 = 0x140000a1;
const PMC_ENABLE_NVLINK = 1 << 25;
const NVIDIA = 0x10de;
const V100 = 0x1db1;
const IBM = 0x1014;
const NPU_BRIDGE = 0x04ea;
const BAR0_SIZE = 1 << 24;
const ALL_ONES = 0xffffffff;

/** Whether a register answered: neither nobody did, nor an error inside the chip. */
export function answers(value) {
  return value !== ALL_ONES && value >>> 16 !== 0xbadf && value >>> 16 !== 0xbad0;
}

export function hex(value) {
  return `0x${value.toString(16).padStart(8, "0")}`;
}

/** The guest's V100s, in the order of their ports. */
export function findGpus() {
  return PciFunction.findAll(NVIDIA, V100).map((pci) => new V100Gpu(pci));
}

/** The NPU bridge functions, in the order of their ports. */
export function findBridges() {
  return PciFunction.findAll(IBM, NPU_BRIDGE);
}

/** A V100 by its mapped registers: a typed array touches one with one access of its width. */
export class V100Gpu {
  constructor(pci) {
    this.pci = pci;
    pci.command |= COMMAND_MEMORY | COMMAND_BUS_MASTER;
    this.bytes = pci.mapBar(0, BAR0_SIZE).bytes;
    this.shorts = new Uint16Array(this.bytes.buffer);
    this.words = new Uint32Array(this.bytes.buffer);
    this.longs = new BigUint64Array(this.bytes.buffer);
  }

  get(offset) {
    return this.words[offset / 4];
  }

  set(offset, value) {
    this.words[offset / 4] = value;
  }

  /**
   * The disable register, undefined when it does not answer. Where no device decodes an address QEMU's guests read 0, as from
   * a register without bits; so this reads the place next to it at the same time, where a GPU answers with an error.
   */
  disabled() {
    const both = this.longs[LINK_DISABLE / 8];
    const value = Number(both & 0xffffffffn);
    return answers(Number(both >> 32n)) || both >> 32n === 0xffffffffn || !answers(value) ? undefined : value;
  }

  /** What a driver does before it trains links: the priv ring runs, the NVLink engine is on. */
  startLinks() {
    this.set(PRI_RING_COMMAND, 4);
    this.set(PRI_DECODE_CONFIG, 2);
    this.set(PMC_ENABLE, this.get(PMC_ENABLE) | PMC_ENABLE_NVLINK);
  }

  /** What is seen through a link, and whether it says that it is up. */
  look(link, base = 0) {
    this.set(PEER_LINK, link);
    this.set(PEER_BASE, base);
    return { status: this.get(PEER_STATUS), word: this.get(PEER_WINDOW) };
  }
}
