import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";

/**
 * Runs a script of Node's once for each list of arguments, as many side by side as there are processors.
 * @returns their exit statuses
 */
export async function runInLanes(script, lists) {
  const waiting = [...lists];
  const statuses = [];
  const lane = async () => {
    for (let args = waiting.shift(); args !== undefined; args = waiting.shift()) {
      const child = spawn(process.execPath, [script, ...args.map(String)], { stdio: "inherit" });
      statuses.push(await new Promise((resolve) => child.on("exit", (status) => resolve(status ?? 1))));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, lane));
  return statuses;
}
