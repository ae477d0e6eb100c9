/**
 * Lives lives, one after the other; run by scripts/simulate.mjs, which survives when this does not.
 *
 *   run.ts PROGRESS SEED RUNS SECONDS [STEPS]
 *
 * PROGRESS is a file that always holds the seed of the life under way; beside it lives have their files. Life n has the seed SEED + n. Of its steps those that
 * STEPS names are done (`3,17-20`). Exit status: 0 nothing found, 1 something found.
 */

import { createHash } from "node:crypto";
import { openSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { openFiles } from "../vfio_user/open_files.js";
import { clock, wallClock } from "./clock.js";
import { Disk } from "./disk.js";
import { Finding } from "./finding.js";
import { Life } from "./life.js";
import { SystemCalls } from "./system_calls.js";

/** Milliseconds between progress lines. */
const INTERVAL = 5000;

const [progress = "", seed = "1", runs = "1", seconds = "60", chosen] = process.argv.slice(2);
const progressFile = openSync(progress, "w");
const calls = new SystemCalls();
const ground = { calls, disk: new Disk(calls), root: dirname(resolve(progress)) };
const faults = new Map<string, number>();
const digest = createHash("sha256");
const began = wallClock();
const total = { lives: 0, events: 0, looks: 0, virtual: 0 };
let lastLine = began;
let life: Life | undefined;

function stepsOf(text: string | undefined): ((step: number) => boolean) | undefined {
  if (text === undefined) return undefined;
  const ranges = text
    .split(",")
    .filter((each) => each !== "")
    .map((each) => each.split("-").map(Number));
  return (step) => ranges.some(([first = -1, last = first]) => step >= first && step <= last);
}

function summary(): string {
  const passed = (wallClock() - began) / 1000;
  const kinds = [...faults].sort(([a], [b]) => (a < b ? -1 : 1)).map(([kind, count]) => `${kind} ${count}`);
  return (
    `${total.lives} lives, ${total.events} events (${Math.round(total.events / passed)} per second), ` +
    `${total.looks} looks at the hardware, ${(total.virtual / 3_600_000).toFixed(2)} hours of their time in ${passed.toFixed(0)} s; ` +
    `faults: ${kinds.length === 0 ? "none" : kinds.join(", ")}`
  );
}

function fail(what: unknown): void {
  process.exitCode = 1;
  for (const line of life?.trace.last ?? []) console.error(line);
  console.error(
    what instanceof Finding ? `FOUND: ${what.message}` : `FOUND: ${what instanceof Error ? what.stack : what}`,
  );
}

/** @returns whether nothing was found */
async function main(): Promise<boolean> {
  const steps = stepsOf(chosen);
  for (let run = 0; run < Number(runs) && wallClock() - began < Number(seconds) * 1000; run++) {
    writeSync(progressFile, `${Number(seed) + run}`.padEnd(16), 0);
    const before = run < 2 ? undefined : openFiles();
    life = new Life(Number(seed) + run, ground, faults);
    try {
      await life.run(steps);
    } catch (error) {
      fail(error);
      await life.clear().catch(() => {});
      return false;
    }
    await life.clear();
    const after = openFiles();
    if (before !== undefined && after.descriptors + after.mappings > before.descriptors + before.mappings) {
      throw new Finding(`descriptors or mappings were left: ${JSON.stringify(after)} after ${JSON.stringify(before)}`);
    }
    total.lives++;
    total.events += life.trace.events;
    total.looks += life.looks;
    total.virtual += clock.now;
    digest.update(life.trace.digest());
    if (wallClock() - lastLine < INTERVAL) continue;
    lastLine = wallClock();
    console.log(summary());
  }
  return true;
}

process.on("uncaughtException", (error) => {
  fail(error);
  process.exit(1);
});
try {
  if (await main()) {
    console.log(summary());
    console.log(`digest of all events: ${digest.digest("hex")}`);
  }
} catch (error) {
  fail(error);
}
