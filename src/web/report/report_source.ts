import type { Audit } from "../../isolation/findings.js";
import type { IsolationOptions } from "../../isolation/isolation.js";
import type { Assignment, Machine } from "../../machine/machine.js";

/** All that a report is made from: the same source makes the same report. */
export interface ReportSource {
  machine: Machine;
  assignments: readonly Assignment[];
  /** Where the assignments were found, in words: `the command line`. */
  assignedBy: string;
  isolation: IsolationOptions;
  /** What the audit of these has said. */
  audit: Audit;
  /** The command as it was given, for a POSIX shell. */
  command: string;
  /** Commands that make this report again, for a POSIX shell. */
  again: readonly string[];
  /** Of linkfence. */
  version: string;
  /** When it is made, ISO 8601. */
  at: string;
}
