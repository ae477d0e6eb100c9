import type { Plan } from "../../isolation/plan.js";
import { servingPlan, servingRefusal } from "../../isolation/serving_plan.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { refuseUnlessIsolated } from "../refuse_unless_isolated.js";
import type { ServingData } from "./messages.js";

/**
 * The plan for serving these assignments.
 * @param options `leaving`: GPUs that are served and will not be
 * @throws UsageError for a plan that does not isolate, or that is not served (`servingRefusal`)
 */
export function planToServe(
  machine: Machine,
  assignments: readonly Assignment[],
  options: Pick<ServingData, "includeHost" | "isolateNvlink"> & { leaving?: readonly PciAddress[] },
): Plan {
  const plan = servingPlan(machine, assignments, options);
  refuseUnlessIsolated(plan);
  const refusal = servingRefusal(machine, assignments, plan);
  if (refusal !== undefined) throw new UsageError(`nothing was touched: ${refusal}`);
  return plan;
}
