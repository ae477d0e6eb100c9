import { numberRuns } from "../../isolation/number_runs.js";
import { makePlan, type Plan } from "../../isolation/plan.js";
import { EXIT_FINDING } from "../failure.js";
import { heading } from "../heading.js";
import { mask, paint, table, writeJson, writeProse } from "../output.js";
import { isolateNvlinkOption, readSource, requireAssignments, type SourceOptions } from "../source.js";

/** What `plan` takes besides a source. */
export interface PlanCommandOptions extends SourceOptions {
  includeHost?: boolean;
}

/** `linkfence plan`: masks, kept and cut links. Exit 1 when the assignments cannot be isolated. */
export async function runPlan(options: PlanCommandOptions): Promise<number> {
  const machine = await readSource(options);
  const assignments = await requireAssignments(machine, options);
  const plan = makePlan(machine, assignments, {
    includeHost: options.includeHost === true,
    ...(await isolateNvlinkOption(options)),
  });
  if (options.json === true) writeJson(planJson(plan));
  else writeProse([heading(machine), "", ...planLines(plan)]);
  return plan.isolated ? 0 : EXIT_FINDING;
}

/** The plan as other programs read it: masks as `0x%08x`. */
export function planJson(plan: Plan): Record<string, unknown> {
  const { machine, virtual, isolated, gpus, problems, ...rest } = plan;
  return {
    machine,
    ...(virtual && { virtual }),
    isolated,
    gpus: gpus.map((gpu) => ({ ...gpu, disableMask: mask(gpu.disableMask) })),
    problems,
    ...rest,
  };
}

/** The plan for a person. */
export function planLines(plan: Plan): string[] {
  const rows = plan.gpus.map((gpu) => [
    gpu.name,
    gpu.address,
    gpu.assignment,
    numbers(gpu.keptLinks),
    numbers(gpu.cutLinks),
    mask(gpu.disableMask) ?? "-",
    gpu.untouched && gpu.cutLinks.length > 0 ? "not touched" : gpu.resetNeeded ? "reset first" : "",
  ]);
  const lines = [table(["GPU", "address", "owner", "keep", "cut", "disable mask", ""], rows), ""];
  const oneEnd = plan.crossLinks.filter((link) => link.cutAt === "one" && link.far !== null).length;
  if (oneEnd > 0) lines.push(`${oneEnd === 1 ? "1 link is" : `${oneEnd} links are`} cut at one end only`);
  for (const { severity, message, action } of plan.problems) {
    lines.push(`${paint(severity === "error" ? "red" : "yellow", severity)}: ${message} → ${action}`);
  }
  for (const note of plan.notes) lines.push(`note: ${note}`);
  for (const { assignment, holes } of plan.iovaHoles) {
    for (const { start, end, functions } of holes) {
      lines.push(
        `IOVA hole of ${assignment}: 0x${start.toString(16)}-0x${(end - 1n).toString(16)} (${functions.join(" ")})`,
      );
    }
  }
  lines.push(
    plan.isolated
      ? paint("green", "every link between two owners is cut by this plan")
      : paint("red", "these assignments cannot be isolated"),
  );
  return lines;
}

function numbers(links: readonly number[]): string {
  return numberRuns(links) || "-";
}
