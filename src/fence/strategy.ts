import { isCutHere } from "../machine/link_state.js";
import type { Evidence, Part } from "../machine/machine.js";
import { ga100 } from "./ga100.js";
import type { GpuPort } from "./gpu_port.js";
import { gp100, gv100 } from "./gv100.js";
import type { FencedPart } from "./registers.js";

/** A 32-bit register of BAR0 to which a client may only add bits, and only these: cutting more harms nobody else. */
export interface GuardedRegister {
  readonly offset: number;
  readonly addable: number;
  /** Offset of the register that must have a bit before it may be added here. */
  readonly follows?: number;
}

/** How the links of one part are cut and how that is proven. Links are the chip's numbers, from 0. */
export interface FenceStrategy {
  readonly part: FencedPart;
  /** The registers that cut links, in ascending order; they do not overlap. */
  readonly guarded: readonly GuardedRegister[];
  /**
   * Checks that the chip is the part, writing nothing to its registers.
   * @throws FenceError as {@link withRegisters} does.
   */
  identify(port: GpuPort): void;
  /**
   * Cuts the links and reads back that they are cut. Sets bits only, so it needs no reset and cannot raise a link that
   * is already cut. The chip is identified before the first write; memory decoding is put back as found.
   * @throws FenceError `EFENCE_READBACK` when a link is not cut afterwards, and as {@link withRegisters} does.
   */
  cut(port: GpuPort, links: readonly number[]): void;
  /**
   * Reads what proves the state of the links, writing nothing to the registers.
   * @throws FenceError `EFENCE_UNREADABLE` when one of the registers proves nothing, and as {@link withRegisters} does.
   */
  read(port: GpuPort, links: readonly number[]): Evidence;
  /** Offsets of the registers that prove the state of this link. */
  evidenceOffsets(link: number): number[];
}

/** The strategy for a part, or undefined for an unknown one: it is refused. */
export function strategyFor(part: Part): FenceStrategy | undefined {
  switch (part) {
    case "GP100":
      return gp100;
    case "GV100":
      return gv100;
    case "GA100":
      return ga100;
    case "unknown":
      return undefined;
  }
}

/** Those of the links that the evidence proves cut at this end. */
export function provenCut(part: Part, evidence: Evidence, links: readonly number[]): number[] {
  return links.filter((number) =>
    isCutHere(part, { number, far: { kind: "unknown" }, state: "unknown", origin: "register", evidence }),
  );
}
