// Compares linkfence with others' programs on generated inputs, until something differs or the runs are done.
// Usage: npm run differential -- [--seed N] [--runs N] [trees] [config]
// Exit status: 0 nothing differs, 1 something does, with the command that shows it again; 2 bad usage.
import { parseArgs } from "node:util";
import { freshSeed, lookAt } from "./check.js";
import { CHECKS, whyNot } from "./checks.js";

const USAGE = `usage: npm run differential -- [--seed N] [--runs N] [${Object.keys(CHECKS).join("] [")}]`;
const MOST = 2 ** 31 - 1;

function main(): number {
  const { seed, runs, words } = options();
  for (const word of words) {
    for (const each of CHECKS[word] ?? []) {
      const skip = whyNot(each);
      if (skip !== false) {
        console.log(`${each.name}: skipped, ${skip}`);
        continue;
      }
      const start = Date.now();
      const { tally, runs: done, found } = lookAt(each.check, seed, runs);
      console.log(
        `${each.name}: seed ${seed}, ${done} inputs in ${((Date.now() - start) / 1000).toFixed(1)} s: ${tally}`,
      );
      if (found === undefined) continue;
      console.error(`${found}\nagain: npm run differential -- --seed ${seed} --runs ${done} ${word}`);
      return 1;
    }
  }
  return 0;
}

function options(): { seed: number; runs: number; words: string[] } {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({ options: { seed: text, runs: text }, allowPositionals: true });
  const unknown = positionals.find((word) => !Object.hasOwn(CHECKS, word));
  if (unknown !== undefined) throw new Error(`there is no ${JSON.stringify(unknown)}`);
  return {
    seed: number(values.seed ?? `${freshSeed()}`, "--seed", 0),
    runs: number(values.runs ?? "200", "--runs", 1),
    words: positionals.length > 0 ? [...new Set(positionals)] : Object.keys(CHECKS),
  };
}

function number(text: string, option: string, least: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  if (value < least || value > MOST)
    throw new Error(`${option} takes a number from ${least} to ${MOST}, not ${JSON.stringify(text)}`);
  return value;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`differential: ${error instanceof Error ? error.message.split("\n")[0] : error}; ${USAGE}`);
  process.exitCode = 2;
}
