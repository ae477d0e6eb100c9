import type { Part } from "./machine.js";

/** BAR0 offsets common to NVIDIA parts (NVIDIA/open-gpu-doc, manuals/volta/gv100, dev_boot and dev_master). */
export const NV_PMC_BOOT_0 = 0x0;
export const NV_PMC_ENABLE = 0x200;
/** NVLINK engine bit of {@link NV_PMC_ENABLE}. */
export const NV_PMC_ENABLE_NVLINK = 1 << 25;

/** The link disable register of GP100 and GV100: bit 16 + n cuts link n until the next secondary bus reset. */
export const LINK_DISABLE = 0xa00148;

/** Where GA100 keeps link n's block and lock registers: 4 links per IO block (NVIDIA/gpu-admin-tools). */
export function ga100LinkRegisters(link: number): { block: number; lock: number } {
  const base = 0xa00000 + 0x40000 * Math.floor(link / 4) + 0x17000 + 0x8000 * (link % 4);
  return { block: base + 0x64c, lock: base + 0x650 };
}

/** What linkfence knows of a part's links. */
export interface PartFacts {
  /** How many NVLinks the chip has. */
  links: number;
  /** How links are cut: a mask register, or a block and a lock register per link. */
  interface: "mask" | "block-lock";
  /** `NV_PMC_BOOT_0`. */
  boot0: number;
  /** Facts that were inferred from documents and not seen on the part. */
  inferred?: string;
}

/** The parts a fence exists for. `unknown` has no entry: it is refused, never guessed at. */
export const PART_FACTS: Readonly<Record<Exclude<Part, "unknown">, PartFacts>> = {
  GP100: {
    links: 4,
    interface: "mask",
    boot0: 0x130000a1,
    inferred:
      "the disable mask 0x000f0000 follows from the V100's and from the title of NVIDIA's note; it was not seen on a P100",
  },
  GV100: { links: 6, interface: "mask", boot0: 0x140000a1 },
  GA100: { links: 12, interface: "block-lock", boot0: 0x170000a1 },
};

/** The facts of a part, or undefined for an unknown one. */
export function partFacts(part: Part): PartFacts | undefined {
  return part === "unknown" ? undefined : PART_FACTS[part];
}

/** The disable mask that cuts the given links: bit 16 + n for link n, an unsigned 32-bit number. */
export function disableMask(links: Iterable<number>): number {
  let mask = 0;
  for (const link of links) mask |= 1 << (16 + link);
  return mask >>> 0;
}

/**
 * Whether a register value can be one at all. All ones comes back while decoding is off or the device is gone;
 * `0xBADFxxxx` and `0xBAD0xxxx` when a read fails inside the chip, and their bits 16..20 look like link bits.
 */
export function isReadable(value: number): boolean {
  const high = value >>> 16;
  return value >>> 0 !== 0xffffffff && high !== 0xbadf && high !== 0xbad0;
}
