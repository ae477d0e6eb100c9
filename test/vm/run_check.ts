import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CheckReport } from "./check_report.js";
import { setUpVm, type VmParts } from "./setup.js";
import { VmUnavailable } from "./vm_unavailable.js";

const PASSED = 0;
const FAILED = 1;
const SKIPPED = 77;

/** What a check works with. */
export interface CheckContext {
  parts: VmParts;
  report: CheckReport;
  /** An empty folder, which goes when the process does. */
  folder: string;
}

/**
 * Runs a check and ends the process: 0 all passed, 77 this machine cannot do it, with the reason on a line, else failed.
 * @param setUp gets the parts of its machines ready
 */
export async function runCheck(
  check: (context: CheckContext) => Promise<void>,
  setUp: (say: (line: string) => void) => Promise<VmParts> = setUpVm,
): Promise<never> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(FAILED));
  let parts: VmParts;
  try {
    parts = await setUp((line) => console.log(`        ${line}`));
  } catch (error) {
    if (!(error instanceof VmUnavailable)) throw error;
    console.log(`skipped: ${error.message}`);
    process.exit(SKIPPED);
  }
  const folder = mkdtempSync(join(tmpdir(), "linkfence-check-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const report = new CheckReport();
  await check({ parts, report, folder });
  process.exit(report.finish() ? PASSED : FAILED);
}
