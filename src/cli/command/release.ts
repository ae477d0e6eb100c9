import { existsSync } from "node:fs";
import { join } from "node:path";
import { EXIT_FINDING, UsageError } from "../failure.js";
import { writeJson, writeLines } from "../output.js";
import { withoutAssignment } from "../serve/assignment_change.js";
import { askServer } from "../serve/control_client.js";
import { LEDGER_LOCK, ledgerPath, loadLedger, saveLedger } from "../serve/ledger_file.js";
import { LockFile } from "../serve/lock_file.js";
import { directoryPath } from "../serve/private_directory.js";
import type { ServedJson } from "../serve/serving_json.js";
import { readSource, type SourceOptions } from "../source.js";
import { noServer } from "./status.js";

/** What `release` takes besides a source, which it needs none of. */
export interface ReleaseOptions extends SourceOptions {
  socketDir: string;
  stateDir: string;
}

/** What came of it. */
interface Released {
  machine: string;
  virtual: boolean;
  /** Whether a server was running, and has changed what it serves. */
  server: boolean;
  /** Names of the assignments that are left. */
  left: string[];
  /** Why a fence has failed meanwhile, a line each. */
  failures: string[];
}

/**
 * `linkfence release`: undoes an assignment. A running server fences anew and serves it no longer; where none runs, the
 * ledger's entry is all there is of an assignment of virtual hardware. Exit 1 when a fence has failed.
 */
export async function runRelease(name: string, options: ReleaseOptions): Promise<number> {
  if (options.live === true)
    throw new UsageError("this version assigns virtual hardware only, so there is nothing to release on a live host");
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const stateDir = directoryPath(options.stateDir, "--state-dir");
  const machine = namesSource(options) ? (await readSource(options)).name : undefined;
  const released =
    (await releaseFromServer(socketDir, name, machine, options.json === true)) ??
    (await releaseFromLedger(socketDir, stateDir, name, machine));
  const { virtual, server, left, failures, ...rest } = released;
  const json = { ...rest, ...(virtual && { virtual }), released: name, server, left, failures };
  if (options.json === true) writeJson(json);
  else
    writeLines([
      ...failures,
      `${name} is released; ${left.length === 0 ? "nothing is" : `${left.join(", ")} stay${left.length === 1 ? "s" : ""}`} assigned`,
    ]);
  return failures.length > 0 ? EXIT_FINDING : 0;
}

async function releaseFromServer(
  socketDir: string,
  name: string,
  machine: string | undefined,
  quiet: boolean,
): Promise<Released | undefined> {
  const request = { command: "release", name, ...(machine !== undefined && { machine }) } as const;
  const onProgress = (line: string) => {
    if (!quiet) writeLines([line]);
  };
  const served = (await askServer(socketDir, request, onProgress)) as ServedJson | undefined;
  if (served === undefined) return undefined;
  const left = served.assignments.map((each) => each.name);
  return { machine: served.machine, virtual: served.virtual === true, server: true, left, failures: served.failures };
}

async function releaseFromLedger(
  socketDir: string,
  stateDir: string,
  name: string,
  machine: string | undefined,
): Promise<Released> {
  if (!existsSync(ledgerPath(stateDir))) throw noServer(socketDir);
  const lock = new LockFile(join(stateDir, LEDGER_LOCK), `uses ${stateDir}; name its --socket-dir`);
  try {
    const ledger = loadLedger(stateDir);
    if (ledger === undefined) throw noServer(socketDir);
    if (machine !== undefined && ledger.machine !== machine) {
      throw new UsageError(`the ledger in ${stateDir} is of ${ledger.machine}, not ${machine}`);
    }
    const assignments = withoutAssignment(ledger.assignments, name);
    await saveLedger(stateDir, { ...ledger, assignments, writtenAt: new Date().toISOString() });
    const left = assignments.map((each) => each.name);
    return { machine: ledger.machine, virtual: ledger.virtual, server: false, left, failures: [] };
  } finally {
    lock.release();
  }
}

function namesSource({ machine, deviceTree, capture, lspci, sysfs }: SourceOptions): boolean {
  return [machine, deviceTree, capture, lspci, sysfs].some((source) => source !== undefined);
}
