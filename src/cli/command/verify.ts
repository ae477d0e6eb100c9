import { setTimeout as sleep } from "node:timers/promises";
import { type GpuVerification, readBack, recordedState } from "../../fence/verify.js";
import { numberRuns } from "../../isolation/number_runs.js";
import { makePlan, type Plan } from "../../isolation/plan.js";
import type { Machine } from "../../machine/machine.js";
import { VirtualMachine } from "../../virtual/virtual_machine.js";
import { EXIT_FINDING } from "../failure.js";
import { heading } from "../heading.js";
import { LivePorts } from "../live/live_ports.js";
import { type LiveVerdict, liveVerdicts } from "../live/live_verdicts.js";
import { requireRoot } from "../live/require_root.js";
import { mask, paint, table, writeJson, writeProse } from "../output.js";
import { directoryPath } from "../serve/private_directory.js";
import { isolateNvlinkOption, readSource, requireAssignments } from "../source.js";
import type { PlanCommandOptions } from "./plan.js";

/** What `verify` takes besides a source. */
export interface VerifyOptions extends PlanCommandOptions {
  socketDir: string;
}

/** How long a server may take to fence a GPU anew that its client has just reset, in milliseconds. */
const RENEWAL_MS = 10_000;
const RENEWAL_POLL_MS = 50;

/**
 * `linkfence verify`: what is cut against what the assignments want. Exit 1 when a fence is open. A live host's registers are
 * read now. Built-in machines and device trees are virtual hardware fresh from reset; of a capture, only its evidence counts.
 */
export async function runVerify(options: VerifyOptions): Promise<number> {
  const machine = await readSource(options);
  const assignments = await requireAssignments(machine, options);
  const settings = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  const plan = makePlan(machine, assignments, settings);
  const verdicts = await verdictsOf(machine, plan, options);
  const open = verdicts.some((verdict) => verdict.open) || !plan.isolated;
  if (options.json === true) {
    writeJson({
      machine: machine.name,
      ...(machine.virtual && { virtual: true }),
      open,
      gpus: verdicts.map(verdictJson),
      problems: plan.problems,
    });
  } else {
    const rows = verdicts.map((verdict) => [
      verdict.name,
      cutText(verdict.expected),
      verdict.readable ? cutText(verdict.actual) : "unreadable",
      verdict.open ? paint("red", "OPEN") : paint("green", "closed"),
    ]);
    const reasons = verdicts.flatMap(({ name, reason }) => (reason === undefined ? [] : [`${name}: ${reason}`]));
    writeProse([
      heading(machine),
      "",
      table(["GPU", "expected", "actual", "fence"], rows),
      ...reasons,
      ...plan.problems.map(({ severity, message, action }) => `${severity}: ${message} → ${action}`),
    ]);
  }
  return open ? EXIT_FINDING : 0;
}

/** What is cut, for a column of the table. */
function cutText({ disableMask, cut }: { disableMask: number | null; cut: readonly number[] | null }): string {
  return mask(disableMask) ?? (cut === null || cut.length === 0 ? "no links" : `links ${numberRuns(cut)}`);
}

async function verdictsOf(
  machine: Machine,
  plan: Plan,
  options: VerifyOptions,
): Promise<(GpuVerification | LiveVerdict)[]> {
  if (options.live === true) return liveState(plan, directoryPath(options.socketDir, "--socket-dir"));
  const fresh = options.machine !== undefined || options.deviceTree !== undefined;
  if (!fresh) return recordedState(plan, machine);
  const hardware = new VirtualMachine(machine);
  return readBack(plan, (address) => hardware.port(address));
}

async function liveState(plan: Plan, socketDir: string): Promise<LiveVerdict[]> {
  requireRoot("verify");
  const ports = new LivePorts({ write: false });
  const end = performance.now() + RENEWAL_MS;
  try {
    for (;;) {
      const verdicts = await liveVerdicts(plan, ports, socketDir);
      if (!verdicts.some(({ renewing }) => renewing) || performance.now() >= end) return verdicts;
      await sleep(RENEWAL_POLL_MS);
    }
  } finally {
    ports.close();
  }
}

function verdictJson(verdict: GpuVerification | LiveVerdict) {
  const { name, address, expected, actual, open, readable, reason } = verdict;
  return {
    name,
    address,
    expected: shown(expected.disableMask, expected.cut),
    actual: readable ? shown(actual.disableMask, actual.cut) : null,
    expectedCut: expected.cut,
    actualCut: actual.cut,
    open,
    readable,
    ...("access" in verdict && { access: verdict.access }),
    ...(reason !== undefined && { reason }),
  };
}

/** A mask where the part has one, else the links that are blocked and locked: `links 0,1`. */
export function shown(disableMask: number | null, cut: readonly number[] | null): string {
  return mask(disableMask) ?? (cut === null || cut.length === 0 ? "no links" : `links ${cut.join(",")}`);
}
