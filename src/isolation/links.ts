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
  /** Both ways: under each GPU of a pair, by the other. */
  readonly #pairsOf = new Map<PciAddress, Map<PciAddress, GpuPair>>();
  /** Links between GPUs that are cut at one end at least. */
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
    const judged = this.#cut.get(link);
    if (judged !== undefined) return judged;
    return link.evidence !== undefined && isCutHere(gpu.part, link) ? "one" : "none";
  }

  /** The links between two GPUs, or undefined where there are none. */
  pair(a: PciAddress, b: PciAddress): GpuPair | undefined {
    return this.#pairsOf.get(a)?.get(b);
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
    let pair = this.#pairsOf.get(gpu.address)?.get(other.address);
    if (pair === undefined) {
      const first = (order.get(gpu.address) ?? 0) < (order.get(other.address) ?? 0);
      const [a, b] = first ? [gpu, other] : [other, gpu];
      pair = { a, b, atA: [], atB: [] };
      this.#index(a, b, pair);
      this.#index(b, a, pair);
      this.pairs.push(pair);
    }
    (pair.a === gpu ? pair.atA : pair.atB).push(end);
  }

  #index(from: Gpu, to: Gpu, pair: GpuPair): void {
    const own = this.#pairsOf.get(from.address);
    if (own === undefined) this.#pairsOf.set(from.address, new Map([[to.address, pair]]));
    else own.set(to.address, pair);
  }

  #judgePair({ a, b, atA, atB }: GpuPair): void {
    const [cutA, cutB] = [atA.map((end) => isCutHere(a.part, end.link)), atB.map((end) => isCutHere(b.part, end.link))];
    if (!cutA.includes(true) && !cutB.includes(true)) return;
    this.#judgeEnds(atA, cutA, atB, cutB);
    this.#judgeEnds(atB, cutB, atA, cutA);
  }

  #judgeEnds(near: LinkEnd[], cutNear: boolean[], far: LinkEnd[], cutFar: boolean[]): void {
    const allFarCut = far.length > 0 && far.length >= near.length && !cutFar.includes(false);
    near.forEach(({ link }, index) => {
      const meets = far.findIndex((end) => link.far.kind === "gpu" && end.link.number === link.far.link);
      const there = allFarCut || (link.assumed !== true && meets >= 0 && cutFar[meets] === true);
      const here = cutNear[index] === true;
      if (here || there) this.#cut.set(link, here && there ? "both" : "one");
    });
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
