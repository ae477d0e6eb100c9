// Random steps of clients, server and faults on machines of six and eight GPUs, against what their wiring says:
//   npm run models [-- [--machine NAME]... [--seed N] [--runs N] [--seconds S]]
// A finding again, as it says itself: npm run models -- --machine NAME --seed N --path P --replay-path R
// Exit status: 0 nothing found, 1 something found, 2 bad arguments.
import { join } from "node:path";
import { given, numberOf, refuse } from "./arguments.mjs";
import { compiled } from "./compiled.mjs";
import { runInLanes } from "./lanes.mjs";
import { ensureInstalled } from "./setup.mjs";

const text = { type: "string" };
const OPTIONS = {
  machine: { ...text, multiple: true },
  seed: text,
  runs: text,
  seconds: text,
  path: text,
  "replay-path": text,
};

const values = given("models", OPTIONS);
const seed = numberOf("models", values, "seed") ?? Date.now() % 2 ** 31;
const seconds =
  numberOf("models", values, "seconds", { least: 1, whole: false }) ?? (values.runs === undefined ? 60 : 1e9);
const { path, "replay-path": replayPath } = values;
const isAgain = path !== undefined || replayPath !== undefined;
const complete =
  path !== undefined && replayPath !== undefined && values.machine?.length === 1 && values.seed !== undefined;
if (isAgain && !complete)
  refuse("models", "a finding has a --machine, a --seed, a --path and a --replay-path: give all of them");
if (path !== undefined && !/^[\d:]+$/.test(path)) refuse("models", `--path ${path}: numbers and colons are wanted`);
const runs = isAgain ? 1 : (numberOf("models", values, "runs", { least: 1 }) ?? 2 ** 31);
ensureInstalled();
const folder = compiled();
const { MACHINES } = await import(join(folder, "test/models/model_check.js"));
const unknown = values.machine?.find((name) => !MACHINES.includes(name));
if (unknown !== undefined) refuse("models", `no machine ${unknown} here; there are ${MACHINES.join(", ")}`);
console.log(`seed ${seed}`);
const again = isAgain ? [path, replayPath] : [];
const statuses = await runInLanes(
  join(folder, "test/models/run.js"),
  (values.machine ?? MACHINES).map((name) => [name, seed, runs, seconds, ...again]),
);
process.exitCode = statuses.some((status) => status !== 0) ? 1 : 0;
