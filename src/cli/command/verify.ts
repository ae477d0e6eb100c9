import { type GpuVerification, readBack, recordedState } from "../../fence/verify.js";
import { makePlan } from "../../isolation/plan.js";
import { VirtualMachine } from "../../virtual/virtual_machine.js";
import { EXIT_FINDING } from "../failure.js";
import { heading } from "../heading.js";
import { mask, paint, table, writeJson, writeLines } from "../output.js";
import { isolateNvlinkOption, readSource, requireAssignments } from "../source.js";
import type { PlanCommandOptions } from "./plan.js";

/**
 * `linkfence verify`: what is cut against what the assignments want. Exit 1 when a fence is open. Built-in machines and
 * device trees are virtual hardware fresh from reset; of a capture, only its evidence counts.
 */
export async function runVerify(options: PlanCommandOptions): Promise<number> {
  const machine = await readSource(options);
  const assignments = await requireAssignments(machine, options);
  const settings = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  const plan = makePlan(machine, assignments, settings);
  const fresh = options.machine !== undefined || options.deviceTree !== undefined;
  const hardware = fresh ? new VirtualMachine(machine) : undefined;
  const verdicts =
    hardware === undefined ? recordedState(plan, machine) : readBack(plan, (address) => hardware.port(address));
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
      shown(verdict.expected.disableMask, verdict.expected.cut),
      verdict.readable ? shown(verdict.actual.disableMask, verdict.actual.cut) : "unreadable",
      verdict.open ? paint("red", "OPEN") : paint("green", "closed"),
      verdict.reason ?? "",
    ]);
    writeLines([
      heading(machine),
      "",
      table(["GPU", "expected", "actual", "fence", ""], rows),
      ...plan.problems.map(({ severity, message, action }) => `${severity}: ${message} → ${action}`),
    ]);
  }
  return open ? EXIT_FINDING : 0;
}

function verdictJson({ name, address, expected, actual, open, readable, reason }: GpuVerification) {
  return {
    name,
    address,
    expected: shown(expected.disableMask, expected.cut),
    actual: readable ? shown(actual.disableMask, actual.cut) : null,
    expectedCut: expected.cut,
    actualCut: actual.cut,
    open,
    readable,
    ...(reason !== undefined && { reason }),
  };
}

/** A mask where the part has one, else the links that are blocked and locked: `links 0,1`. */
function shown(disableMask: number | null, cut: readonly number[] | null): string {
  return mask(disableMask) ?? (cut === null || cut.length === 0 ? "no links" : `links ${cut.join(",")}`);
}
