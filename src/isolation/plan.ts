import { isCutHere } from "../machine/link_state.js";
import type { Assignment, FarEnd, Gpu, Link, Machine, Part } from "../machine/machine.js";
import { disableMask, partFacts } from "../machine/part.js";
import type { PciAddress } from "../pci/address.js";
import { acsOverrides } from "./acs_overrides.js";
import { HOST, ownersOf } from "./assignment.js";
import { type IovaHole, iovaHoles } from "./iova_holes.js";
import { effectiveGroups, type IsolationOptions, isolation, type JoinedPair } from "./isolation.js";
import { canCut, type GpuPair, LinkGraph } from "./links.js";
import { type PlanProblem, planProblems } from "./plan_problems.js";

/** What the plan is for one GPU. */
export interface GpuPlan {
  name: string;
  address: PciAddress;
  part: Part;
  /** The owner: an assignment's name, or `host`. */
  assignment: string;
  keptLinks: number[];
  cutLinks: number[];
  /** The value that cuts `cutLinks` (unsigned 32 bits); null on a part that has no mask register. */
  disableMask: number | null;
  /** Only clearing disable bits needs a reset: a link that is to stay up is proven cut at this end. */
  resetNeeded: boolean;
  /** Not to be touched (bound to a host driver), or not touchable: its links are cut at the other end only. */
  untouched: boolean;
}

/** A link that the plan cuts between two owners, or to a far end nobody knows, and the ends at which it will be cut. */
export interface CrossLink {
  gpu: PciAddress;
  link: number;
  far: PciAddress | null;
  farLink: number | null;
  cutAt: "both" | "one" | "none";
}

/**
 * One step of carrying the plan out, in order. All `cut` steps come first: they set bits only and need no reset, so that
 * when a GPU is reset every far end in another assignment is already cut (far end first).
 */
export interface PlanStep {
  action: "cut" | "reset-and-cut";
  gpu: PciAddress;
  /** For a reset: link ends of other owners that must be read back as cut before it begins. */
  farEndsFirst: { gpu: PciAddress; link: number }[];
}

/** Which links to keep and to cut on each GPU so that no owner reaches another's. */
export interface Plan {
  machine: string;
  virtual: boolean;
  /** Every link between two owners is cut at one end at least, and no problem is an error. */
  isolated: boolean;
  gpus: GpuPlan[];
  crossLinks: CrossLink[];
  problems: PlanProblem[];
  notes: string[];
  steps: PlanStep[];
  iovaHoles: { assignment: string; holes: IovaHole[] }[];
}

/** What a plan may do besides. */
export interface PlanOptions extends IsolationOptions {
  /** Touch GPUs of the host although a driver has them. */
  includeHost?: boolean;
  /**
   * Plan a reset for every GPU that an assignment has, for whoever serves it resets it at any time. A reset that cannot be
   * made safe is an error then, whatever is cut at the moment.
   */
  resetAll?: boolean;
  /** Plan a reset for these too, whoever has them. */
  resetToo?: readonly PciAddress[];
}

/**
 * Plans which links to keep and which to cut. A link is kept when its far end is an NPU bridge of this very GPU or a GPU
 * of the same owner (for an NVSwitch: when all GPUs on it have one owner); every other link of the part is cut, also one
 * whose far end nobody knows. Time is linear in the number of links.
 */
export function makePlan(machine: Machine, assignments: readonly Assignment[], options: PlanOptions = {}): Plan {
  const graph = new LinkGraph(machine);
  const ownerOf = ownersOf(machine, assignments);
  const keeps = linkKeeper(machine, graph, ownerOf);
  const drivers = new Map(machine.functions.map((fn) => [fn.address, fn.driver]));
  const gpus = machine.gpus.map((gpu) => {
    const assignment = ownerOf(gpu.address);
    const busy = assignment === HOST && drivers.get(gpu.address) !== undefined && options.includeHost !== true;
    return planGpu(gpu, assignment, keeps, busy || !canCut(gpu));
  });
  const planOf = new Map(gpus.map((gpu) => [gpu.address, gpu]));
  const crossLinks = crossLinksOf(machine, graph, planOf);
  const steps = stepsOf(gpus, graph, planOf, options);
  const state = isolation(machine, options, graph);
  const pcie = state.pairs.filter((pair) => pair.via === "pcie");
  const problems = planProblems({ machine, assignments, graph, ownerOf, planOf, crossLinks, steps, drivers, pcie });
  return {
    machine: machine.name,
    virtual: machine.virtual,
    isolated:
      crossLinks.every((link) => link.cutAt !== "none") && problems.every((problem) => problem.severity !== "error"),
    gpus,
    crossLinks,
    problems,
    notes: planNotes(machine, graph, gpus, effectiveGroups(state), ownerOf),
    steps,
    iovaHoles: iovaHoles(machine, assignments, ownerOf, joinsAfter(pcie, machine, planOf)),
  };
}

