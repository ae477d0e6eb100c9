import type { Evidence, Part } from "../machine/machine.js";
import { isReadable, partFacts } from "../machine/part.js";
import { BlockLockRegisters } from "./block_lock_registers.js";
import { MaskRegisters } from "./mask_registers.js";
import type { RegisterUnit } from "./register_unit.js";

/** The registers of one part in BAR0 that say what it is and cut its links. A secondary bus reset resets all of them. */
export interface LinkRegisters extends RegisterUnit {
  /** Function level reset: as a secondary bus reset, save what only that one clears. */
  functionLevelReset(): void;
  /** Whether the chip's side of link n is in a state to train. */
  enabled(link: number): boolean;
  /** Whether link n is cut here until a reset. Off, as with its engine off, it may be for less long. */
  cut(link: number): boolean;
  /** All that they hold, for whoever compares moments of one GPU. */
  readonly contents: readonly number[];
}

/** The registers of a part nobody has modelled: nothing answers, so nothing can be proven about it. */
class NoRegisters implements LinkRegisters {
  readonly pages = [];
  read(): undefined {}
  write(): boolean {
    return false;
  }
  reset(): void {}
  functionLevelReset(): void {}
  enabled(): boolean {
    return true;
  }
  cut(): boolean {
    return false;
  }
  readonly contents = [];
}

/** Recorded values by offset; what was recorded more than once counts only as far as the records agree. */
export type Recorded = ReadonlyMap<number, number>;

/** Collects the readable registers that the evidence records, and beside them those that answered with an error. */
export function recordedRegisters(evidence: Iterable<Evidence>): { values: Recorded; unreadable: Recorded } {
  const values = new Map<number, number>();
  const unreadable = new Map<number, number>();
  for (const { registers } of evidence) {
    for (const { offset, value } of registers) {
      if (!isReadable(value)) unreadable.set(offset, value >>> 0);
      else values.set(offset, (value & (values.get(offset) ?? 0xffffffff)) >>> 0);
    }
  }
  return { values, unreadable };
}

/** The registers of a part as a loaded driver left them, overlaid with what was recorded. */
export function linkRegisters(part: Part, recorded: Recorded): LinkRegisters {
  const facts = partFacts(part);
  if (facts === undefined) return new NoRegisters();
  return facts.interface === "mask" ? new MaskRegisters(facts, recorded) : new BlockLockRegisters(facts, recorded);
}
