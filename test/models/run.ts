// Random steps on one machine; see scripts/models.mjs, which takes the arguments from a person.
// Arguments: machine, seed, runs, seconds, and for one finding again its path and replay path. Exit status: 0 nothing found, 1 found.
import { checkModel } from "./model_check.js";

/** Runs of one seed; the next ones have the next. */
const BATCH = 20;
/** How often progress is told, in milliseconds. */
const TELL = 5000;

const [machine = "", seed, runs, seconds, path, replayPath] = process.argv.slice(2);
const start = performance.now();
const end = start + Number(seconds) * 1000;
let tell = start + TELL;
let done = 0;
for (let batch = 0; done < Number(runs) && (done === 0 || performance.now() < end); batch++) {
  const size = Math.min(BATCH, Number(runs) - done);
  const again = path === undefined || replayPath === undefined ? {} : { path, replayPath };
  const finding = checkModel({ machine, seed: Number(seed) + batch, runs: size, ...again });
  done += size;
  if (finding !== undefined) {
    console.log(`${machine}: BROKEN: ${finding.message}`);
    console.log(
      `again: npm run models -- --machine ${machine} --seed ${finding.seed} --path ${finding.path} --replay-path ${finding.replayPath}`,
    );
    process.exit(1);
  }
  if (performance.now() < tell) continue;
  tell = performance.now() + TELL;
  console.error(`  ${machine}: ${done} runs`);
}
console.log(
  `${machine}: ${done} runs from seed ${seed} on, ${((performance.now() - start) / 1000).toFixed(1)} s; nothing found`,
);
