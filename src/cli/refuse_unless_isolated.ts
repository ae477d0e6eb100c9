import type { Plan } from "../isolation/plan.js";
import { isolationRefusal } from "../isolation/serving_plan.js";
import { UsageError } from "./failure.js";

/** @throws UsageError for a plan that leaves a link up between two owners, with its first problem and what to do */
export function refuseUnlessIsolated(plan: Plan): void {
  const refusal = isolationRefusal(plan);
  if (refusal !== undefined) throw new UsageError(`this plan cannot isolate, so nothing was touched: ${refusal}`);
}
