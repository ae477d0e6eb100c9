import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Tally } from "./tally.js";

/** A property of generated inputs: that others' programs say what we say. */
// biome-ignore lint/suspicious/noExplicitAny: inputs differ from check to check
export type Check = (directory: string, tally: Tally) => fc.IProperty<any>;

/** What came of many inputs. */
export interface Outcome {
  tally: Tally;
  seed: number;
  /** Inputs looked at; when something was found the last one is the one that it was found with. */
  runs: number;
  /** What was found, in words; absent when nothing was. */
  found?: string;
}

/** Looks at inputs until a number of them or a difference. The same seed gives the same inputs in the same order. */
export function lookAt(check: Check, seed: number, runs: number): Outcome {
  const directory = mkdtempSync(join(tmpdir(), "linkfence-differential-"));
  const tally = new Tally();
  try {
    const { failed, numRuns, errorInstance } = fc.check(check(directory, tally), {
      seed,
      numRuns: runs,
      endOnFailure: true,
    });
    if (!failed) return { tally, seed, runs: numRuns };
    return {
      tally,
      seed,
      runs: numRuns,
      found: errorInstance instanceof Error ? errorInstance.message : String(errorInstance),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Any seed that can be typed. */
export function freshSeed(): number {
  return Date.now() % 2 ** 31;
}
