import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { patchedCopy } from "../patched_copy.js";
import type { Bug } from "./bugs.js";

/** Explores the scenario of a bug with the bug in the code. @returns the exit status and what was printed */
export function explorePatched(bug: Bug, seconds: number): { status: number | null; output: string } {
  const { folder, remove } = patchedCopy(bug.edits);
  try {
    const script = join(folder, "test/explore/run.ts");
    const args = ["--import", "tsx", script, bug.scenario, String(bug.faults), String(seconds)];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
    return { status, output: stdout + stderr };
  } finally {
    remove();
  }
}
