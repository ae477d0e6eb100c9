import { spawnSync } from "node:child_process";
import { ensureBuilt, root } from "./setup.mjs";

const SKIPPED = 77;

/**
 * Runs those checks of a table that are named, or all of them, one after the other, and sets the exit status: 0 all passed,
 * 2 a name is unknown, and nothing runs; 77 this machine cannot run one, and none before it failed; else something failed.
 * @param program what it is called, for messages
 * @param checks by name, each a script below the project's folder with its arguments and variables, and the seconds that it
 * may take
 */
export function runChecks(program, checks, names) {
  const unknown = names.filter((name) => !Object.hasOwn(checks, name));
  if (unknown.length > 0) {
    console.error(`${program}: no check ${unknown.join(", ")}; there are ${Object.keys(checks).join(", ")}`);
    process.exit(2);
  }
  // The guests run what is built: they have no compiler.
  ensureBuilt();
  for (const name of names.length > 0 ? names : Object.keys(checks)) {
    const { script, args = [], env = {}, budget } = checks[name];
    const start = Date.now();
    console.log(`${name} (budget ${budget} s)`);
    const { status, error } = spawnSync(process.execPath, ["--import", "tsx", script, ...args], {
      cwd: root,
      stdio: "inherit",
      timeout: budget * 1000,
      env: { ...process.env, ...env },
    });
    console.log(`${name}: ${((Date.now() - start) / 1000).toFixed(1)} s${error ? `, ${error.message}` : ""}`);
    if (status === SKIPPED) process.exit(process.exitCode ?? SKIPPED);
    if (status !== 0) process.exitCode = 1;
  }
}
