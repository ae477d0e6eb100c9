import type { Plan } from "../isolation/plan.js";
import { UsageError } from "./failure.js";

/** @throws UsageError for a plan that leaves a link up between two owners, with its first problem and what to do */
export function refuseUnlessIsolated(plan: Plan): void {
  if (plan.isolated) return;
  const problem = plan.problems.find(({ severity }) => severity === "error");
  const why = problem === undefined ? "a link stays up between two owners" : `${problem.message}; ${problem.action}`;
  throw new UsageError(`this plan cannot isolate, so nothing was touched: ${why}`);
}
