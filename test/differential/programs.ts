import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readPrintedSource } from "./printed_source.js";

/** What a program prints. @throws when it fails or dies */
export function run(program: string, args: readonly string[], input: string | Uint8Array = ""): Buffer {
  const { status, stdout, stderr, signal, error } = spawnSync(program, args, { input, maxBuffer: 1 << 26 });
  const line = `${program} ${args.join(" ").slice(0, 200)}`;
  assert.equal(status, 0, `${line}: ${error?.message ?? signal ?? stderr.toString()}`);
  return stdout;
}

/** The source that dtc prints of a flattened tree; or why it refuses it. */
export function printSource(file: string): { source: string } | { refused: string } {
  const args = ["-q", "-I", "dtb", "-O", "dts", file];
  const { status, stdout, stderr, signal, error } = spawnSync("dtc", args, { maxBuffer: 1 << 26, timeout: 20_000 });
  if (status === 0) return { source: stdout.toString("latin1") };
  return { refused: error?.message ?? signal ?? (stderr.toString().split("\n")[0] || "no reason given") };
}

/** The tree in what dtc prints. */
export function printedTree(file: string): ReturnType<typeof readPrintedSource> & { source: string } {
  const printed = printSource(file);
  if ("refused" in printed) return assert.fail(`dtc refuses it: ${printed.refused}`);
  return { ...readPrintedSource(printed.source), source: printed.source };
}
