import { isCutHere } from "../machine/link_state.js";
import type { Gpu, Link, Machine } from "../machine/machine.js";
import { partFacts } from "../machine/part.js";
import type { PciAddress } from "../pci/address.js";

/** One end of a link at a GPU. */
export interface LinkEnd {
  gpu: Gpu;
  link: Link;
}

/** All links between two GPUs, seen from both; `a` is the GPU that comes first in the machine. */
export interface GpuPair {
  a: Gpu;
  b: Gpu;
  /** The ends at `a`, by link number. */
  atA: LinkEnd[];
  /** The ends at `b`, by link number. */
  atB: LinkEnd[];
}

/** How much of a link is cut, from evidence: at both ends, at one, or not at all. */
export type CutAt = "both" | "one" | "none";

/** All NVLinks of a machine by what they join. Built once in time linear in the number of links. */
export class LinkGraph {
  readonly gpus = new Map<PciAddress, Gpu>();
  readonly pairs: GpuPair[] = [];
  /** Links into NVSwitches, by switch. */
  readonly switches = new Map<string, LinkEnd[]>();
  readonly toBridges: LinkEnd[] = [];
  /** Links whose far end is not known, or names a GPU that the machine does not have. */
  readonly toUnknown: LinkEnd[] = [];
  readonly #pairIndex = new Map<string, GpuPair>();
  readonly #cut = new Map<Link, CutAt>();

  constructor(machine: Machine) {
    for (const gpu of machine.gpus) this.gpus.set(gpu.address, gpu);
    const order = new Map(machine.gpus.map((gpu, index) => [gpu.address, index]));
    const bridges = new Set(machine.bridges.map((bridge) => bridge.address));
    for (const gpu of machine.gpus) {
      for (const link of gpu.links) this.#sort({ gpu, link }, order, bridges);
    }
    for (const pair of this.pairs) this.#judgePair(pair);
  }

  /**
   * How much of a link is cut. The far end's evidence counts only where it is certain which far link meets this one:
   * its number was read rather than assumed, or every far link to this GPU is cut.
   */
  cutAt({ gpu, link }: LinkEnd): CutAt {
    return this.#cut.get(link) ?? (isCutHere(gpu.part, link) ? "one" : "none");
  }

  /** The links between two GPUs, or undefined where there are none. */
  pair(a: PciAddress, b: PciAddress): GpuPair | undefined {
    return this.#pairIndex.get(`${a} ${b}`) ?? this.#pairIndex.get(`${b} ${a}`);
  }

  #sort(end: LinkEnd, order: Map<PciAddress, number>, bridges: Set<PciAddress>): void {
    const { far } = end.link;
    switch (far.kind) {
      case "gpu": {
        const other = this.gpus.get(far.gpu);
        if (other === undefined || other === end.gpu) this.toUnknown.push(end);
        else this.#pairOf(end.gpu, other, order, end);
        return;
      }
      case "bridge":
        (bridges.has(far.bridge) ? this.toBridges : this.toUnknown).push(end);
        return;
      case "switch": {
        const ends = this.switches.get(far.switch);
        if (ends === undefined) this.switches.set(far.switch, [end]);
        else ends.push(end);
        return;
      }
      case "unknown":
        this.toUnknown.push(end);
        return;
      case "none":
        return;
    }
  }

  #pairOf(gpu: Gpu, other: Gpu, order: Map<PciAddress, number>, end: LinkEnd): void {
    const first = (order.get(gpu.address) ?? 0) < (order.get(other.address) ?? 0);
    const [a, b] = first ? [gpu, other] : [other, gpu];
    const key = `${a.address} ${b.address}`;
    let pair = this.#pairIndex.get(key);
    if (pair === undefined) {
      pair = { a, b, atA: [], atB: [] };
      this.#pairIndex.set(key, pair);
      this.pairs.push(pair);
    }
    (first ? pair.atA : pair.atB).push(end);
  }

  #judgePair({ a, b, atA, atB }: GpuPair): void {
    for (const [ends, far, farPart] of [
      [atA, atB, b.part],
      [atB, atA, a.part],
    ] as const) {
      const farCut = far.map((end) => isCutHere(farPart, end.link));
      const allFarCut = far.length > 0 && far.length >= ends.length && farCut.every((cut) => cut);
      for (const { gpu, link } of ends) {
        const here = isCutHere(gpu.part, link);
        const meets = far.findIndex((end) => link.far.kind === "gpu" && end.link.number === link.far.link);
        const there = allFarCut || (link.assumed !== true && meets >= 0 && farCut[meets] === true);
        this.#cut.set(link, here && there ? "both" : here || there ? "one" : "none");
      }
    }
  }
}

/** Whether a fence exists that can cut links at this GPU. */
export function canCut(gpu: Gpu): boolean {
  return partFacts(gpu.part) !== undefined;
}

/** Link numbers for a sentence: `link 3`, `links 0, 4`. */
export function linkNumbers(ends: readonly LinkEnd[]): string {
  const numbers = ends.map((end) => end.link.number).sort((a, b) => a - b);
  return `${numbers.length === 1 ? "link" : "links"} ${numbers.join(", ")}`;
}
