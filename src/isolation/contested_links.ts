import type { Gpu, Link, Machine } from "../machine/machine.js";
import { partFacts } from "../machine/part.js";
import type { PciAddress } from "../pci/address.js";

/**
 * The links of which nobody knows where they lead, because descriptions contradict each other: the two ends of a link name
 * different far ends, two links name the same far end or NPU bridge, or a link is listed twice. A far end that is not
 * listed, or not known, contradicts nothing. Linear in the number of links.
 */
export function contestedLinks(machine: Machine): Set<Link> {
  const claims = new Claims(machine);
  const contested = new Set<Link>();
  machine.gpus.forEach((gpu, index) => {
    for (const link of gpu.links) if (claims.isContested(gpu, index, link)) contested.add(link);
  });
  return contested;
}

/** One end of a link as a number: which GPU, which link. */
type End = number;

/** In place of the one end that names another, or the one link at an end, when there are several. */
const SEVERAL = -1;
const LINKS_PER_GPU = 0x10000;

/** What all links say of where they lead. */
class Claims {
  readonly #gpus: readonly Gpu[];
  readonly #index: ReadonlyMap<PciAddress, number>;
  readonly #linkAt = new Map<End, Link | typeof SEVERAL>();
  readonly #claimant = new Map<End, End | typeof SEVERAL>();
  readonly #bridgeClaimant = new Map<PciAddress, End | typeof SEVERAL>();
  /** How many links of one GPU lead to another, by both. */
  readonly #counts = new Map<number, number>();

  constructor({ gpus }: Machine) {
    this.#gpus = gpus;
    this.#index = new Map(gpus.map((gpu, index) => [gpu.address, index]));
    gpus.forEach((gpu, index) => {
      for (const link of gpu.links) this.#add(index, link);
    });
  }

  isContested(gpu: Gpu, index: number, link: Link): boolean {
    const end = endAt(index, link.number);
    if (this.#linkAt.get(end) === SEVERAL) return true;
    const { far } = link;
    if (far.kind === "unknown") return false;
    if (far.kind === "bridge") return this.#bridgeClaimant.get(far.bridge) !== end;
    const claimant = this.#claimant.get(end);
    const there = far.kind === "gpu" ? this.#index.get(far.gpu) : undefined;
    if (claimant !== undefined && (there === undefined || gpuAt(claimant) !== there)) return true;
    if (far.kind !== "gpu" || there === undefined) return false;
    if (far.link !== undefined) {
      const farEnd = endAt(there, far.link);
      if ((claimant !== undefined && claimant !== farEnd) || this.#isDenied(end, farEnd)) return true;
    }
    // Which of several links meet is then only assumed, so that one too many puts all of them in doubt.
    const paired = far.link !== undefined && link.assumed !== true;
    return !paired && this.#countsDiffer(gpu, index, there);
  }

  /** Others name the far end too, or it is listed and leads elsewhere, or its GPU cannot have it. */
  #isDenied(end: End, far: End): boolean {
    if (this.#claimant.get(far) !== end) return true;
    const there = this.#linkAt.get(far);
    if (there === undefined) return this.#isOutOfRange(far);
    if (there === SEVERAL) return true;
    if (there.far.kind === "unknown") return false;
    if (there.far.kind !== "gpu" || this.#index.get(there.far.gpu) !== gpuAt(end)) return true;
    return there.far.link !== undefined && there.far.link !== linkAt(end);
  }

  #isOutOfRange(end: End): boolean {
    const facts = partFacts(this.#gpus[gpuAt(end)]?.part ?? "unknown");
    return facts !== undefined && linkAt(end) >= facts.links;
  }

  /** One lists more links than the other can, links of which it does not know the far end included. */
  #countsDiffer(gpu: Gpu, here: number, there: number): boolean {
    const far = this.#gpus[there];
    const [mine, theirs] = [this.#count(here, there), this.#count(there, here)];
    if (mine === theirs || far === undefined || far.links.length === 0) return false;
    return mine > theirs + unknownEnds(far) || theirs > mine + unknownEnds(gpu);
  }

  #count(from: number, to: number): number {
    return this.#counts.get(from * this.#gpus.length + to) ?? 0;
  }

  #add(index: number, link: Link): void {
    const end = endAt(index, link.number);
    this.#linkAt.set(end, this.#linkAt.has(end) ? SEVERAL : link);
    const { far } = link;
    if (far.kind === "bridge") claim(this.#bridgeClaimant, far.bridge, end);
    const there = far.kind === "gpu" ? this.#index.get(far.gpu) : undefined;
    if (far.kind !== "gpu" || there === undefined) return;
    this.#counts.set(index * this.#gpus.length + there, this.#count(index, there) + 1);
    if (far.link !== undefined) claim(this.#claimant, endAt(there, far.link), end);
  }
}

function claim<Key>(claimants: Map<Key, End>, what: Key, by: End): void {
  claimants.set(what, claimants.has(what) ? SEVERAL : by);
}

function unknownEnds({ links }: Gpu): number {
  return links.reduce((count, { far }) => count + Number(far.kind === "unknown"), 0);
}

function endAt(gpu: number, link: number): End {
  return gpu * LINKS_PER_GPU + link;
}

function gpuAt(end: End): number {
  return Math.floor(end / LINKS_PER_GPU);
}

function linkAt(end: End): number {
  return end % LINKS_PER_GPU;
}
