import type { PciAddress } from "../../src/pci/address.js";

/** One access of the server to a GPU, or the beginning of a reset. */
export interface Access {
  gpu: PciAddress;
  kind: "config read" | "config write" | "register read" | "register write" | "reset" | "npu";
  /** Offset in config space or BAR0; 0 of others. */
  offset: number;
}

/** What may go wrong at an access. */
export type Fault =
  /** A read answers what a function answers that is not there. */
  | "all ones"
  /** A register answers the priv ring's error and takes no value, for the rest of the step. */
  | "0xBADF"
  /** A write is lost. */
  | "lost"
  /** Somebody else resets the GPU just before. */
  | "outside reset"
  /** The server dies just before, in the midst of what it does. */
  | "kill";

/** A fault at the access of this number of whatever one step does, from 0. */
export interface Deviation {
  at: number;
  fault: Fault;
}
