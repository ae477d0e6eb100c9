import type { Part } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";

/** What the plan is for one GPU. */
export interface GpuPlan {
  name: string;
  address: PciAddress;
  part: Part;
  /** The owner: an assignment's name, or `host`. */
  assignment: string;
  keptLinks: number[];
  cutLinks: number[];
  /** The value that cuts `cutLinks` (unsigned 32 bits); null on a part that has no mask register. */
  disableMask: number | null;
  /** Only clearing disable bits needs a reset: some link that is to stay up is cut now, or nobody knows. */
  resetNeeded: boolean;
  /** Bound to a host driver and not to be touched: its links are cut at the other end only. */
  untouched: boolean;
}

/** A link between two owners after the plan, with the ends at which it is cut. */
export interface CrossLink {
  gpu: PciAddress;
  link: number;
  far: PciAddress | null;
  farLink: number | null;
  cutAt: "both" | "one" | "none";
}

/** Why a plan cannot isolate (`error`), or what weakens it (`warning`). */
export interface PlanProblem {
  kind: string;
  severity: "error" | "warning";
  gpus: string[];
  message: string;
  action: string;
}

/**
 * One step of carrying the plan out, in order. All `cut` steps come first: they set bits only and need no reset, so that
 * when a GPU is reset every far end in another assignment is already cut (far end first).
 */
export interface PlanStep {
  action: "cut" | "reset-and-cut";
  gpu: PciAddress;
  /** For a reset: link ends of other owners that must be read back as cut before it begins. */
  farEndsFirst: { gpu: PciAddress; link: number }[];
}

/** An address range (end exclusive) that DMA of an assignment cannot use: a peer's BAR answers there. */
export interface IovaHole {
  start: bigint;
  end: bigint;
  functions: PciAddress[];
}

/** Which links to keep and to cut on each GPU so that no owner reaches another's. */
export interface Plan {
  machine: string;
  virtual: boolean;
  /** No link is left up between two owners, and no error among the problems. */
  isolated: boolean;
  gpus: GpuPlan[];
  crossLinks: CrossLink[];
  problems: PlanProblem[];
  notes: string[];
  steps: PlanStep[];
  iovaHoles: { assignment: string; holes: IovaHole[] }[];
}
