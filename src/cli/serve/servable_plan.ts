import { HOST } from "../../isolation/assignment.js";
import { makePlan, type Plan } from "../../isolation/plan.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { refuseUnlessIsolated } from "../refuse_unless_isolated.js";
import type { ServingData } from "./messages.js";

/**
 * The plan for serving these assignments: each of their GPUs may be reset at any time.
 * @param options `leaving`: GPUs that are served and will not be; a function of this host is reset when it is let go
 * @throws UsageError for a plan that does not isolate, that leaves a link cut at one end only because a driver of the host
 * has the other, or that hands out a GPU without a fence, and of a virtual machine for an assignment that has no GPU
 */
export function planToServe(
  machine: Machine,
  assignments: readonly Assignment[],
  options: Pick<ServingData, "includeHost" | "isolateNvlink"> & { leaving?: readonly PciAddress[] },
): Plan {
  const { includeHost, isolateNvlink, leaving = [] } = options;
  const planning = {
    resetAll: true,
    resetToo: machine.virtual ? [] : leaving,
    includeHost,
    ...(isolateNvlink !== undefined && { isolateNvlink }),
  };
  const plan = makePlan(machine, assignments, planning);
  refuseUnlessIsolated(plan);
  const gpus = new Set(machine.gpus.map(({ address }) => address));
  const empty = assignments.find(({ members }) => !members.some((member) => gpus.has(member)));
  if (machine.virtual && empty !== undefined) {
    throw new UsageError(`nothing was touched: assignment ${empty.name} has no GPU, so nothing of it would be served`);
  }
  const bound = plan.problems.find(({ kind }) => kind === "host-gpu-bound");
  if (bound !== undefined) throw new UsageError(`nothing was touched: ${bound.message}; ${bound.action}`);
  const bare = plan.gpus.find(({ assignment, untouched }) => assignment !== HOST && untouched);
  if (bare !== undefined) {
    throw new UsageError(
      `nothing was touched: ${bare.name} is no part that linkfence can fence, so it is not served; leave it to the host`,
    );
  }
  return plan;
}
