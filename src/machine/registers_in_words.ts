import type { Gpu, Part, RegisterValue } from "./machine.js";
import {
  ga100LinkRegisters,
  isReadable,
  LINK_DISABLE,
  NV_PMC_BOOT_0,
  NV_PMC_ENABLE,
  NV_PMC_ENABLE_NVLINK,
  type PartFacts,
  partFacts,
} from "./part.js";

/** A register that proves something of links, for a person. */
export interface RegisterInWords extends RegisterValue {
  /** As NVIDIA's manuals have it where they do: `NV_PMC_BOOT_0`, `link disable mask`. */
  name: string;
  /** What the value says: `cuts links 2, 3`. */
  meaning: string;
}

/**
 * What was read of a GPU's registers as evidence, each register once, by offset. Two readings that differ are both there,
 * for neither proves anything then.
 */
export function registersInWords({ part, links }: Pick<Gpu, "part" | "links">): RegisterInWords[] {
  const facts = partFacts(part);
  if (facts === undefined) return [];
  const readings = new Map<string, RegisterValue>();
  for (const { evidence } of links) {
    for (const register of evidence?.registers ?? []) readings.set(`${register.offset} ${register.value}`, register);
  }
  return [...readings.values()]
    .sort((a, b) => a.offset - b.offset)
    .map((register) => ({ ...register, ...inWords(part, facts, register) }));
}

function inWords(part: Part, facts: PartFacts, { offset, value }: RegisterValue): { name: string; meaning: string } {
  const known = knownRegister(part, facts, offset);
  if (known === undefined) return { name: "unknown register", meaning: "says nothing of links" };
  return { name: known.name, meaning: isReadable(value) ? known.says(value) : unreadable(value) };
}

interface KnownRegister {
  name: string;
  says(value: number): string;
}

function knownRegister(part: Part, facts: PartFacts, offset: number): KnownRegister | undefined {
  if (offset === NV_PMC_BOOT_0) {
    const says = (value: number) => (value === facts.boot0 ? `is a ${part}` : `is no ${part}: proves nothing`);
    return { name: "NV_PMC_BOOT_0", says };
  }
  return facts.interface === "mask" ? maskRegister(facts, offset) : blockLockRegister(facts, offset);
}

function maskRegister({ links }: PartFacts, offset: number): KnownRegister | undefined {
  if (offset === NV_PMC_ENABLE) {
    const says = (value: number) =>
      (value & NV_PMC_ENABLE_NVLINK) !== 0
        ? "link unit is on: the disable mask counts"
        : "link unit is off: the disable mask proves nothing";
    return { name: "NV_PMC_ENABLE", says };
  }
  if (offset !== LINK_DISABLE) return undefined;
  const says = (value: number) => {
    const cut = Array.from({ length: links }, (_, link) => link).filter((link) => (value & (1 << (16 + link))) !== 0);
    return cut.length === 0 ? "cuts no link" : `cuts link${cut.length === 1 ? "" : "s"} ${cut.join(", ")}`;
  };
  return { name: "link disable mask", says };
}

function blockLockRegister({ links }: PartFacts, offset: number): KnownRegister | undefined {
  for (let link = 0; link < links; link++) {
    const { block, lock } = ga100LinkRegisters(link);
    if (offset === block) {
      return { name: `block of link ${link}`, says: (value) => (value === 1 ? "blocked" : "not blocked") };
    }
    if (offset === lock) {
      const says = (value: number) => (value === 1 ? "locked until the next secondary bus reset" : "not locked");
      return { name: `lock of link ${link}`, says };
    }
  }
  return undefined;
}

function unreadable(value: number): string {
  return value >>> 0 === 0xffffffff
    ? "all ones: the device does not answer, which proves nothing"
    : "the read failed inside the chip, which proves nothing";
}
