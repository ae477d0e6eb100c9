import { carryOutPlan, type FenceResult, type GpuFenceResult } from "../../fence/carry_out_plan.js";
import type { FenceEvent } from "../../fence/progress.js";
import { withEvidence } from "../../fence/with_evidence.js";
import { numberRuns } from "../../isolation/number_runs.js";
import { makePlan, type Plan } from "../../isolation/plan.js";
import { writeCapture } from "../../machine/capture.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { VirtualMachine } from "../../virtual/virtual_machine.js";
import { EXIT_FINDING, UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { withLiveEvidence } from "../live/live_evidence.js";
import { fenceLive, type LiveFenceOutcome, type LiveFenceWish } from "../live/live_fence.js";
import { LivePorts } from "../live/live_ports.js";
import { mustBeTaken, touchedGpus } from "../live/taken_gpus.js";
import { mask, paint, table, writeJson, writeLines, writeProse } from "../output.js";
import { progressLine } from "../progress_line.js";
import { refuseUnlessIsolated } from "../refuse_unless_isolated.js";
import { directoryPath } from "../serve/private_directory.js";
import { isolateNvlinkOption, readSource, requireAssignments } from "../source.js";
import { virtualModel } from "../virtual_model.js";
import { checkOutPath, writeFileWhole } from "../write_file.js";
import { type PlanCommandOptions, planJson, planLines } from "./plan.js";

/** What `fence` takes besides a source. */
export interface FenceCommandOptions extends PlanCommandOptions {
  yes?: boolean;
  /** Take GPUs that the host uses. */
  allowInUse?: boolean;
  stateDir: string;
  out?: string;
}

/**
 * `linkfence fence`: carries the plan out and verifies it. Exit 2 with nothing touched when the plan has errors, 1 when what
 * is read back afterwards is not as planned.
 */
export async function runFence(options: FenceCommandOptions): Promise<number> {
  const described = await readSource(options);
  const assignments = await requireAssignments(described, options);
  const settings = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  const machine = options.live === true ? described : virtualModel(described);
  const plan = makePlan(machine, assignments, settings);
  refuseUnlessIsolated(plan);
  if (options.live === true && options.yes !== true) {
    const known = makePlan(withRegisters(machine, plan), assignments, settings);
    refuseUnlessIsolated(known);
    return dryRun(options, machine, known);
  }
  if (options.out !== undefined) checkOutPath(options.out);
  if (options.json !== true) writeLines([heading(machine), ""]);
  const progress = options.json === true ? undefined : (event: FenceEvent) => writeLines([progressLine(event)]);
  const replan = (known: Machine) => makePlan(known, assignments, settings);
  const { result, after, failures, ...done } =
    options.live === true
      ? await fenceHost(options, { machine, assignments, plan, replan }, progress)
      : { plan, ...(await fenceVirtual(machine, plan, progress)), failures: [] };
  if (options.out !== undefined) await writeOut(options.out, after, assignments);
  if (options.json === true) writeJson(fenceJson(done.plan, result, failures));
  else {
    const written = options.out === undefined ? [] : [`written to ${options.out}`];
    writeProse(["", ...resultLines(result), ...failures, ...written]);
  }
  return result.verified && failures.length === 0 ? 0 : EXIT_FINDING;
}

/** A live machine with what its registers say, where this user may read them and no driver has claimed them. */
function withRegisters(machine: Machine, plan: Plan): Machine {
  if (process.geteuid?.() !== 0) return machine;
  const ports = new LivePorts({ write: false });
  const gpus = plan.gpus.filter(({ untouched }) => !untouched);
  try {
    return withLiveEvidence(machine, gpus, ports.port);
  } finally {
    ports.close();
  }
}

/** Carries a plan out on this host. */
async function fenceHost(
  { stateDir, allowInUse = false, json = false }: FenceCommandOptions,
  wish: Pick<LiveFenceWish, "machine" | "assignments" | "plan" | "replan">,
  onProgress?: (event: FenceEvent) => void,
): Promise<LiveFenceOutcome> {
  const onWait = json ? {} : { onWait: (line: string) => writeLines([line]) };
  const told = { ...onWait, ...(onProgress && { onProgress }) };
  return fenceLive({ ...wish, stateDir: directoryPath(stateDir, "--state-dir"), allowInUse }, told);
}

/** Carries a plan out on virtual hardware made from the machine; `after` is the machine with what was read back. */
export async function fenceVirtual(
  machine: Machine,
  plan: Plan,
  onProgress?: (event: FenceEvent) => void,
): Promise<{ result: FenceResult; after: Machine }> {
  const hardware = new VirtualMachine(machine);
  const ports = (address: string) => hardware.port(address);
  const result = await carryOutPlan(plan, ports, onProgress === undefined ? {} : { onProgress });
  return { result, after: withEvidence(machine, result.gpus) };
}

/** The result as a table. */
export function resultLines(result: FenceResult): string[] {
  const rows = result.gpus.map((gpu) => [
    gpu.name,
    gpu.address,
    mask(gpu.before.disableMask) ?? "-",
    mask(gpu.after.disableMask) ?? "-",
    numberRuns(gpu.after.linksUp ?? []) || "-",
    gpu.verified ? paint("green", "yes") : paint("red", "NO"),
  ]);
  const reasons = result.gpus.flatMap(({ name, reason }) => (reason === undefined ? [] : [`${name}: ${reason}`]));
  const count = result.gpus.filter((gpu) => gpu.verified).length;
  return [
    table(["GPU", "address", "mask before", "after", "links up", "verified"], rows),
    ...reasons,
    "",
    result.verified
      ? paint("green", `fenced: ${count} of ${result.gpus.length} GPUs read back as planned`)
      : paint("red", `NOT fenced: only ${count} of ${result.gpus.length} GPUs read back as planned`),
  ];
}

function dryRun(options: FenceCommandOptions, machine: Machine, plan: Plan): number {
  if (options.out !== undefined) {
    throw new UsageError(
      "--out needs a fence that was carried out; this is a dry run, write it with linkfence capture",
    );
  }
  const takes = touchedGpus(plan).filter(mustBeTaken);
  const taken = takes.map(({ gpu, former }) => `${gpu.name} (${gpu.address}) would be taken from ${former.driver}`);
  if (options.json === true) {
    writeJson({
      ...planJson(plan),
      dryRun: true,
      takes: takes.map(({ former: { address, driver } }) => ({ address, driver })),
    });
  } else {
    writeProse([heading(machine), "", ...planLines(plan), ...taken, "dry run: nothing was touched; --yes does it"]);
  }
  return 0;
}

async function writeOut(path: string, after: Machine, assignments: readonly Assignment[]): Promise<void> {
  await writeFileWhole(path, writeCapture({ ...after, assignments: [...assignments] }, new Date().toISOString()));
}

function fenceJson(plan: Plan, result: FenceResult, failures: readonly string[]): Record<string, unknown> {
  const results = new Map(result.gpus.map((gpu) => [gpu.address, gpu]));
  const json = planJson(plan);
  return {
    ...json,
    verified: result.verified,
    gpus: plan.gpus.map((gpu) => ({
      ...gpu,
      disableMask: mask(gpu.disableMask),
      ...outcomeJson(results.get(gpu.address)),
      // This is the only way to a host's registers that takes no driver.
      ...(!plan.virtual && { access: results.get(gpu.address)?.touched === true ? "resource0" : null }),
    })),
    ...(failures.length > 0 && { failures }),
  };
}

function outcomeJson(result: GpuFenceResult | undefined): Record<string, unknown> {
  if (result === undefined) return { verified: false };
  const { before, after, verified, reset, reason } = result;
  const snapshot = ({ disableMask, cut, linksUp }: GpuFenceResult["before"]) => ({
    disableMask: mask(disableMask),
    cut,
    linksUp,
  });
  return { before: snapshot(before), after: snapshot(after), reset, verified, ...(reason !== undefined && { reason }) };
}
