// Explores every interleaving of clients, server, faults and resets over the fence's own code:
//   npm run explore [-- [--scenario NAME]... [--faults N] [--seconds S]]
// With a bug in the code, to see it found: npm run explore -- --bug NAME; what there is: npm run explore -- --list
// Exit status: 0 nothing found and all states seen, 1 something found, 2 bad arguments, 3 stopped before all was seen.
import { spawn, spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compiled } from "./compiled.mjs";
import { ensureInstalled, root } from "./setup.mjs";

const text = { type: "string" };
const OPTIONS = {
  scenario: { ...text, multiple: true },
  faults: text,
  seconds: text,
  bug: text,
  list: { type: "boolean" },
};

function fail(message) {
  console.error(`explore: ${message}`);
  process.exit(2);
}

function parse() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    return fail(error.message);
  }
}

function number(name, value, least, most) {
  if (value === undefined) return undefined;
  if (/^\d+(\.\d+)?$/.test(value) && Number(value) >= least && Number(value) <= most) return Number(value);
  return fail(`--${name} ${value}: a number from ${least} to ${most} is wanted`);
}

/** Explores one after the other, as many side by side as there are processors. @returns their exit statuses */
async function exploreAll(script, names, faults, seconds) {
  const waiting = [...names];
  const statuses = [];
  const lane = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const child = spawn(process.execPath, [script, name, faults ?? "-", seconds].map(String), { stdio: "inherit" });
      statuses.push(await new Promise((resolve) => child.on("exit", (status) => resolve(status ?? 1))));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, lane));
  return statuses;
}

const values = parse();
const seconds = number("seconds", values.seconds, 1, 1e6) ?? 600;
const faults = number("faults", values.faults, 0, 9);
if (faults !== undefined && !Number.isInteger(faults)) fail(`--faults ${values.faults}: a whole number is wanted`);
if (values.bug !== undefined && (values.scenario !== undefined || faults !== undefined)) {
  fail("--bug has a scenario and a number of faults of its own");
}
ensureInstalled();
if (values.bug !== undefined) {
  const script = join(root, "test/explore/run_bug.ts");
  const { status } = spawnSync(process.execPath, ["--import", "tsx", script, values.bug, String(seconds)], {
    stdio: "inherit",
  });
  process.exit(status ?? 1);
}
const folder = compiled();
const { SCENARIOS } = await import(join(folder, "test/explore/explored_machines.js"));
const { BUGS } = await import(join(folder, "test/explore/bugs.js"));
const known = SCENARIOS.map(({ name }) => name);
if (values.list) {
  for (const { name, what, faults: of } of SCENARIOS) console.log(`--scenario ${name}: ${what}; at most ${of} faults`);
  for (const { name, what } of BUGS) console.log(`--bug ${name}: ${what}`);
  process.exit(0);
}
const unknown = values.scenario?.find((name) => !known.includes(name));
if (unknown !== undefined) fail(`no scenario ${unknown}; there are ${known.join(", ")}`);
const wanted = values.scenario ?? SCENARIOS.filter(({ daily }) => daily).map(({ name }) => name);
const statuses = await exploreAll(join(folder, "test/explore/run.js"), wanted, faults, seconds);
process.exitCode = statuses.includes(1) ? 1 : (statuses.find((status) => status !== 0) ?? 0);
