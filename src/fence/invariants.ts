import type { CrossLink, Plan } from "../isolation/plan.js";
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

/** What is known of a GPU; undefined for one that nobody can look into. */
export type LookAt<T> = (address: PciAddress) => T | undefined;

/**
 * The rule: for every link between two owners, in every state in which a client may touch the GPU at either end, the link
 * is cut. And what it rests on: a GPU whose fence is in force has all its links cut that its plan cuts; of two GPUs that
 * share such links and either of which a client may touch, at most one is being renewed.
 * @param at asked for every GPU that the plan touches
 * @param about only what concerns this GPU
 * @returns what is broken, one line each; nothing when all rules hold
 */
export function brokenInvariants(plan: Plan, at: LookAt<GpuMoment>, about?: PciAddress): string[] {
  const broken: string[] = [];
  for (const { name, address, cutLinks } of plan.gpus) {
    if (about !== undefined && about !== address) continue;
    const gpu = at(address);
    const open = cutLinks.filter((link) => gpu?.state === "in force" && !gpu.cut.has(link));
    if (open.length > 0) broken.push(`the fence of ${name} is in force, but link ${open.join(", ")} is not cut`);
  }
  for (const cross of plan.crossLinks) {
    const { gpu, link, far, farLink } = cross;
    if (about !== undefined && about !== gpu && about !== far) continue;
    const near = at(gpu);
    const there = far === null ? undefined : at(far);
    if (near?.attached !== true && there?.attached !== true) continue;
    const cutThere = farLink === null ? false : (there?.cut.has(farLink) ?? false);
    // Where nobody can look, or no number is known, the other end has to do.
    if (near?.cut.has(link) !== true && !cutThere) {
      broken.push(`a client may be there, but ${nameOf(cross)} is not cut`);
    }
    const both = near?.state === "renewing" && there?.state === "renewing";
    if (both) broken.push(`a client may be there, but both ends of ${nameOf(cross)} are being renewed`);
  }
  return broken;
}

/**
 * The other half of the rule: a link between two owners does not open when one side is reset, for the far side is cut. To be
 * asked when a GPU is about to be reset, and of whoever has been reset.
 * @param cut the links that are cut at the GPU at an address; undefined for a GPU that need not be: nobody can reach it
 * @returns the links that the reset of the GPU at `address` would open, one line each
 */
export function openedByReset(plan: Plan, address: PciAddress, cut: LookAt<ReadonlySet<number>>): string[] {
  return plan.crossLinks.flatMap((cross) => {
    const { gpu, link, far, farLink } = cross;
    const other = gpu === address ? far : far === address ? gpu : null;
    const end = gpu === address ? farLink : link;
    const there = other === null ? undefined : cut(other);
    if (there === undefined) return [];
    // Of a link whose number at the far end nobody knows, all that the plan cuts there must be.
    const ends = end === null ? (plan.gpus.find((each) => each.address === other)?.cutLinks ?? []) : [end];
    return ends.every((each) => there.has(each)) ? [] : [`a reset of ${address} would open ${nameOf(cross)}`];
  });
}

function nameOf({ gpu, link, far }: CrossLink): string {
  return `link ${link} of ${gpu} to ${far ?? "nobody knows whom"}`;
}

/**
 * A rule that the fence's own code relies on at this point.
 * @throws FenceError `EFENCE_INVARIANT`: what follows would open something
 */
export function invariant(holds: boolean, rule: string): asserts holds {
  if (!holds) throw new FenceError("EFENCE_INVARIANT", `a rule of the fence does not hold: ${rule}`);
}
