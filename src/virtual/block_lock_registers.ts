import { ga100LinkRegisters, NV_PMC_BOOT_0, PART_FACTS, type PartFacts } from "../machine/part.js";
import type { LinkRegisters, Recorded } from "./link_registers.js";

/** One link's pair of one-bit registers. */
interface LinkBlock {
  block: number;
  lock: number;
}

/** Which link's register lies at an offset of BAR0; the same for every GA100. */
const PLACES: ReadonlyMap<number, { link: number; name: keyof LinkBlock }> = placesOfLinks();

function placesOfLinks(): Map<number, { link: number; name: keyof LinkBlock }> {
  const places = new Map<number, { link: number; name: keyof LinkBlock }>();
  for (let link = 0; link < PART_FACTS.GA100.links; link++) {
    const { block, lock } = ga100LinkRegisters(link);
    places.set(block, { link, name: "block" }).set(lock, { link, name: "lock" });
  }
  return places;
}

/**
 * The link registers of GA100: per link a block and a lock register. Both reading 1 is a cut link; the lock keeps both as
 * they are until the next secondary bus reset, through function level resets (NVIDIA/gpu-admin-tools
 * gpu/units/nvlink_ampere.py).
 */
export class BlockLockRegisters implements LinkRegisters {
  readonly pages = [NV_PMC_BOOT_0, ...PLACES.keys()].map((offset) => offset >>> 12);
  readonly #boot0: number;
  readonly #links: LinkBlock[];

  constructor(facts: PartFacts, recorded: Recorded) {
    this.#boot0 = recorded.get(NV_PMC_BOOT_0) ?? facts.boot0;
    this.#links = Array.from({ length: facts.links }, (_, number) => {
      const at = ga100LinkRegisters(number);
      return { block: recorded.get(at.block) === 1 ? 1 : 0, lock: recorded.get(at.lock) === 1 ? 1 : 0 };
    });
  }

  read(offset: number): number | undefined {
    if (offset === NV_PMC_BOOT_0) return this.#boot0;
    const place = PLACES.get(offset);
    return place && this.#links[place.link]?.[place.name];
  }

  write(offset: number, value: number): boolean {
    if (offset === NV_PMC_BOOT_0) return true;
    const place = PLACES.get(offset);
    const link = this.#links[place?.link ?? -1];
    if (place === undefined || link === undefined) return false;
    if (link.lock === 0) link[place.name] = value & 1;
    return true;
  }

  reset(): void {
    for (const link of this.#links) {
      link.block = 0;
      link.lock = 0;
    }
  }

  /** Clears what is not locked. */
  functionLevelReset(): void {
    for (const link of this.#links) if (link.lock === 0) link.block = 0;
  }

  enabled(link: number): boolean {
    return this.#links[link] !== undefined && !this.cut(link);
  }

  cut(link: number): boolean {
    const registers = this.#links[link];
    return registers?.block === 1 && registers.lock === 1;
  }

  get contents(): readonly number[] {
    return this.#links.flatMap(({ block, lock }) => [block, lock]);
  }
}
