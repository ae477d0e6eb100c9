import { ga100LinkRegisters, NV_PMC_BOOT_0, PART_FACTS } from "../machine/part.js";
import { FenceError, hex32 } from "./error.js";
import { type Registers, withRegisters } from "./registers.js";
import type { FenceStrategy } from "./strategy.js";

/**
 * GA100: a block and a lock register per link, both 1 on a cut link until the next secondary bus reset; a function level
 * reset leaves them (NVIDIA/gpu-admin-tools gpu/units/nvlink_ampere.py).
 */
export const ga100: FenceStrategy = {
  part: "GA100",
  // The lock of a link that is not blocked would keep it from ever being cut.
  guarded: Array.from({ length: PART_FACTS.GA100.links }, (_, link) => ga100LinkRegisters(link)).flatMap(
    ({ block, lock }) => [
      { offset: block, addable: 1 },
      { offset: lock, addable: 1, follows: block },
    ],
  ),
  identify: (port) => withRegisters(port, "GA100", () => {}),
  cut: (port, links) =>
    withRegisters(port, "GA100", (registers) => {
      for (const link of links) blockLink(registers, link);
      for (const link of links) requireBlocked(registers, link);
    }),
  read: (port, links) =>
    withRegisters(port, "GA100", (registers) => {
      const offsets = [NV_PMC_BOOT_0, ...links.flatMap(pairOffsets)];
      const values = offsets.map((offset) => ({ offset, value: registers.read(offset) }));
      return { registers: values, readAt: new Date().toISOString() };
    }),
  evidenceOffsets: (link) => [NV_PMC_BOOT_0, ...pairOffsets(link)],
};

/** Block first: a lock keeps the block register from being written, and one on an open link would keep that open. */
function blockLink(registers: Registers, link: number): void {
  if (link < 0 || link >= PART_FACTS.GA100.links) throw new FenceError("EFENCE_PLAN", `the part has no link ${link}`);
  const { block, lock } = ga100LinkRegisters(link);
  registers.write(block, 1);
  if (registers.readRaw(block) === 1) registers.write(lock, 1);
}

function requireBlocked(registers: Registers, link: number): void {
  const { block, lock } = ga100LinkRegisters(link);
  const blocked = registers.read(block);
  const locked = registers.read(lock);
  if (blocked === 1 && locked === 1) return;
  throw new FenceError(
    "EFENCE_READBACK",
    `link ${link} is not blocked: its block register reads ${hex32(blocked)}, its lock register ${hex32(locked)}`,
  );
}

function pairOffsets(link: number): number[] {
  const { block, lock } = ga100LinkRegisters(link);
  return [block, lock];
}
