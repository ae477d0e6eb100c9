import { spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { ensureBuilt, root } from "./setup.mjs";

const SKIPPED = 77;
/** A check keeps one processor busy, and its machines' emulation does not use more. */
const MOST_LANES = 2;

/**
 * Runs those checks of a table that are named, or all of them, and sets the exit status: 0 all passed, 2 a name is unknown,
 * and nothing runs; 77 this machine cannot run one, and none failed; else something failed. Checks that are to be `alone` run
 * first, one after the other; the others side by side, as many as there are processors for, and what they print comes when
 * they have ended.
 * @param program what it is called, for messages
 * @param checks by name, each a script below the project's folder with its arguments and variables, and the seconds that it
 * may take
 */
export async function runChecks(program, checks, names) {
  const unknown = names.filter((name) => !Object.hasOwn(checks, name));
  if (unknown.length > 0) {
    console.error(`${program}: no check ${unknown.join(", ")}; there are ${Object.keys(checks).join(", ")}`);
    process.exit(2);
  }
  // The guests run what is built: they have no compiler.
  await ensureBuilt();
  const wanted = names.length > 0 ? names : Object.keys(checks);
  const alone = wanted.length === 1 ? wanted : wanted.filter((name) => checks[name].alone);
  const waiting = wanted.filter((name) => !alone.includes(name));
  const statuses = [];
  for (const name of alone) statuses.push(await run(name, checks[name], false));
  const lane = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      statuses.push(await run(name, checks[name], true));
    }
  };
  await Promise.all(Array.from({ length: Math.min(MOST_LANES, availableParallelism()) }, lane));
  const failed = statuses.some((status) => status !== 0 && status !== SKIPPED);
  process.exitCode = failed ? 1 : statuses.includes(SKIPPED) ? SKIPPED : 0;
}

/** @returns its exit status; null when it was ended because it took too long */
async function run(name, { script, args = [], env = {}, budget }, isBeside) {
  const start = Date.now();
  console.log(`${name} (budget ${budget} s)`);
  const child = spawn(process.execPath, ["--import", "tsx", script, ...args], {
    cwd: root,
    stdio: isBeside ? ["ignore", "pipe", "pipe"] : "inherit",
    timeout: budget * 1000,
    env: { ...process.env, ...env },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data) => {
      output += data;
    });
  }
  const [status] = await once(child, "close");
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  process.stdout.write(output);
  console.log(`${name}: ${seconds} s${status === null ? ", ended: it took too long" : ""}`);
  return status;
}
