/**
 * Fuzzes one target, or runs inputs of it again. Run by scripts/fuzz-parsers.mjs, which survives when this does not.
 *
 *   fuzz.ts '{"target", "directory", "seed", "seconds", "runs", "keep"}'
 *   fuzz.ts '{"target", "directory", "inputs"}'
 *
 * `directory` is a folder for its files: `note` always holds the input under way, `found0` what did it, with `found1` when
 * it took two inputs. Of two inputs given the second is the larger one, which must not take more time per byte by far.
 * With `keep` the corpus is written anew. Exit status: 0 nothing found, 1 something found.
 */
import { createHash } from "node:crypto";
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "../random.js";
import { BlockCoverage, startCoverage } from "./block_coverage.js";
import { CheckedRun } from "./checked_run.js";
import { Evolution } from "./evolution.js";
import { checkGrowth, GrowthFinding, grownPair } from "./growth.js";
import { minimize } from "./minimize.js";
import { corpus, corpusFolder } from "./samples.js";
import { PARSERS, PLANTED } from "./targets.js";

/** Milliseconds between two lines of progress. */
const PROGRESS = 10_000;
/** Batches between two looks at how time grows with size. */
const GROWTH = 100;
/** Inputs tried to make what was found shorter. */
const TRIES = 3000;

interface Order {
  target: string;
  directory: string;
  seed: number;
  seconds: number;
  runs: number;
  keep: boolean;
  inputs?: string[];
}

const order = JSON.parse(process.argv[2] ?? "{}") as Order;
// What commands print must not depend on where this is run.
process.env.NO_COLOR = "1";

async function fuzz(checked: CheckedRun, coverage: BlockCoverage): Promise<void> {
  const evolution = new Evolution(checked, coverage, order.seed);
  const random = new Random(order.seed, 1);
  const seeds = checked.target.seeds();
  const began = performance.now();
  const passed = () => (performance.now() - began) / 1000;
  let told = 0;
  await evolution.begin([...seeds, ...corpus(order.target)]);
  for (let batch = 0; checked.count < order.runs && passed() < order.seconds; batch++) {
    if (batch % GROWTH === 0) {
      const input = random.once(2) ? evolution.pick() : undefined;
      await checkGrowth(checked, grownPair(checked, random, input));
    }
    await evolution.batch();
    if (performance.now() - told > PROGRESS) {
      told = performance.now();
      tell(checked, evolution, passed());
    }
  }
  if (performance.now() - told > 1000) tell(checked, evolution, passed());
  if (order.keep) keep(await evolution.fewest(seeds));
}

function tell({ count }: CheckedRun, { coverage, kept }: Evolution, seconds: number): void {
  const { run, known } = coverage.count();
  const rate = Math.round(count / seconds);
  const name = order.target.padEnd(16);
  console.log(`${name} ${count} inputs, ${rate} per second, ${run} of ${known} blocks, ${kept.length} inputs kept`);
}

/** Writes the corpus anew. */
function keep(inputs: readonly Uint8Array[]): void {
  const folder = corpusFolder(order.target);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const input of inputs) {
    const name = createHash("sha256").update(input).digest("hex").slice(0, 12);
    writeFileSync(join(folder, name), input);
  }
  console.log(`${inputs.length} inputs written to ${folder}`);
}

async function again(checked: CheckedRun, files: readonly string[]): Promise<void> {
  const [first, second] = files.map((file) => new Uint8Array(readFileSync(file)));
  if (first === undefined) return;
  if (second !== undefined) await checkGrowth(checked, [first, second]);
  else await checked.run(first, "commands");
  console.log(`${order.target}: read or refused as it should be`);
}

/** Saves what did it, then again as short as it can be made. */
async function save(checked: CheckedRun, error: unknown): Promise<void> {
  const found = (input: Uint8Array, index = 0) => writeFileSync(join(order.directory, `found${index}`), input);
  if (error instanceof GrowthFinding) {
    for (const [index, input] of error.pair.entries()) found(input, index);
    return;
  }
  const { input } = checked;
  found(input);
  const isSame = async (shorter: Uint8Array) => {
    try {
      await checked.run(shorter, "commands");
    } catch (other) {
      return kindOf(other) === kindOf(error);
    }
    return false;
  };
  if (order.inputs === undefined && (await isSame(input))) found(await minimize(input, isSame, TRIES));
}

/** Errors of one kind: the same words but for numbers, from the same line. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const where = /\n\s+at .*/.exec(error.stack ?? "")?.[0];
  return `${error.name} ${error.message.slice(0, 80).replace(/\d+/g, "")} ${where}`;
}

const load = { ...PARSERS, ...PLANTED }[order.target];
if (load === undefined) throw new Error(`no target ${order.target}`);
const coverage = startCoverage();
const { makeTarget } = await load();
const target = makeTarget(order.directory);
const checked = new CheckedRun(target, openSync(join(order.directory, "note"), "w"));
try {
  if (order.inputs === undefined) await fuzz(checked, new BlockCoverage(coverage, target.modules));
  else await again(checked, order.inputs);
} catch (error) {
  process.exitCode = 1;
  console.error(error);
  await save(checked, error);
}
