import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { runAudit } from "../../../src/cli/command/audit.js";
import { runCapture } from "../../../src/cli/command/capture.js";
import { runGroups } from "../../../src/cli/command/groups.js";
import { planLines, runPlan } from "../../../src/cli/command/plan.js";
import { runTopo } from "../../../src/cli/command/topo.js";
import { failureLine, UsageError } from "../../../src/cli/failure.js";
import type { SourceOptions } from "../../../src/cli/source.js";
import { matrixLines } from "../../../src/cli/topology_matrix.js";
import { treeLines } from "../../../src/cli/topology_tree.js";
import { AssignmentError, parseAssignments } from "../../../src/isolation/assignment.js";
import { audit } from "../../../src/isolation/findings.js";
import { isolation } from "../../../src/isolation/isolation.js";
import { makePlan } from "../../../src/isolation/plan.js";
import { readCapture, writeCapture } from "../../../src/machine/capture.js";
import type { Assignment, Machine } from "../../../src/machine/machine.js";
import { breaches } from "../../cli/schema_breaches.js";
import { checkRefusal, Finding, readOrRefused, type Use } from "./target.js";

interface Command {
  run(source: SourceOptions): Promise<number>;
  /** The schema of what it prints, text when there is none. */
  schema?: string;
}

const JSON_OUTPUT = { json: true };

const COMMANDS: readonly Command[] = [
  { run: runAudit },
  { run: (source) => runAudit({ ...source, ...JSON_OUTPUT }), schema: "audit" },
  { run: runGroups },
  { run: (source) => runGroups({ ...source, isolateNvlink: true, ...JSON_OUTPUT }), schema: "groups" },
  { run: runPlan },
  { run: (source) => runPlan({ ...source, includeHost: true, ...JSON_OUTPUT }), schema: "plan" },
  { run: (source) => runTopo({ ...source, format: "matrix" }) },
  { run: (source) => runTopo({ ...source, format: "tree" }) },
  { run: (source) => runTopo({ ...source, format: "json" }), schema: "topo" },
  { run: (source) => runCapture(source), schema: "capture-file" },
];

/**
 * Uses a machine as the command line does: each command must end as commands do, print what a terminal can be given or
 * what holds to its schema, and a capture of the machine must read back equal.
 * @param machine what the source was read as
 * @param source names the input to commands
 * @throws Finding, or what the program threw that is no error of its own
 */
export async function useMachine(machine: Machine, source: () => SourceOptions, use: Use): Promise<void> {
  checkCapture(machine);
  const assign = assignOption(machine);
  useParts(machine, assign.assign);
  if (use === "parts") return;
  for (const command of COMMANDS) await runCommand(command, { ...source(), ...assign });
}

/** What the commands do between reading and printing. */
function useParts(machine: Machine, assign: readonly string[] | undefined): void {
  const assignments = assign === undefined ? (machine.assignments ?? []) : assignmentsOf(machine, assign);
  if (assignments === undefined) return;
  audit(machine, assignments);
  isolation(machine);
  const plan = makePlan(machine, assignments, { includeHost: true });
  const matrix = readOrRefused(() => matrixLines(machine), UsageError) ?? [];
  checkText([...planLines(plan), ...matrix, ...treeLines(machine)].join("\n"));
}

function assignmentsOf(machine: Machine, assign: readonly string[]): Assignment[] | undefined {
  return readOrRefused(() => parseAssignments(machine, assign), AssignmentError);
}

/** Runs a command with what it prints held back. */
export async function runCommand({ run, schema }: Command, source: SourceOptions): Promise<void> {
  const { write } = process.stdout;
  const { write: complain } = process.stderr;
  const printed: string[] = [];
  process.stdout.write = (chunk: string | Uint8Array) => {
    printed.push(chunk.toString());
    return true;
  };
  process.stderr.write = () => true;
  try {
    const status = await run(source);
    if (status !== 0 && status !== 1) throw new Finding(`exit status ${status}`);
  } catch (error) {
    checkFailure(error);
    return;
  } finally {
    process.stdout.write = write;
    process.stderr.write = complain;
  }
  const text = printed.join("");
  if (schema === undefined) checkText(text);
  else checkJson(schema, text);
}

/** Errors of Node's own have codes too, and are none that a person should read. */
function checkFailure(error: unknown): void {
  const node = error instanceof Error && "code" in error && /^ERR_/.test(String(error.code));
  if (node || !(error instanceof Error) || failureLine(error).startsWith("internal error")) throw error;
  checkRefusal(error);
}

function checkText(text: string): void {
  const control = /[\p{Cc}\p{Zl}\p{Zp}]/u.exec(text.replace(/[\n\t]/g, ""));
  if (control !== null) throw new Finding(`the output has the control character ${JSON.stringify(control[0])}`);
}

function checkJson(schema: string, text: string): void {
  const [breach] = breaches(schema, JSON.parse(text));
  if (breach !== undefined) throw new Finding(`the output breaks the schema ${schema}: ${breach}`);
}

/** What any source gives can be written as a capture, and read back. */
function checkCapture(machine: Machine): void {
  const text = writeCapture(machine, "2026-01-31T12:00:00.000Z");
  let read: Machine;
  try {
    read = readCapture(text);
  } catch (error) {
    throw new Finding(`its capture cannot be read: ${error instanceof Error ? error.message : error}`);
  }
  if (!isDeepStrictEqual(read, machine)) throw new Finding("its capture reads back as another machine");
}

/** An assignment for every other GPU, the rest the host's; none for a machine that brings its own. */
function assignOption({ gpus, assignments: own = [] }: Machine): Pick<SourceOptions, "assign"> {
  if (own.length > 0 || gpus.length === 0) return {};
  const mine = gpus.filter((_, index) => index % 2 === 0).slice(0, 64);
  return { assign: mine.map(({ address }, index) => `vm${index >> 1}x${index % 2}=${address}`) };
}

/** Keeps the input in a file, for commands to read. */
export function inputFile(directory: string, input: Uint8Array): string {
  const path = join(directory, "input");
  writeFileSync(path, input);
  return path;
}
