import type { Fences } from "../../src/fence/fences.js";
import { brokenInvariants, type GpuMoment } from "../../src/fence/invariants.js";
import type { CrossLink, Plan } from "../../src/isolation/plan.js";
import type { PciAddress } from "../../src/pci/address.js";
import type { SimulatedMachine } from "./hardware.js";

/**
 * Looks at the hardware itself, in the middle of everything that touches it, and says whether a rule is broken. What it
 * finds is kept, for nothing that is thrown from there would get through.
 */
export class Judge {
  /** The first thing that was found. */
  finding: string | undefined;
  /** Looks so far. */
  looks = 0;
  #hardware: SimulatedMachine | undefined;
  #fences: Fences | undefined;
  #plan: Plan | undefined;
  /** GPUs whose clients are there at this moment. */
  readonly #connected = new Set<PciAddress>();
  /** GPUs that a client may have left something running on. */
  readonly #touched = new Set<PciAddress>();
  /** GPUs that somebody else has reset, and what their fences said then: they cannot know yet. */
  readonly #unnoticed = new Map<PciAddress, unknown>();
  /** Links that have come to lie between two owners, and neither end has been fenced since nor anybody been let in. */
  readonly #fresh = new Set<string>();

  /** Other hardware: the power was off. */
  set hardware(hardware: SimulatedMachine) {
    this.#hardware = hardware;
    this.serverEnded();
    this.#plan = undefined;
  }

  /** The fences of the server that has begun; what was known of the last one's clients is over. */
  set fences(fences: Fences | undefined) {
    this.serverEnded();
    this.#fences = fences;
  }

  /** Without its server nobody reaches a virtual GPU, and nothing runs on it. */
  serverEnded(): void {
    this.#fences = undefined;
    this.#connected.clear();
    this.#touched.clear();
    this.#unnoticed.clear();
  }

  clientCame(gpu: PciAddress): void {
    this.#connected.add(gpu);
    this.#touched.add(gpu);
    for (const key of this.#fresh)
      if (this.#plan?.crossLinks.some((each) => keyOf(each) === key && (each.gpu === gpu || each.far === gpu)))
        this.#fresh.delete(key);
    if (this.#fences?.of(gpu).state.kind !== "in force")
      this.#find(`a client was let in to ${gpu} although its fence is not in force`);
  }

  clientLeft(gpu: PciAddress): void {
    this.#connected.delete(gpu);
  }

  resetBegins(gpu: PciAddress): void {
    if (!this.#connected.has(gpu)) this.#touched.delete(gpu);
  }

  resetFromOutside(gpu: PciAddress): void {
    const state = this.#fences?.of(gpu).state;
    if (state?.kind === "in force") this.#unnoticed.set(gpu, state);
  }

  clientAccess(gpu: PciAddress): void {
    const state = this.#fences?.of(gpu).state.kind;
    if (state !== "in force") this.#find(`a client's access reached ${gpu} while its fence is ${state ?? "not there"}`);
  }

  /** Whether a GPU is fenced, the far ends of all of its links to others are cut, and nobody relies on its own. */
  mayBeResetFromOutside(gpu: PciAddress): boolean {
    const fences = this.#fences;
    if (fences?.of(gpu).state.kind !== "in force") return false;
    return fences.plan.crossLinks.every(({ gpu: near, link, far, farLink }) => {
      if (near !== gpu && far !== gpu) return true;
      const other = near === gpu ? far : near;
      const number = near === gpu ? farLink : link;
      // Nothing is cut at the other end of such a link.
      if (other === null) return false;
      if (number === null || this.#unnoticed.has(other) || !fences.plan.gpus.some((each) => each.address === other))
        return false;
      const virtual = this.#hardware?.gpu(other);
      return fences.of(other).state.kind === "in force" && virtual?.inReset === false && !virtual.linkEnabled(number);
    });
  }

  look(): void {
    const [fences, hardware] = [this.#fences, this.#hardware];
    if (fences === undefined || hardware === undefined || this.finding !== undefined) return;
    this.looks++;
    if (fences.plan !== this.#plan) this.#follow(fences.plan);
    const moments = new Map<PciAddress, GpuMoment>();
    for (const { address } of fences.plan.gpus) moments.set(address, this.#moment(fences, hardware, address));
    if (this.#fresh.size > 0) this.#age(fences.plan, moments);
    const crossLinks = fences.plan.crossLinks.filter(
      (link) => isKnown(fences.plan, link) && !this.#fresh.has(keyOf(link)),
    );
    // While a plan gives way to another, fences follow it one after the other.
    const gpus = fences.all.map(({ plan }) => plan);
    const [broken] = brokenInvariants({ ...fences.plan, gpus, crossLinks }, (address) => moments.get(address));
    if (broken !== undefined) this.#find(broken);
    for (const { gpu, link, far } of crossLinks) {
      const touched = moments.get(gpu)?.attached === true || (far !== null && moments.get(far)?.attached === true);
      if (touched && hardware.linkUp(gpu, link))
        this.#find(`link ${link} of ${gpu} to ${far} is up, and a client may be there`);
    }
  }

  #moment(fences: Fences, hardware: SimulatedMachine, address: PciAddress): GpuMoment {
    const { state, attached } = fences.of(address);
    const gpu = hardware.gpu(address);
    const cut = new Set(gpu.gpu.links.map(({ number }) => number).filter((link) => gpu.linkCut(link)));
    if (this.#touched.has(address) && !attached) {
      this.#find(
        `the fence of ${address} says that nobody is there, and no reset has ended what a client may have left running`,
      );
    }
    const unnoticed = this.#unnoticed.get(address);
    if (unnoticed !== undefined && unnoticed !== state) this.#unnoticed.delete(address);
    return {
      state: this.#unnoticed.has(address) ? "unfenced" : state.kind,
      attached: attached || this.#touched.has(address),
      cut,
    };
  }

  #follow(plan: Plan): void {
    const before = new Set(this.#plan?.crossLinks.map(keyOf));
    for (const key of plan.crossLinks.map(keyOf)) if (!before.has(key)) this.#fresh.add(key);
    for (const key of this.#fresh) if (!plan.crossLinks.some((link) => keyOf(link) === key)) this.#fresh.delete(key);
    this.#plan = plan;
  }

  #age(plan: Plan, moments: ReadonlyMap<PciAddress, GpuMoment>): void {
    const isFenced = (address: PciAddress | null) => address !== null && moments.get(address)?.state === "in force";
    for (const each of plan.crossLinks) if (isFenced(each.gpu) || isFenced(each.far)) this.#fresh.delete(keyOf(each));
  }

  #find(what: string): void {
    this.finding ??= what;
  }
}

/** A link that nobody can cut at its other end is not cut while its GPU is reset; that it is afterwards, the fence's state says. */
function isKnown(plan: Plan, { far, farLink }: CrossLink): boolean {
  return farLink !== null && plan.gpus.some(({ address }) => address === far);
}

function keyOf({ gpu, link }: { gpu: PciAddress; link: number }): string {
  return `${gpu}/${link}`;
}
