import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { PROJECT } from "../project_folder.js";
import { runHere } from "./run_here.js";

/** The command line as it is installed. */
export const MAIN = join(PROJECT, "dist/cli/main.js");
if (!existsSync(MAIN)) throw new Error("dist/cli/main.js is not there: npm run build first");

/** A run that takes longer hangs. Not a measure of speed: other tests run beside it. */
const KILL_MS = 60_000;

/** How a run of the command line ended. */
export interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** As systemd would name it to its unit: what is on this host's own ledger is no matter of the tests. */
process.env.STATE_DIRECTORY = "/nonexistent/linkfence";
export const ENVIRONMENT = { ...process.env };

/** Runs a program to its end, with this on its standard input. */
export function run(program: string, args: readonly string[], input: string | Uint8Array = ""): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: ENVIRONMENT,
      stdio: ["pipe", "pipe", "pipe"],
      timeout: KILL_MS,
      killSignal: "SIGKILL",
    });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
      });
    }
    // A program that has failed already does not read its input.
    child.stdin.on("error", () => undefined).end(input);
    child.on("error", reject).on("close", (status) => resolve({ status, ...output }));
  });
}

/** Runs `linkfence` with these arguments, in a process of its own. */
export function linkfenceProcess(...args: string[]): Promise<Run> {
  return run(process.execPath, [MAIN, ...args]);
}

/** Runs `linkfence` with these arguments in this process: for commands that are to come to their end by themselves. */
export function linkfence(...args: string[]): Promise<Run> {
  return runHere(MAIN, args);
}

/** What standard output is when the command ends with the given exit code; anything on standard error fails the test. */
export async function printed(status: number, ...args: string[]): Promise<string> {
  const ran = await linkfence(...args);
  assert.deepEqual({ status: ran.status, stderr: ran.stderr }, { status, stderr: "" }, args.join(" "));
  return ran.stdout;
}

/**
 * Checks that a run was refused as bad input has to be: exit code 2, one line on standard error that says what is wrong,
 * nothing on standard output. Returns the line.
 */
export function refused(ran: Run, what: string): string {
  assert.deepEqual({ status: ran.status, stdout: ran.stdout }, { status: 2, stdout: "" }, `${what}: ${ran.stderr}`);
  assert.match(ran.stderr, /^linkfence: [^\n]{10,400}\n$/, what);
  assert.doesNotMatch(ran.stderr, /internal error|^\s+at |\[object|NaN/, what);
  return ran.stderr;
}

/** A folder for the files of one test file, removed when its tests are done. */
export function scratchFolder(): {
  path(name: string): string;
  file(name: string, content: string | Uint8Array): string;
} {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-cli-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return {
    path: (name) => join(folder, name),
    file: (name, content) => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    },
  };
}

/** Path of a file beside the repository that is no part of it; undefined where it is not at hand. */
export function sharedFile(name: string): string | undefined {
  const path = fileURLToPath(new URL(`../../../shared/${name}`, import.meta.url));
  return existsSync(path) ? path : undefined;
}
