import { ac922 } from "./builtin/ac922.js";
import { assemble } from "./builtin/assemble.js";
import { MINSKY } from "./builtin/minsky.js";
import type { WiringPlan } from "./builtin/wiring_plan.js";
import { C4140, DGX1V, HGX_A100_4 } from "./builtin/x86.js";
import { MachineError } from "./error.js";
import type { Machine } from "./machine.js";

const PLANS: readonly WiringPlan[] = [ac922("redbud"), ac922("sequoia"), MINSKY, C4140, DGX1V, HGX_A100_4];

/** The machines that `--machine` knows. */
export const BUILTIN_MACHINES: readonly { name: string; description: string }[] = PLANS.map(
  ({ name, description }) => ({ name, description }),
);

/**
 * A built-in machine, made afresh at every call. It is virtual: its wiring is from documents, and `source` says what of
 * it is assumed. IOMMU groups are left to the kernel's rules.
 * @throws MachineError `EMACHINE_NAME` when there is none of this name; the message lists those there are
 */
export function builtinMachine(name: string): Machine {
  const plan = PLANS.find((candidate) => candidate.name === name);
  if (plan === undefined) {
    const known = PLANS.map((candidate) => candidate.name).join(", ");
    throw new MachineError(
      `no built-in machine ${JSON.stringify(name.slice(0, 80))}; there are ${known}`,
      "EMACHINE_NAME",
    );
  }
  return assemble(plan);
}
