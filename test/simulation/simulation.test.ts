import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { PROJECT } from "../project_folder.js";
import { CONTROLS, foundIn, isThere } from "./controls.js";

const RUN = fileURLToPath(new URL("run.js", import.meta.url));
const SIMULATE = join(PROJECT, "scripts/simulate.mjs");
const directory = mkdtempSync(join(tmpdir(), "linkfence-simulation-"));
let runs = 0;
after(() => rmSync(directory, { recursive: true }));

async function run(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, args);
  const result = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      result[name] += text;
    });
  }
  const [status] = await once(child, "close");
  return { status, ...result };
}

/** Runs lives. @returns the digest of all that happened in them */
async function digestOf(seed: number, lives: number): Promise<string | undefined> {
  const progress = join(directory, `${runs++}`);
  const { status, stdout, stderr } = await run(...[...process.execArgv, RUN, progress, `${seed}`, `${lives}`, "300"]);
  assert.equal(status, 0, stderr);
  return /digest of all events: ([0-9a-f]{64})/.exec(stdout)?.[1];
}

test("the same seed gives the same events byte for byte, and another one others", async () => {
  const [once, again, other] = await Promise.all([digestOf(7, 1), digestOf(7, 1), digestOf(8, 1)]);
  assert.ok(once);
  assert.equal(again, once);
  assert.notEqual(other, once);
});

test("a fence that does without the reset after a client is found at once", () => {
  const control = CONTROLS["no reset after a client"];
  assert.ok(control);
  assert.match(foundIn(control) ?? "nothing was found", control.found);
});

test("every defect that controls.ts makes can still be made", () => {
  const gone = Object.entries(CONTROLS).filter(([, control]) => !isThere(control));
  assert.deepEqual(
    gone.map(([name]) => name),
    [],
  );
});

test("simulate refuses bad arguments in one line", async () => {
  const bad = [["--hours", "0"], ["--seed", "1.5"], ["--steps", "3"], ["--steps"], ["--bogus"], ["now"]];
  const results = await Promise.all(bad.map((args) => run(SIMULATE, ...args)));
  for (const { status, stderr } of results) {
    assert.equal(status, 2);
    assert.match(stderr, /^simulate: [^\n]+\n$/);
  }
});
