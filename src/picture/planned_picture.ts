import type { IsolationOptions } from "../isolation/isolation.js";
import type { GpuPlan, Plan } from "../isolation/plan.js";
import type { Assignment, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { type Picture, pictureOf } from "./picture.js";
import type { Wire, WireEnd, WireState } from "./wires.js";

/**
 * The picture of a machine as it will be when a plan is carried out and every GPU has been reset. What is cut in it is
 * planned and no registers show it, so it says that it is a plan. Its findings are the plan's problems, in their order.
 */
export function plannedPicture(
  machine: Machine,
  assignments: readonly Assignment[],
  plan: Plan,
  options: IsolationOptions = {},
): Picture {
  const now = pictureOf(machine, assignments, options);
  const planner = new WirePlanner(now, plan);
  return {
    ...now,
    planned: true,
    source: "as planned: nothing of this is done yet",
    gpus: now.gpus.map((gpu) => ({ ...gpu, findings: problemsOf(gpu.name, plan) })),
    wires: now.wires.map((wire) => planner.planned(wire)),
    findings: plan.problems.map(({ kind, message, action }, at) => ({
      number: at + 1,
      kind,
      reason: message,
      action,
    })),
  };
}

/** Numbers of the problems about a GPU that are about no link. */
function problemsOf(name: string, { problems }: Plan): number[] {
  return problems.flatMap(({ kind, gpus }, at) => (kind !== OPEN_LINK && gpus.includes(name) ? [at + 1] : []));
}

const OPEN_LINK = "link-cannot-be-cut";

class WirePlanner {
  readonly #plan: Plan;
  readonly #picture: Picture;
  readonly #plans: ReadonlyMap<PciAddress, GpuPlan>;
  /** Ends of links between two owners that stay up. */
  readonly #open: ReadonlySet<string>;

  constructor(picture: Picture, plan: Plan) {
    this.#picture = picture;
    this.#plan = plan;
    this.#plans = new Map(plan.gpus.map((gpu) => [gpu.address, gpu]));
    const open = plan.crossLinks.filter(({ cutAt }) => cutAt === "none");
    this.#open = new Set(open.map(({ gpu, link }) => `${gpu} ${link}`));
  }

  planned(wire: Wire): Wire {
    const ends = wire.ends.map((end) => ({ ...end, cut: this.#isCut(end) })) as Wire["ends"];
    return { ...wire, ends, state: stateOf(ends, wire.state), findings: this.#problems(wire) };
  }

  #isCut({ gpu, link, cut }: WireEnd): boolean {
    const plan = this.#plans.get(this.#picture.gpus[gpu]?.address ?? "");
    return plan === undefined || plan.untouched ? cut : link !== undefined && plan.cutLinks.includes(link);
  }

  #problems({ ends }: Wire): number[] {
    const gpus = ends.map(({ gpu, link }) => ({ ...this.#picture.gpus[gpu], link }));
    if (!gpus.some(({ address, link }) => this.#open.has(`${address} ${link}`))) return [];
    return this.#plan.problems.flatMap(({ kind, gpus: about }, at) =>
      kind === OPEN_LINK && gpus.every(({ name = "" }) => about.includes(name)) ? [at + 1] : [],
    );
  }
}

/** What is cut now and no longer in the plan comes up with a reset. */
function stateOf(ends: Wire["ends"], now: WireState): WireState {
  const cut = ends.filter((end) => end.cut).length;
  if (cut > 0) return cut === 2 ? "cut-both" : "cut-one";
  return now === "cut-one" || now === "cut-both" ? "up" : now;
}
