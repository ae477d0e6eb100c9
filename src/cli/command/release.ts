import { existsSync } from "node:fs";
import type { FenceEvent } from "../../fence/progress.js";
import type { Machine } from "../../machine/machine.js";
import { EXIT_FINDING, UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { planRelease, releaseLive } from "../live/live_release.js";
import { writeJson, writeLines } from "../output.js";
import { progressLine } from "../progress_line.js";
import { withoutAssignment } from "../serve/assignment_change.js";
import { askServer } from "../serve/control_client.js";
import { ledgerPath, loadLedger, lockLedger, saveLedger } from "../serve/ledger_file.js";
import { directoryPath } from "../serve/private_directory.js";
import type { ServedJson } from "../serve/serving_json.js";
import { isolateNvlinkOption, readSource, type SourceOptions } from "../source.js";
import { resultLines } from "./fence.js";
import { planLines } from "./plan.js";
import { noServer } from "./status.js";

/** What `release` takes besides a source, which it needs none of. */
export interface ReleaseOptions extends SourceOptions {
  socketDir: string;
  stateDir: string;
  /** Really reset GPUs of a live host. */
  yes?: boolean;
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
  /** Nothing was touched. */
  dryRun?: true;
  /** The entry is still there, for its GPUs are not in order. */
  kept?: true;
}

/**
 * `linkfence release`: undoes an assignment. A running server fences anew and serves it no longer. Where none runs, GPUs of a
 * live host are reset and given back to their drivers; of virtual hardware the ledger's entry is all there is. Exit 1 when a
 * fence has failed.
 */
export async function runRelease(name: string, options: ReleaseOptions): Promise<number> {
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const stateDir = directoryPath(options.stateDir, "--state-dir");
  const machine = namesSource(options) ? await readSource(options) : undefined;
  const released =
    (await releaseFromServer(socketDir, name, machine?.name, options.json === true)) ??
    (machine !== undefined && options.live === true
      ? await releaseHost(machine, stateDir, name, options)
      : await releaseFromLedger(socketDir, stateDir, name, machine?.name));
  const { virtual, server, left, failures, dryRun, ...rest } = released;
  const json = {
    ...rest,
    ...(virtual && { virtual }),
    released: name,
    server,
    left,
    failures,
    ...(dryRun && { dryRun }),
  };
  if (options.json === true) writeJson(json);
  else writeLines([...failures, endLine(name, released)]);
  return failures.length > 0 ? EXIT_FINDING : 0;
}

function endLine(name: string, { left, dryRun, kept }: Released): string {
  if (dryRun === true) return "dry run: nothing was touched; --yes does it";
  if (kept === true) return `${name} is NOT released: its GPUs are not as planned; do it again`;
  const rest = left.length === 0 ? "nothing is" : `${left.join(", ")} stay${left.length === 1 ? "s" : ""}`;
  return `${name} is released; ${rest} assigned`;
}

async function releaseHost(
  machine: Machine,
  stateDir: string,
  name: string,
  options: ReleaseOptions,
): Promise<Released> {
  const quiet = options.json === true;
  const say = (lines: string[]) => {
    if (!quiet) writeLines(lines);
  };
  const { plan, replan, left } = planRelease(machine, stateDir, name, await isolateNvlinkOption(options));
  const base = { machine: machine.name, virtual: false, server: false, left: left.map((each) => each.name) };
  if (options.yes !== true) {
    say([heading(machine), "", ...planLines(plan)]);
    return { ...base, failures: [], dryRun: true };
  }
  const told = { onProgress: (event: FenceEvent) => say([progressLine(event)]), onWait: (line: string) => say([line]) };
  const { result, failures } = await releaseLive({ machine, plan, replan, left, name, stateDir }, told);
  say(["", ...resultLines(result)]);
  const open = result.gpus.filter(({ verified }) => !verified);
  const wrong = open.map((gpu) => `${gpu.name}: ${gpu.reason ?? "not as planned"}`);
  if (wrong.length === 0) return { ...base, failures };
  return { ...base, left: [...base.left, name], failures: wrong, kept: true };
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
  const lock = lockLedger(stateDir, `uses ${stateDir}; name its --socket-dir`);
  try {
    const ledger = loadLedger(stateDir);
    if (ledger === undefined) throw noServer(socketDir);
    if (machine !== undefined && ledger.machine !== machine) {
      throw new UsageError(`the ledger in ${stateDir} is of ${ledger.machine}, not ${machine}`);
    }
    if (!ledger.virtual) {
      throw new UsageError(
        `${ledger.machine} is no virtual machine, and no server runs: linkfence release --live ${name} --yes`,
      );
    }
    const assignments = withoutAssignment(ledger.assignments, name);
    await saveLedger(stateDir, { ...ledger, assignments, writtenAt: new Date().toISOString() });
    const left = assignments.map((each) => each.name);
    return { machine: ledger.machine, virtual: ledger.virtual, server: false, left, failures: [] };
  } finally {
    lock.release();
  }
}

function namesSource({ live, machine, deviceTree, capture, lspci, sysfs }: SourceOptions): boolean {
  return [live, machine, deviceTree, capture, lspci, sysfs].some((source) => source !== undefined);
}
