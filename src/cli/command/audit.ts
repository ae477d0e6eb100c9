import type { Audit, Finding } from "../../isolation/findings.js";
import type { Machine } from "../../machine/machine.js";
import { EXIT_FINDING } from "../failure.js";
import { heading } from "../heading.js";
import { paint, writeJson, writeProse } from "../output.js";
import { isolateNvlinkOption, readAssignments, readSource, type SourceOptions } from "../source.js";

/** `linkfence audit`: what crosses between owners. Exit 1 when something does. */
export async function runAudit(options: SourceOptions): Promise<number> {
  const machine = await readSource(options);
  const assignments = await readAssignments(machine, options);
  const { audit } = await import("../../isolation/findings.js");
  const result = audit(machine, assignments, await isolateNvlinkOption(options));
  if (options.json === true) {
    writeJson({ machine: machine.name, ...(machine.virtual && { virtual: true }), ...result });
  } else {
    writeProse([heading(machine), ...auditLines(machine, result)]);
  }
  return result.findings.length > 0 ? EXIT_FINDING : 0;
}

function auditLines(machine: Machine, { findings, unknown, notes }: Audit): string[] {
  const lines: string[] = [];
  const names = new Map(machine.functions.map((fn) => [fn.address, fn.name]));
  if (machine.gpus.length === 0) lines.push("no GPUs that could have NVLink");
  for (const gpu of machine.gpus) {
    const links = gpu.nvlink === "none" ? "no NVLink" : `${gpu.links.length} NVLinks`;
    const name = names.get(gpu.address);
    const label = gpu.name === gpu.address ? gpu.address : `${gpu.name} ${gpu.address}`;
    lines.push(`  ${label}  ${gpu.part === "unknown" ? (name ?? "unknown part") : gpu.part}, ${links}`);
  }
  if (findings.length > 0) lines.push("", ...findings.flatMap(findingLines));
  if (unknown.length > 0) {
    lines.push("", "not known:");
    for (const { what, action } of unknown) lines.push(`  - ${what}${action === undefined ? "" : `; ${action}`}`);
  }
  if (notes.length > 0) lines.push("", ...notes.map((note) => `note: ${note}`));
  const count = `${findings.length} finding${findings.length === 1 ? "" : "s"}`;
  lines.push(
    "",
    findings.length > 0 ? paint("red", count) : paint("green", "nothing crosses between owners, as far as is known"),
  );
  return lines;
}

function findingLines({ kind, reason, action }: Finding): string[] {
  return [`${paint("red", "FINDING")} ${kind}: ${reason}`, `        ${paint("dim", `→ ${action}`)}`];
}
