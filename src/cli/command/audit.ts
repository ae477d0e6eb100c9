import type { Audit, Finding } from "../../isolation/findings.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { EXIT_FINDING, UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { jsonText, paint, proseText, writeLines, writeToFile } from "../output.js";
import { isolateNvlinkOption, readAssignments, readSource, type SourceOptions } from "../source.js";
import { checkOutPath, writeFileWhole } from "../write_file.js";

const FORMATS = ["text", "json", "html"] as const;
type Format = (typeof FORMATS)[number];

/** What `audit` takes besides a source. */
export interface AuditOptions extends SourceOptions {
  format?: string;
  out?: string;
}

/** `linkfence audit`: what crosses between owners. Exit 1 when something does. */
export async function runAudit(options: AuditOptions): Promise<number> {
  const format = formatOf(options);
  const out = options.out === "-" ? undefined : options.out;
  if (out !== undefined) {
    checkOutPath(out);
    writeToFile();
  } else if (format === "html" && options.out === undefined && process.stdout.isTTY === true) {
    throw new UsageError("--format html is for a browser: name a file with --out FILE");
  }
  const machine = await readSource(options);
  const assignments = await readAssignments(machine, options);
  const { audit } = await import("../../isolation/findings.js");
  const result = audit(machine, assignments, await isolateNvlinkOption(options));
  const text = await textOf(format, machine, assignments, result, options);
  if (out === undefined) {
    process.stdout.write(text);
  } else {
    await writeFileWhole(out, text);
    writeLines([`${countOf(result)} in ${machine.name}, written to ${out}`]);
  }
  return result.findings.length > 0 ? EXIT_FINDING : 0;
}

function formatOf({ format, json }: AuditOptions): Format {
  const known = FORMATS.find((one) => one === format);
  if (format !== undefined && known === undefined)
    throw new UsageError(`--format ${format}: expected text, json or html`);
  if (json !== true) return known ?? "text";
  if (known !== undefined && known !== "json")
    throw new UsageError(`name one format, not --format ${format} and --json`);
  return "json";
}

async function textOf(
  format: Format,
  machine: Machine,
  assignments: readonly Assignment[],
  result: Audit,
  options: AuditOptions,
): Promise<string> {
  switch (format) {
    case "text":
      return proseText([heading(machine), ...auditLines(machine, result)]);
    case "json":
      return jsonText({ machine: machine.name, ...(machine.virtual && { virtual: true }), ...result });
    case "html": {
      const { auditReport } = await import("../audit_report.js");
      return auditReport(machine, assignments, result, options);
    }
  }
}

function auditLines(machine: Machine, result: Audit): string[] {
  const { findings, unknown, notes } = result;
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
  lines.push(
    "",
    findings.length > 0
      ? paint("red", countOf(result))
      : paint("green", "nothing crosses between owners, as far as is known"),
  );
  return lines;
}

function countOf({ findings }: Audit): string {
  return `${findings.length} finding${findings.length === 1 ? "" : "s"}`;
}

function findingLines({ kind, reason, action }: Finding): string[] {
  return [`${paint("red", "FINDING")} ${kind}: ${reason}`, `        ${paint("dim", `→ ${action}`)}`];
}