/** Whether a link stays up: see {@link makePlan}. */
type Keeper = (gpu: Gpu, link: Link) => boolean;

function linkKeeper(machine: Machine, graph: LinkGraph, ownerOf: (address: string) => string): Keeper {
  const gpuOfBridge = new Map(machine.bridges.map((bridge) => [bridge.address, bridge.gpu]));
  const switchOwners = new Map<string, Set<string>>();
  for (const [name, ends] of graph.switches) {
    switchOwners.set(name, new Set(ends.map((end) => ownerOf(end.gpu.address))));
  }
  return (gpu, link) => {
    const { far } = link;
    if (graph.isUnknown(link)) return false;
    switch (far.kind) {
      case "bridge":
        return gpu.bridges.includes(far.bridge) && (gpuOfBridge.get(far.bridge) ?? gpu.address) === gpu.address;
      case "gpu":
        return ownerOf(far.gpu) === ownerOf(gpu.address);
      case "switch":
        return switchOwners.get(far.switch)?.size === 1;
      default:
        return false;
    }
  };
}

function planGpu(gpu: Gpu, assignment: string, keeps: Keeper, untouched: boolean): GpuPlan {
  const facts = partFacts(gpu.part);
  const kept = gpu.links.filter((link) => keeps(gpu, link));
  const keptLinks = kept.map((link) => link.number).sort((a, b) => a - b);
  const all =
    facts === undefined ? gpu.links.map((link) => link.number) : Array.from({ length: facts.links }, (_, i) => i);
  const staying = new Set(keptLinks);
  const cutLinks = all.filter((number) => !staying.has(number)).sort((a, b) => a - b);
  return {
    name: gpu.name,
    address: gpu.address,
    part: gpu.part,
    assignment,
    keptLinks,
    cutLinks,
    disableMask: facts?.interface === "mask" ? disableMask(cutLinks) : null,
    resetNeeded: !untouched && kept.some((link) => isCutHere(gpu.part, link)),
    untouched,
  };
}

/**
 * Every link that the plan cuts between an assignment and somebody else, or a far end nobody knows, once per link. A link
 * of the host that leads nowhere known is not among them: whatever it might meet is cut at the assigned end.
 */
function crossLinksOf(machine: Machine, graph: LinkGraph, planOf: Map<PciAddress, GpuPlan>): CrossLink[] {
  const ownerOf = (address: PciAddress) => planOf.get(address)?.assignment ?? HOST;
  const touches = (address: PciAddress) => planOf.get(address)?.untouched === false;
  const cross: CrossLink[] = [];
  for (const gpu of machine.gpus) {
    const kept = new Set(planOf.get(gpu.address)?.keptLinks);
    for (const link of gpu.links) {
      const { number } = link;
      const far: FarEnd = graph.isUnknown(link) ? { kind: "unknown" } : link.far;
      if (kept.has(number) || far.kind === "none") continue;
      const pair = far.kind === "gpu" ? graph.pair(gpu.address, far.gpu) : undefined;
      const [near, there] = pair?.a.address === gpu.address ? [pair.atA, pair.atB] : [pair?.atB ?? [], pair?.atA ?? []];
      // Told from the end that lists more of the pair's links, the first GPU's when both list as many.
      const toldThere = there.length > near.length || (there.length === near.length && pair?.b.address === gpu.address);
      const farAddress = far.kind === "gpu" ? far.gpu : far.kind === "bridge" ? far.bridge : null;
      const hosts = ownerOf(gpu.address) === HOST && (farAddress === null || ownerOf(farAddress) === HOST);
      if (hosts || (pair !== undefined && toldThere)) continue;
      const atFar = pair !== undefined && there.length >= near.length && touches(far.kind === "gpu" ? far.gpu : "");
      const ends = Number(touches(gpu.address)) + Number(atFar);
      cross.push({
        gpu: gpu.address,
        link: number,
        far: farAddress,
        farLink: far.kind === "gpu" ? (far.link ?? null) : null,
        cutAt: ends === 2 ? "both" : ends === 1 ? "one" : "none",
      });
    }
  }
  return cross;
}

