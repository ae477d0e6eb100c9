// Explores every interleaving of clients, server, faults and resets over the fence's own code:
//   npm run explore [-- [--scenario NAME]... [--all] [--faults N] [--seconds S]]
// With a bug in the code, to see it found: npm run explore -- --bug NAME; what there is: npm run explore -- --list
// Exit status: 0 nothing found and all states seen, 1 something found, 2 bad arguments, 3 stopped before all was seen.
import { join } from "node:path";
import { given, numberOf, refuse } from "./arguments.mjs";
import { compiled } from "./compiled.mjs";
import { runInLanes } from "./lanes.mjs";
import { ensureInstalled } from "./setup.mjs";

const text = { type: "string" };
const OPTIONS = {
  scenario: { ...text, multiple: true },
  faults: text,
  seconds: text,
  bug: text,
  all: { type: "boolean" },
  list: { type: "boolean" },
};

const values = given("explore", OPTIONS);
const seconds = numberOf("explore", values, "seconds", { least: 1, whole: false }) ?? 600;
const faults = numberOf("explore", values, "faults", { most: 9 });
if (values.bug !== undefined && (values.scenario !== undefined || faults !== undefined)) {
  refuse("explore", "--bug has a scenario and a number of faults of its own");
}
ensureInstalled();
const folder = compiled();
if (values.bug !== undefined) {
  const { BUGS } = await import(join(folder, "test/explore/bugs.js"));
  const bugs = BUGS.map(({ name }) => name);
  if (values.bug !== "all" && !bugs.includes(values.bug)) {
    refuse("explore", `no bug ${values.bug}; there are ${bugs.join(", ")}, and all`);
  }
  const statuses = await runInLanes(
    join(folder, "test/explore/run_bug.js"),
    (values.bug === "all" ? bugs : [values.bug]).map((name) => [
      name,
      seconds,
      values.bug === "all" ? "short" : "long",
    ]),
  );
  process.exit(Math.max(...statuses));
}
const { SCENARIOS } = await import(join(folder, "test/explore/explored_machines.js"));
if (values.list) {
  const { BUGS } = await import(join(folder, "test/explore/bugs.js"));
  for (const { name, what, faults: most } of SCENARIOS) {
    console.log(`--scenario ${name}: ${what}; ${most} ${most === 1 ? "fault" : "faults"} on a way`);
  }
  for (const { name, what } of BUGS) console.log(`--bug ${name}: ${what}`);
  process.exit(0);
}
const known = SCENARIOS.map(({ name }) => name);
const unknown = values.scenario?.find((name) => !known.includes(name));
if (unknown !== undefined) refuse("explore", `no scenario ${unknown}; there are ${known.join(", ")}`);
const wanted = values.scenario ?? SCENARIOS.filter(({ daily }) => daily || values.all).map(({ name }) => name);
const statuses = await runInLanes(
  join(folder, "test/explore/run.js"),
  wanted.map((name) => [name, faults ?? "-", seconds]),
);
process.exitCode = statuses.includes(1) ? 1 : (statuses.find((status) => status !== 0) ?? 0);
