/** A physical address range of a POWER9 chip. */
export interface PhysicalRange {
  base: bigint;
  size: bigint;
}

/** Host bridges (PHBs) of one chip; a PHB's PCI domain is `chip id * 6 + index`. */
export const PHBS_PER_CHIP = 6;

/** Links of one NPU. */
export const LINKS_PER_NPU = 6;

/** GPU RAM windows of one chip, growing down from 4 TiB. */
export const GPU_WINDOWS_PER_CHIP = 6;

/** Highest chip id the memory map has room for: the window of chip c begins at c << 42 below 2^49. */
export const MAX_CHIP_ID = 127;

/**
 * Where the units of a POWER9 (Nimbus) chip sit in the physical map; chips are 4 TiB apart (skiboot hw/phys-map.c,
 * phys_map_table_nimbus).
 */
export const POWER9_MAP = {
  /** A PHB's own registers, by PHB index. */
  phbRegisters: (chip: number, phb: number) => at(chip, 0x600c3c0000000n + BigInt(phb) * 0x100000n, 0x1000n),
  /** A PHB's interrupt event state buffers. */
  phbInterrupts: (chip: number, phb: number) => at(chip, 0x600c300000000n + BigInt(phb) * 0x20000000n, 0x10000000n),
  /** A PHB's window for 64-bit BARs; PHBs 3 to 5 have theirs 2 TiB further up. */
  phbWindow64: (chip: number, phb: number) =>
    at(chip, (phb < 3 ? 0x6000000000000n : 0x6020000000000n) + BigInt(phb % 3) * 0x4000000000n, 0x4000000000n),
  /** A PHB's window for 32-bit BARs. */
  phbWindow32: (chip: number, phb: number) => at(chip, 0x600c000000000n + BigInt(phb) * 0x80000000n, 0x80000000n),
  /** The NPU's registers. */
  npuRegisters: (chip: number) => at(chip, 0x6030200000000n, 0x1000000n),
  /** From the first link's NTL registers to the end of the last GENID register: what the NPU's BARs lie in. */
  npuWindow: (chip: number) => at(chip, 0x6030201600000n, 0x120000n),
} as const;

/** How many ATSD registers an NPU has. */
export const ATSD_REGISTERS = 8;

/** Page of ATSD register n: block n of stack 8 of the NPU's registers (skiboot include/npu2-regs.h). */
export function atsdAddress(chip: number, n: number): bigint {
  return POWER9_MAP.npuRegisters(chip).base + (8n << 20n) + (BigInt(n) << 16n);
}

function at(chip: number, offset: bigint, size: bigint): PhysicalRange {
  return { base: offset + (BigInt(chip) << 42n), size };
}
