// Explores one scenario; see scripts/explore.mjs, which takes the arguments from a person.
// Arguments: scenario, faults (or "-" for the scenario's own), seconds. Exit status: 0 all states seen
// and nothing found, 1 something found, 3 stopped before all was seen.
import { SCENARIOS } from "./explored_machines.js";
import { type Exploration, explore } from "./explorer.js";
import { traceLines } from "./trace.js";
import type { Scenario } from "./world.js";

// Nobody reads where an error comes from that is expected ten thousand times.
Error.stackTraceLimit = 0;

const [name, faults, seconds] = process.argv.slice(2);

function scenarioFor(): Scenario {
  const known = SCENARIOS.find((each) => each.name === name);
  if (known === undefined) throw new Error(`no scenario ${name}`);
  return faults === "-" ? known : { ...known, faults: Number(faults) };
}

function inWords({ name, faults }: Scenario, { states, transitions, moments, depth, complete }: Exploration): string {
  const most = `at most ${faults} ${faults === 1 ? "fault" : "faults"} on a way`;
  return (
    `${name}, ${most}: ${states} states, ${transitions} steps between them, ${moments} moments looked at, ` +
    `${depth} steps deep${complete ? ", complete" : ""}`
  );
}

const scenario = scenarioFor();
const start = performance.now();
const result = explore(scenario, {
  milliseconds: Number(seconds) * 1000,
  onProgress: (soFar, waiting) => console.error(`  ${inWords(scenario, soFar)}, ${waiting} to go on from`),
});
const took = (performance.now() - start) / 1000;
const { found, complete, transitions } = result;
console.log(`${inWords(scenario, result)}; ${took.toFixed(1)} s, ${Math.round(transitions / took)} steps a second`);
if (found !== undefined) {
  console.log(
    `${name}: BROKEN in ${found.path.length} ${found.path.length === 1 ? "step" : "steps"}, and in no fewer:`,
  );
  for (const line of traceLines(scenario, found.path)) console.log(line);
  process.exitCode = 1;
} else if (!complete) {
  console.log(`${name}: not all states were seen in ${seconds} s; give it more with --seconds`);
  process.exitCode = 3;
}
