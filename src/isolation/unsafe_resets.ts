import type { PciAddress } from "../pci/address.js";
import { HOST } from "./assignment.js";
import type { LinkEnd, LinkGraph } from "./links.js";
import type { GpuPlan, PlanStep } from "./plan.js";
import type { PlanProblem, PlanState } from "./plan_problems.js";

/**
 * A GPU that must be reset joins all its links again for a moment: every far end has to be known and cut beforehand, and
 * nothing else may be reset with it.
 */
export function unsafeResets(state: PlanState): PlanProblem[] {
  const resets = state.steps.filter((step) => step.action === "reset-and-cut");
  if (resets.length === 0) return [];
  const surroundings = new Surroundings(state);
  return resets.flatMap((step): PlanProblem[] => {
    const gpu = state.planOf.get(step.gpu);
    if (gpu === undefined) return [];
    return surroundings.dangersOf(gpu, step).map(({ others, reason, action }) => ({
      kind: "far-end-cannot-be-cut-first",
      severity: "error",
      gpus: [gpu.name, ...others],
      message: `${gpu.name} ${gpu.resetNeeded ? "needs a reset" : "is reset while it is served"}, which ${reason}`,
      action,
    }));
  });
}

interface Danger {
  others: string[];
  reason: string;
  action: string;
}

/** What a reset of a GPU may reach besides the far ends that its step names. */
class Surroundings {
  readonly #graph: LinkGraph;
  readonly #planOf: ReadonlyMap<PciAddress, GpuPlan>;
  readonly #unknown: OwnedEnds;
  readonly #switches = new Map<string, OwnedEnds>();
  readonly #onBus = new Map<string, GpuPlan[]>();
  readonly #silent: ReadonlySet<PciAddress>;
  readonly #ownerOf: (address: string) => string;

  constructor({ graph, planOf, ownerOf }: PlanState) {
    this.#graph = graph;
    this.#planOf = planOf;
    this.#ownerOf = ownerOf;
    this.#silent = new Set(graph.silent.map((gpu) => gpu.address));
    // Where the links of a GPU that lists none lead, nobody knows either.
    this.#unknown = new OwnedEnds([...graph.toUnknown, ...graph.silent.map((gpu) => ({ gpu }))], planOf);
    for (const [name, ends] of graph.switches) this.#switches.set(name, new OwnedEnds(ends, planOf));
    for (const gpu of planOf.values()) {
      const bus = this.#onBus.get(busOf(gpu.address));
      if (bus === undefined) this.#onBus.set(busOf(gpu.address), [gpu]);
      else bus.push(gpu);
    }
  }

  dangersOf(gpu: GpuPlan, step: PlanStep): Danger[] {
    const links = this.#graph.gpus.get(gpu.address)?.links ?? [];
    const dangers: Danger[] = [];
    const far = new Set(step.farEndsFirst.map((end) => this.#planOf.get(end.gpu)));
    const stuck = [...far].flatMap((other) => (other?.untouched === true ? [other.name] : []));
    if (stuck.length > 0) {
      const reason = `joins its links to ${stuck.join(", ")} again until it is fenced`;
      const action = "unbind those GPUs or give --include-host, so that their ends are cut first";
      dangers.push({ others: stuck, reason, action });
    }
    const lost = links.filter((link) => this.#graph.isUnknown(link)).map((link) => link.number);
    if ((lost.length > 0 || this.#silent.has(gpu.address)) && this.#unknown.hasOthersThan(gpu.assignment)) {
      const numbers = lost.length === 0 ? "links" : `${lost.length === 1 ? "link" : "links"} ${lost.join(", ")}`;
      const reason = `joins its ${numbers} again, and nobody knows whether to another owner's`;
      dangers.push({ others: [], reason, action: `tell where its links end, or ${RESET_ALL}` });
    }
    const bridges = links.flatMap(({ far, number }) => {
      const foreign = far.kind === "bridge" && !gpu.keptLinks.includes(number);
      return foreign && this.#ownerOf(far.bridge) !== gpu.assignment ? [far.bridge] : [];
    });
    if (bridges.length > 0) {
      const reason = `joins its link to ${[...new Set(bridges)].join(", ")}, an NPU bridge of another owner, until it is fenced`;
      dangers.push({ others: [], reason, action: `assign the bridge together with the GPU, or ${RESET_ALL}` });
    }
    const switches = new Set(links.flatMap((link) => (link.far.kind === "switch" ? [link.far.switch] : [])));
    const mixed = [...switches].filter((name) => this.#switches.get(name)?.hasOthersThan(gpu.assignment));
    if (mixed.length > 0) {
      const reason = `joins it to other owners on NVSwitch ${mixed.join(", ")} until it is fenced`;
      dangers.push({ others: [], reason, action: `give all GPUs on the switch to one owner, or ${RESET_ALL}` });
    }
    // A secondary bus reset knows no single function.
    const along = (this.#onBus.get(busOf(gpu.address)) ?? []).filter((other) => other !== gpu);
    if (along.length > 0) {
      const others = along.map((other) => other.name).slice(0, MOST_NAMES);
      dangers.push({ others, reason: `resets ${others.join(", ")} on the same bus as well`, action: RESET_ALL });
    }
    return dangers;
  }
}

const RESET_ALL = "shut down whoever uses these GPUs and reset all of them";
/** A bus has room for 256 functions; a problem has not. */
const MOST_NAMES = 16;

/** How many of some link ends each owner has. */
class OwnedEnds {
  readonly #total: number;
  readonly #byOwner = new Map<string, number>();

  constructor(ends: readonly Pick<LinkEnd, "gpu">[], planOf: ReadonlyMap<PciAddress, GpuPlan>) {
    this.#total = ends.length;
    for (const { gpu } of ends) {
      const owner = planOf.get(gpu.address)?.assignment ?? HOST;
      this.#byOwner.set(owner, (this.#byOwner.get(owner) ?? 0) + 1);
    }
  }

  hasOthersThan(owner: string): boolean {
    return this.#total > (this.#byOwner.get(owner) ?? 0);
  }
}

/** Domain and bus. */
function busOf(address: PciAddress): string {
  return address.slice(0, -"00.0".length);
}
