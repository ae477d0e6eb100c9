import type { Audit } from "../isolation/findings.js";
import type { Assignment, Machine } from "../machine/machine.js";
import { reportHtml } from "../web/report/report_html.js";
import { during } from "./during.js";
import { shellWord } from "./serve/qemu_arguments.js";
import { isolateNvlinkOption, type SourceOptions } from "./source.js";
import { VERSION } from "./version.js";

/** The audit as one HTML file: what it found, and from what. */
export async function auditReport(
  machine: Machine,
  assignments: readonly Assignment[],
  audit: Audit,
  options: SourceOptions,
): Promise<string> {
  const isolation = await isolateNvlinkOption(options);
  const args = process.argv.slice(2);
  const at = new Date().toISOString();
  return during("writing the report", () =>
    reportHtml({
      ...{ machine, assignments, audit, isolation, at },
      assignedBy: assignedBy(machine, options),
      command: commandOf(args),
      again: again(args, machine, assignments, options),
      version: VERSION,
    }),
  );
}

function assignedBy(machine: Machine, { assign }: SourceOptions): string {
  if (assign !== undefined) return "the command line";
  return machine.assignments !== undefined && machine.assignments.length > 0 ? "the capture" : "the ledger";
}

/**
 * What makes this report again. A host changes, and so does its ledger: assignments that are found there are spelled out, and
 * a host is captured first.
 */
function again(
  args: readonly string[],
  machine: Machine,
  assignments: readonly Assignment[],
  { live, assign, nvlink = [], isolateNvlink }: SourceOptions,
): string[] {
  const ledgers = assign === undefined && (machine.assignments ?? []).length === 0 ? assignments : [];
  if (live !== true) return [commandOf([...args, ...spelledOut(ledgers)])];
  const wiring = nvlink.flatMap((file) => ["--nvlink", file]);
  const kernel = isolateNvlink === undefined ? [] : [`--isolate-nvlink=${isolateNvlink === true ? 1 : isolateNvlink}`];
  return [
    commandOf(["capture", "--live", ...wiring, ...spelledOut(assignments), "--out", "host.json"]),
    commandOf(["audit", "--capture", "host.json", ...kernel, "--format", "html", "--out", "report.html"]),
  ];
}

function spelledOut(assignments: readonly Assignment[]): string[] {
  return assignments.flatMap(({ name, members }) => ["--assign", `${name}=${members.join(",")}`]);
}

function commandOf(args: readonly string[]): string {
  return ["linkfence", ...args].map(shellWord).join(" ");
}
