import type { Assignment, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { HOST } from "./assignment.js";
import { makePlan, type Plan, type PlanOptions } from "./plan.js";

/** How a server plans. */
export interface ServingOptions extends Pick<PlanOptions, "includeHost" | "isolateNvlink"> {
  /** GPUs that are served and will not be. */
  leaving?: readonly PciAddress[];
}

/**
 * The plan for serving these assignments: each of their GPUs may be reset at any time, and a GPU of a real host is reset
 * when it is let go.
 */
export function servingPlan(machine: Machine, assignments: readonly Assignment[], options: ServingOptions): Plan {
  const { includeHost = false, isolateNvlink, leaving = [] } = options;
  return makePlan(machine, assignments, {
    resetAll: true,
    resetToo: machine.virtual ? [] : leaving,
    includeHost,
    ...(isolateNvlink !== undefined && { isolateNvlink }),
  });
}

/** Why a plan leaves a link up between two owners: its first problem and what to do. Undefined for one that does not. */
export function isolationRefusal(plan: Plan): string | undefined {
  if (plan.isolated) return undefined;
  const problem = plan.problems.find(({ severity }) => severity === "error");
  return problem === undefined ? "a link stays up between two owners" : `${problem.message}; ${problem.action}`;
}

/**
 * Why a plan that isolates is not served: it has nothing to serve of an assignment (of a virtual machine), leaves a link
 * cut at one end only because a driver of the host has the other, or hands out a GPU without a fence. Undefined where
 * nothing stands in the way.
 */
export function servingRefusal(machine: Machine, assignments: readonly Assignment[], plan: Plan): string | undefined {
  const gpus = new Set(machine.gpus.map(({ address }) => address));
  const empty = assignments.find(({ members }) => !members.some((member) => gpus.has(member)));
  if (machine.virtual && empty !== undefined) {
    return `assignment ${empty.name} has no GPU, so nothing of it would be served`;
  }
  const bound = plan.problems.find(({ kind }) => kind === "host-gpu-bound");
  if (bound !== undefined) return `${bound.message}; ${bound.action}`;
  const bare = plan.gpus.find(({ assignment, untouched }) => assignment !== HOST && untouched);
  if (bare !== undefined) {
    return `${bare.name} is no part that linkfence can fence, so it is not served; leave it to the host`;
  }
  return undefined;
}

/**
 * What a server resets when it goes over to a plan: GPUs that get another owner, and those of the host whose links are to
 * come up again. Links of the others come up with their next reset.
 * @param moved GPUs that get another owner
 */
export function servingResets(plan: Plan, moved: ReadonlySet<PciAddress>): PciAddress[] {
  const hosts = new Set(plan.gpus.flatMap(({ address, assignment }) => (assignment === HOST ? [address] : [])));
  return plan.steps
    .filter(({ action, gpu }) => action === "reset-and-cut" && (moved.has(gpu) || hosts.has(gpu)))
    .map(({ gpu }) => gpu);
}
