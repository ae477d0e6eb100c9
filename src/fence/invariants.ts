import type { Plan } from "../isolation/plan.js";
import type { PciAddress } from "../pci/address.js";
import { FenceError } from "./error.js";
import type { FenceState } from "./fence.js";

/** One GPU at one moment, as it really is, whatever the fence believes. */
export interface GpuMoment {
  /** What the fence says. */
  state: FenceState["kind"];
  /** A client is or may be there: it may touch the GPU at this moment. */
  attached: boolean;
  /** The links that the hardware has cut at this end. */
  cut: ReadonlySet<number>;
}

/**
 * The rule, and what it rests on: in every state in which a client may touch either of two GPUs of different owners, each
 * link between them is cut; a GPU whose fence is in force has all its links cut that its plan cuts; of two GPUs that share
 * such links and either of which a client may touch, at most one is being renewed.
 * @param at asked for every GPU that the plan touches, and undefined for those that nobody can look into
 * @returns what is broken, one line each; nothing when all rules hold
 */
export function brokenInvariants(plan: Plan, at: (address: PciAddress) => GpuMoment | undefined): string[] {
  const broken: string[] = [];
  for (const { name, address, cutLinks } of plan.gpus) {
    const gpu = at(address);
    const open = cutLinks.filter((link) => gpu?.state === "in force" && !gpu.cut.has(link));
    if (open.length > 0) broken.push(`the fence of ${name} is in force, but link ${open.join(", ")} is not cut`);
  }
  for (const { gpu, link, far, farLink } of plan.crossLinks) {
    const near = at(gpu);
    const there = far === null ? undefined : at(far);
    if (near?.attached !== true && there?.attached !== true) continue;
    const end = `link ${link} of ${gpu} to ${far}`;
    const cutThere = farLink === null ? false : (there?.cut.has(farLink) ?? false);
    // Where nobody can look, or no number is known, the other end has to do.
    if (near?.cut.has(link) !== true && !cutThere) broken.push(`a client may be there, but ${end} is not cut`);
    const both = near?.state === "renewing" && there?.state === "renewing";
    if (both) broken.push(`a client may be there, but both ends of ${end} are being renewed`);
  }
  return broken;
}

/**
 * A rule that the fence's own code relies on at this point.
 * @throws FenceError `EFENCE_INVARIANT`: what follows would open something
 */
export function invariant(holds: boolean, rule: string): asserts holds {
  if (!holds) throw new FenceError("EFENCE_INVARIANT", `a rule of the fence does not hold: ${rule}`);
}
