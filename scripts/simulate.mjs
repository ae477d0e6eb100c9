// The whole server, clients, hardware and disk under one scheduler: npm run simulate -- [--seed N] [--hours H]
// One life again, or some steps of it: npm run simulate -- --seed N --runs 1 [--steps 3,17-20]
// Exit status: 0 nothing found, 1 something found, with the command that shows it again, 2 bad arguments.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./setup.mjs";
import { endOf, reached } from "./watched.mjs";

/** A life takes a fraction of a second; after this many milliseconds without another it hangs. */
const PATIENCE = 60_000;
/** How long to look for fewer steps that show the same, in milliseconds. */
const SHORTENING = 90_000;
/** More steps than any life has. */
const MOST_STEPS = 1200;
const HOUR = 3600;
const MOST_SEED = 2 ** 31;
const STEPS = /^\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*$/;

/** @returns what is asked for, or one line that says what is wrong with it */
function readArguments(args) {
  const text = { type: "string" };
  try {
    const { values } = parseArgs({ args, options: { seed: text, hours: text, runs: text, steps: text } });
    const { seed = String(Date.now() % MOST_SEED), hours, runs, steps } = values;
    if (!/^\d{1,10}$/.test(seed) || Number(seed) >= MOST_SEED) return "--seed: a whole number below 2147483648";
    if (hours !== undefined && !(/^\d+(\.\d+)?$|^\.\d+$/.test(hours) && Number(hours) > 0 && Number(hours) <= 10_000)) {
      return "--hours: a number above 0, such as 0.5";
    }
    if (runs !== undefined && (!/^\d{1,9}$/.test(runs) || Number(runs) === 0)) return "--runs: a whole number above 0";
    if (steps !== undefined && !STEPS.test(steps)) return "--steps: numbers and ranges, such as 3,17-20";
    if (steps !== undefined && runs !== "1") return "--steps: needs --runs 1, for they are one life's";
    const most = hours === undefined ? (runs === undefined ? 60 : 10_000 * HOUR) : Number(hours) * HOUR;
    return { seed: Number(seed), runs: runs ?? String(MOST_SEED), seconds: most, steps };
  } catch (error) {
    return error.message.split("\n")[0];
  }
}

/** A file system in memory, where there is one, is several times faster; the disk that counts is simulated. */
const MEMORY = "/dev/shm";
const directory = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "linkfence-simulate-"));
const progress = join(directory, "progress");

/** Simulates in a process of its own. Resolves to what was found, if anything, and in which life. */
async function simulate(seed, runs, seconds, steps, stdio) {
  const args = [progress, seed, runs, seconds, ...(steps === undefined ? [] : [steps])].map(String);
  const child = spawn(process.execPath, ["--import", "tsx", join(root, "test/simulation/run.ts"), ...args], {
    cwd: root,
    stdio,
  });
  return { found: await endOf(child, progress, PATIENCE), life: Number(reached(progress)) };
}

/** `3,4,5,9` as `3-5,9`. */
function inRanges(steps) {
  const ranges = [];
  for (const step of steps) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === step - 1) last[1] = step;
    else ranges.push([step, step]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/** As few steps as something is still found in: leaves out ever shorter runs of them. */
async function shorten(life) {
  const end = Date.now() + SHORTENING;
  let needed = Array.from({ length: MOST_STEPS }, (_, step) => step);
  for (let length = needed.length >>> 1; length >= 1; length >>>= 1) {
    // From the end: what comes after the finding goes first.
    for (let at = needed.length - length; at >= 0 && Date.now() < end; at -= length) {
      const fewer = needed.toSpliced(at, length);
      if (fewer.length > 0 && (await simulate(life, 1, 60, inRanges(fewer), "ignore")).found !== undefined)
        needed = fewer;
    }
  }
  return needed;
}

async function main() {
  const wanted = readArguments(process.argv.slice(2));
  if (typeof wanted === "string") {
    console.error(`simulate: ${wanted}`);
    return 2;
  }
  const { seed, runs, seconds, steps } = wanted;
  console.log(`seed ${seed}`);
  const { found, life } = await simulate(seed, runs, seconds, steps, "inherit");
  if (found === undefined) return 0;
  console.error(`${found} in the life of seed ${life}`);
  if (steps !== undefined || reached(progress) === "") return 1;
  console.error(`again: npm run simulate -- --seed ${life} --runs 1`);
  if ((await simulate(life, 1, 60, undefined, "ignore")).found === undefined) {
    console.error(`alone it is not found; with those before it: --seed ${seed} --runs ${life - seed + 1}`);
    return 1;
  }
  const needed = await shorten(life);
  console.error(`in ${needed.length} steps: npm run simulate -- --seed ${life} --runs 1 --steps ${inRanges(needed)}`);
  return 1;
}

try {
  process.exitCode = await main();
} finally {
  rmSync(directory, { recursive: true, force: true });
}
