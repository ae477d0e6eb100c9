import {
  disableMask,
  isReadable,
  LINK_DISABLE,
  NV_PMC_BOOT_0,
  NV_PMC_ENABLE,
  NV_PMC_ENABLE_NVLINK,
  PART_FACTS,
} from "../machine/part.js";
import { FenceError, hex32 } from "./error.js";
import { type FencedPart, type Registers, withRegisters } from "./registers.js";
import type { FenceStrategy } from "./strategy.js";

/** Priv ring command: enumerate the stations and start the ring (nouveau privring/gp10b.c has the same two writes). */
const PRI_RING_COMMAND = 0x12004c;
const ENUMERATE_AND_START = 0x4;
/** Priv ring decode configuration: wait for ring start. */
const PRI_DECODE_CONFIG = 0x122204;
const WAIT_FOR_RING_START = 0x2;

/** GP100 and GV100: one mask register, whose bits stay set until the next secondary bus reset. */
function maskStrategy(part: FencedPart): FenceStrategy {
  const linkBits = disableMask(Array.from({ length: PART_FACTS[part].links }, (_, link) => link));
  const offsets = [NV_PMC_BOOT_0, NV_PMC_ENABLE, LINK_DISABLE];
  return {
    part,
    guarded: [{ offset: LINK_DISABLE, addable: linkBits }],
    identify: (port) => withRegisters(port, part, () => {}),
    cut: (port, links) => withRegisters(port, part, (registers) => setMask(registers, disableMask(links), linkBits)),
    read: (port) =>
      withRegisters(port, part, (registers) => {
        requireNvlinkEngine(registers);
        const values = offsets.map((offset) => ({ offset, value: registers.read(offset) }));
        return { registers: values, readAt: new Date().toISOString() };
      }),
    evidenceOffsets: () => offsets,
  };
}

/**
 * The sequence of NVIDIA's note "Tesla P100 and V100 SXM2 NVLink Isolation on Multi-Tenant Systems": the mask register can
 * be reached only over a priv ring that runs, and with the NVLink engine on.
 */
function setMask(registers: Registers, mask: number, linkBits: number): void {
  if ((mask & ~linkBits) !== 0) throw new FenceError("EFENCE_PLAN", `the part has no links for mask ${hex32(mask)}`);
  registers.write(PRI_RING_COMMAND, ENUMERATE_AND_START);
  registers.write(PRI_DECODE_CONFIG, WAIT_FOR_RING_START);
  registers.write(NV_PMC_ENABLE, plausible(registers.readRaw(NV_PMC_ENABLE)) | NV_PMC_ENABLE_NVLINK);
  const before = registers.read(LINK_DISABLE);
  registers.write(LINK_DISABLE, before | mask);
  requireNvlinkEngine(registers);
  const after = registers.read(LINK_DISABLE);
  const missing = (mask | (before & linkBits)) & ~after;
  const foreign = (after ^ before) & ~linkBits;
  if (missing === 0 && foreign === 0) return;
  throw new FenceError(
    "EFENCE_READBACK",
    `the link disable register read ${hex32(before)}, was given ${hex32(before | mask)} and reads ${hex32(after)}`,
  );
}

/**
 * A value that cannot be taken for an error. Every bit of the enable register is its driver's to write, which may have
 * written all ones (nouveau does), or what reads as an error, so that nobody can prove anything about its links.
 */
function plausible(value: number): number {
  return isReadable(value) ? value : value & 0x7fffffff;
}

function requireNvlinkEngine(registers: Registers): void {
  const enable = registers.read(NV_PMC_ENABLE);
  if ((enable & NV_PMC_ENABLE_NVLINK) !== 0) return;
  throw new FenceError("EFENCE_UNREADABLE", `the NVLink engine is off (NV_PMC_ENABLE reads ${hex32(enable)})`);
}

export const gv100 = maskStrategy("GV100");
export const gp100 = maskStrategy("GP100");