/** Cuts first, everywhere; then the resets, in order of address, each behind its far ends. */
function stepsOf(
  gpus: readonly GpuPlan[],
  graph: LinkGraph,
  planOf: Map<PciAddress, GpuPlan>,
  { resetAll = false, resetToo = [] }: PlanOptions,
): PlanStep[] {
  const touched = gpus.filter((gpu) => !gpu.untouched);
  const resets = touched.filter(
    ({ resetNeeded, assignment, address }) =>
      resetNeeded || (resetAll && assignment !== HOST) || resetToo.includes(address),
  );
  const pairsOf = new Map<PciAddress, GpuPair[]>(resets.map((gpu) => [gpu.address, []]));
  for (const pair of graph.pairs) {
    pairsOf.get(pair.a.address)?.push(pair);
    pairsOf.get(pair.b.address)?.push(pair);
  }
  return [
    ...touched.map((gpu): PlanStep => ({ action: "cut", gpu: gpu.address, farEndsFirst: [] })),
    ...resets.map((gpu): PlanStep => {
      const farEndsFirst = farEnds(gpu, pairsOf.get(gpu.address) ?? [], planOf);
      return { action: "reset-and-cut", gpu: gpu.address, farEndsFirst };
    }),
  ];
}

/**
 * The ends at GPUs of other owners of all links that may reach this one, whichever side lists them. Of a GPU that does not
 * list as many links to this one as this one to it, all that the plan cuts. What lies beyond a switch or nobody knows where
 * is no end to name: `planProblems` refuses such a reset.
 */
function farEnds(gpu: GpuPlan, pairs: readonly GpuPair[], planOf: Map<PciAddress, GpuPlan>): PlanStep["farEndsFirst"] {
  const ends = new Map<string, { gpu: PciAddress; link: number }>();
  const add = (address: PciAddress, link: number) => ends.set(`${address} ${link}`, { gpu: address, link });
  for (const { a, b, atA, atB } of pairs) {
    const other = planOf.get(a.address === gpu.address ? b.address : a.address);
    if (other === undefined || other.assignment === gpu.assignment) continue;
    const [near, there] = a.address === gpu.address ? [atA, atB] : [atB, atA];
    for (const end of there) add(other.address, end.link.number);
    if (there.length < near.length) for (const link of other.cutLinks) add(other.address, link);
  }
  return [...ends.values()];
}

/** What is joined after the plan: what PCIe does not keep apart, and by every kept link its two ends. */
function* joinsAfter(
  pcie: readonly JoinedPair[],
  machine: Machine,
  planOf: Map<PciAddress, GpuPlan>,
): Generator<{ a: string; b: string }> {
  yield* pcie;
  for (const gpu of machine.gpus) {
    const kept = new Set(planOf.get(gpu.address)?.keptLinks);
    for (const { number, far } of gpu.links) {
      if (!kept.has(number)) continue;
      if (far.kind === "gpu") yield { a: gpu.address, b: far.gpu };
      else if (far.kind === "bridge") yield { a: gpu.address, b: far.bridge };
      else if (far.kind === "switch") yield { a: gpu.address, b: far.switch };
    }
  }
}

function planNotes(
  machine: Machine,
  graph: LinkGraph,
  gpus: readonly GpuPlan[],
  groups: readonly PciAddress[][],
  ownerOf: (address: string) => string,
): string[] {
  const notes: string[] = [];
  const lost = new Set(graph.toUnknown.map((end) => end.gpu.name));
  if (lost.size > 0) notes.push(`far ends not known, so these links are cut: ${[...lost].join(", ")}`);
  const contested = new Set(graph.toUnknown.filter((end) => graph.isContested(end.link)).map((end) => end.gpu.name));
  if (contested.size > 0) notes.push(`descriptions of links contradict each other: ${[...contested].join(", ")}`);
  notes.push(...(machine.disagreements ?? []).map(({ reason }) => `sources disagree: ${reason}`));
  if (machine.gpus.some((gpu) => gpu.links.some((link) => link.assumed === true))) {
    notes.push("some link numbers are assumed, not read from this machine; verify them before you rely on them");
  }
  for (const { parameter, gpus: weakened, reason } of acsOverrides(machine)) {
    notes.push(`${parameter} weakens the path of ${weakened.join(", ")}: ${reason}; cutting links does not mend that`);
  }
  const inferred = new Set(gpus.flatMap((gpu) => partFacts(gpu.part)?.inferred ?? []));
  notes.push(...inferred);
  const gpuAddresses = new Set(gpus.map((gpu) => gpu.address));
  for (const group of groups) {
    const owners = new Set(group.filter((address) => gpuAddresses.has(address)).map(ownerOf));
    if (machine.platform === "powernv" && owners.size > 1) {
      notes.push(
        `${[...owners].join(" and ")} share a compound IOMMU group; a kernel of 5.1 to 5.12 with the isolate_nvlink patch splits it`,
      );
    }
  }
  return notes;
}
