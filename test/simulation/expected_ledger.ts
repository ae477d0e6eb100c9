import { changedAssignments } from "../../src/cli/serve/assignment_change.js";
import { reasonOf } from "../../src/fence/error.js";
import { readLedger } from "../../src/fence/ledger.js";
import type { Assignment, Machine } from "../../src/machine/machine.js";
import { Finding } from "./finding.js";

/** What a machine's ledger may say at a moment: what it said, or what a change that is under way makes of that. */
export class ExpectedLedger {
  readonly #machine: Machine;
  #possible = new Set([textOf([])]);

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Whether it can be said what the ledger says. */
  get isCertain(): boolean {
    return this.#possible.size === 1;
  }

  /** A server begins with these assignments, and writes them. */
  begin(assignments: readonly Assignment[]): void {
    this.#possible.add(textOf(assignments));
  }

  /** It says this and nothing else. */
  settle(assignments: readonly Assignment[]): void {
    this.#possible = new Set([textOf(assignments)]);
  }

  /**
   * A change is asked for.
   * @returns to be told how it has ended, when no other was under way meanwhile: without a failure the ledger has changed,
   * with one it has not, unless something was broken that may have kept it from being put back
   */
  change(texts: readonly string[]): (end: { failed: boolean; broken: boolean }) => void {
    const old = new Set(this.#possible);
    const changed = [...old].flatMap((text) => this.#changed(text, texts) ?? []);
    for (const text of changed) this.#possible.add(text);
    return ({ failed, broken }) => {
      if (failed && !broken) this.#possible = old;
      if (!failed && old.size === 1 && changed.length === 1) this.#possible = new Set(changed);
    };
  }

  /** @throws Finding for anything else than is possible; `text` is undefined where there is no ledger */
  check(text: string | undefined): void {
    const is = textOf(assignmentsIn(text));
    if (this.#possible.has(is)) return;
    throw new Finding(`the ledger says ${is}, and not ${[...this.#possible].join(" or ")}`);
  }

  /** Undefined when the change is refused. */
  #changed(text: string, texts: readonly string[]): string | undefined {
    try {
      return textOf(changedAssignments(this.#machine, JSON.parse(text) as Assignment[], texts));
    } catch {
      return undefined;
    }
  }
}

/**
 * The assignments of a ledger; none where there is no ledger.
 * @throws Finding for what is none
 */
export function assignmentsIn(text: string | undefined): Assignment[] {
  if (text === undefined) return [];
  try {
    return readLedger(text).assignments.map(({ name, members }) => ({ name, members }));
  } catch (error) {
    throw new Finding(`the ledger cannot be read: ${reasonOf(error)}: ${JSON.stringify(text.slice(0, 200))}`);
  }
}

function textOf(assignments: readonly Assignment[]): string {
  return JSON.stringify(assignments.map(({ name, members }) => ({ name, members })));
}
