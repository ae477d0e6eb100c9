// Attacks the vfio-user server: npm run fuzz -- [--seed N] [--seconds S]
// One sequence again, or a few steps of it: npm run fuzz -- --seed N --sequences 1 [--steps 3,17]
// Exit status: 0 nothing found, 1 something found, with the command that shows it again.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./setup.mjs";
import { endOf, reached } from "./watched.mjs";

const text = { type: "string" };
const { values } = parseArgs({ options: { seed: text, seconds: text, sequences: text, steps: text } });
/** A sequence takes a fraction of a second; after this many milliseconds without another it hangs. */
const PATIENCE = 20_000;
/** Steps that a sequence has at most, and how long to look for a shorter one. */
const MAX_STEPS = 60;
const SHORTENING = 60_000;

const directory = mkdtempSync(join(tmpdir(), "linkfence-fuzz-run-"));
const progress = join(directory, "progress");

/** Attacks in a process of its own. Resolves to what was found and by which sequence. */
async function attack(seed, sequences, seconds, steps, stdio) {
  const script = join(root, "test/fuzz/vfio_user.ts");
  const args = [progress, seed, sequences, seconds, ...(steps === undefined ? [] : [steps.join(",")])];
  const child = spawn(process.execPath, ["--import", "tsx", script, ...args.map(String)], { cwd: root, stdio });
  return { found: await endOf(child, progress, PATIENCE), sequence: Number(reached(progress)) };
}

/** As few steps as do it too: leaves out ever smaller runs of them as long as something is still found. */
async function shorten(sequence, steps) {
  const end = Date.now() + SHORTENING;
  let needed = steps;
  for (let length = needed.length >>> 1; length >= 1; length >>>= 1) {
    for (let at = 0; at < needed.length && Date.now() < end; ) {
      const fewer = needed.toSpliced(at, length);
      const { found } = await attack(sequence, 1, 60, fewer, "ignore");
      if (found === undefined) at += length;
      else needed = fewer;
    }
  }
  return needed;
}

async function main() {
  const seed = Number(values.seed ?? Date.now() % 2 ** 31);
  const sequences = Number(values.sequences ?? 2 ** 31);
  const seconds = Number(values.seconds ?? 60);
  const given = values.steps?.split(",").map(Number);
  console.log(`seed ${seed}`);
  const { found, sequence } = await attack(seed, sequences, seconds, given, "inherit");
  if (found === undefined) return 0;
  if (reached(progress) === "") return 1;
  console.error(`${found} in sequence ${sequence}`);
  if (given !== undefined) return 1;
  const all = Array.from({ length: MAX_STEPS }, (_, step) => step);
  const alone = await attack(sequence, 1, 60, all, "ignore");
  const replay =
    alone.found === undefined
      ? `--seed ${seed} --sequences ${sequence - seed + 1} --seconds ${seconds * 2}`
      : `--seed ${sequence} --sequences 1 --steps ${(await shorten(sequence, all)).join(",")}`;
  console.error(`again: npm run fuzz -- ${replay}`);
  return 1;
}

try {
  process.exitCode = await main();
} finally {
  rmSync(directory, { recursive: true, force: true });
}
