import { carryOutPlan, type FenceResult, type GpuFenceResult } from "../../fence/carry_out_plan.js";
import type { FenceEvent } from "../../fence/progress.js";
import { withEvidence } from "../../fence/with_evidence.js";
import { makePlan, type Plan } from "../../isolation/plan.js";
import { writeCapture } from "../../machine/capture.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { VirtualMachine } from "../../virtual/virtual_machine.js";
import { EXIT_FINDING, UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { mask, paint, table, writeJson, writeLines } from "../output.js";
import { progressLine } from "../progress_line.js";
import { refuseUnlessIsolated } from "../refuse_unless_isolated.js";
import { isolateNvlinkOption, readSource, requireAssignments } from "../source.js";
import { virtualModel } from "../virtual_model.js";
import { checkOutPath, writeFileWhole } from "../write_file.js";
import { type PlanCommandOptions, planJson, planLines } from "./plan.js";

/** What `fence` takes besides a source. */
export interface FenceCommandOptions extends PlanCommandOptions {
  yes?: boolean;
  out?: string;
}

/** `linkfence fence`: carries the plan out and verifies it. Exit 2 with nothing touched when the plan has errors. */
export async function runFence(options: FenceCommandOptions): Promise<number> {
  const described = await readSource(options);
  const assignments = await requireAssignments(described, options);
  const settings = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  if (options.live === true) return dryRun(options, described, makePlan(described, assignments, settings));
  const machine = virtualModel(described);
  const plan = makePlan(machine, assignments, settings);
  refuseUnlessIsolated(plan);
  if (options.out !== undefined) checkOutPath(options.out);
  if (options.json !== true) writeLines([heading(machine), ""]);
  const progress = options.json === true ? undefined : (event: FenceEvent) => writeLines([progressLine(event)]);
  const { result, after } = await fenceVirtual(machine, plan, progress);
  if (options.out !== undefined) await writeOut(options.out, after, assignments);
  if (options.json === true) writeJson(fenceJson(plan, result));
  else writeLines(["", ...resultLines(result), ...(options.out === undefined ? [] : [`written to ${options.out}`])]);
  return result.verified ? 0 : EXIT_FINDING;
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
    gpu.after.linksUp?.join(" ") || "-",
    gpu.verified ? paint("green", "yes") : paint("red", "NO"),
    gpu.reason ?? "",
  ]);
  const count = result.gpus.filter((gpu) => gpu.verified).length;
  return [
    table(["GPU", "address", "mask before", "after", "links up", "verified", ""], rows),
    "",
    result.verified
      ? paint("green", `fenced: ${count} of ${result.gpus.length} GPUs read back as planned`)
      : paint("red", `NOT fenced: only ${count} of ${result.gpus.length} GPUs read back as planned`),
  ];
}

function dryRun(options: FenceCommandOptions, machine: Machine, plan: Plan): number {
  refuseUnlessIsolated(plan);
  if (options.yes === true) {
    throw new UsageError("this version fences virtual hardware only; nothing on the live host was touched");
  }
  if (options.out !== undefined) {
    throw new UsageError(
      "--out needs a fence that was carried out; this is a dry run, write it with linkfence capture",
    );
  }
  if (options.json === true) writeJson({ ...planJson(plan), dryRun: true });
  else writeLines([heading(machine), "", ...planLines(plan), "dry run: nothing was touched"]);
  return 0;
}

async function writeOut(path: string, after: Machine, assignments: readonly Assignment[]): Promise<void> {
  await writeFileWhole(path, writeCapture({ ...after, assignments: [...assignments] }, new Date().toISOString()));
}

function fenceJson(plan: Plan, result: FenceResult): Record<string, unknown> {
  const results = new Map(result.gpus.map((gpu) => [gpu.address, gpu]));
  const json = planJson(plan);
  return {
    ...json,
    verified: result.verified,
    gpus: plan.gpus.map((gpu) => ({
      ...gpu,
      disableMask: mask(gpu.disableMask),
      ...outcomeJson(results.get(gpu.address)),
    })),
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
