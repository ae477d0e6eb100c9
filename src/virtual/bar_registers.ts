import type { Bar } from "../pci/function.js";
import type { ConfigRegister } from "./config_registers.js";

const FIRST_BAR = 0x10;
const EXPANSION_ROM = 0x30;

/** Bit 0 of a BAR: I/O; bits 2..1 of a memory BAR: decoder width 64; bit 3: prefetchable. */
const BAR_IO = 1 << 0;
export const BAR_WIDTH_64 = 1 << 2;
const BAR_PREFETCHABLE = 1 << 3;

/**
 * A BAR's registers with nothing assigned. The bits that its size leaves to an address are writable, so software that
 * writes ones to it reads back its size (PCI 3.0 section 6.2.5.1). None for a BAR that cannot be.
 */
export function barRegisters(bar: Bar): ConfigRegister[] {
  const at = barOffset(bar);
  if (at === undefined) return [];
  const mask = ~(decodedSize(bar) - 1n);
  const low = Number(mask & 0xffffffffn);
  if (bar.index === "rom") return [{ at, size: 4, writable: (low & 0xfffff800) | 1 }];
  if (bar.kind === "io") return [{ at, size: 4, value: BAR_IO, writable: low & ~0x3 }];
  const flags = (bar.width === 64 ? BAR_WIDTH_64 : 0) | (bar.prefetchable ? BAR_PREFETCHABLE : 0);
  const lower: ConfigRegister = { at, size: 4, value: flags, writable: low & ~0xf };
  if (bar.width === 32) return [lower];
  return [lower, { at: at + 4, size: 4, writable: Number((mask >> 32n) & 0xffffffffn) }];
}

/**
 * The same with the BAR's address in them. Sources on POWER give the CPU's address, which for a 32-bit BAR is above
 * 4 GiB; its host bridge has that 2 GiB window at 2 GiB on the bus (skiboot include/phb4.h, `M32_PCI_START`).
 */
export function assignedBar(bar: Bar): { at: number; value: number }[] {
  const at = barOffset(bar);
  if (at === undefined) return [];
  const beyond = bar.width === 32 && bar.address >> 32n !== 0n;
  const low = beyond ? 0x80000000n | (bar.address & 0x7fffffffn) : bar.address & 0xffffffffn;
  const wide = bar.width === 64 && bar.kind === "memory" && bar.index !== "rom";
  const high = { at: at + 4, value: Number((bar.address >> 32n) & 0xffffffffn) };
  return [{ at, value: Number(low) }, ...(wide ? [high] : [])];
}

/** The bytes a BAR decodes: a power of two, 16 MiB where the source does not say (config space alone never does). */
export function decodedSize(bar: Bar): bigint {
  const wanted = bar.size ?? 0x1000000n;
  const most = bar.width === 64 ? 1n << 63n : 1n << 31n;
  let size = bar.index === "rom" ? 0x800n : 16n;
  while (size < wanted && size < most) size <<= 1n;
  return size;
}

/** Where a BAR's first register lies; undefined for a number that there is none of. */
function barOffset(bar: Bar): number | undefined {
  if (bar.index === "rom") return EXPANSION_ROM;
  const last = bar.width === 64 ? 4 : 5;
  return Number.isInteger(bar.index) && bar.index >= 0 && bar.index <= last ? FIRST_BAR + 4 * bar.index : undefined;
}
