import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadLedger } from "../../src/cli/serve/ledger_file.js";
import { json } from "../cli/json_schema.js";
import { ENVIRONMENT, linkfence, MAIN, refused } from "../cli/linkfence.js";
import { ServingProcess, type StatusJson } from "../cli/serving_process.js";

const PRELOAD = fileURLToPath(new URL("die_in_change.mjs", import.meta.url));
const BEFORE = { vm1: ["GPU0", "GPU1"], vm2: ["GPU2"] };
const AFTER = { vm1: ["GPU0", "GPU1"], vm2: ["GPU2", "GPU3"] };

/**
 * When the server is killed: before a call of a file function, the first being that of a change's write; when it tells of
 * the change's first step; or when its client has the answer.
 */
export type Moment = number | "fencing" | "answered";

/** Moments that a change has for certain: its write is nine calls. */
export const MOMENTS: readonly Moment[] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "fencing", "answered"];

/** What was found when a server that was killed was started again. */
export interface Outcome {
  state: "before" | "after";
  /** Whether the client of the change was told that it is done. */
  told: boolean;
}

/** Changes an assignment of a server that is killed at this moment, and starts another on what it left. */
export async function killServer(folder: string, moment: Moment): Promise<Outcome> {
  const [sockets, state] = [join(folder, "run"), join(folder, "state")];
  const where = ["--machine", "sequoia", "--socket-dir", sockets, "--state-dir", state];
  const assign = Object.entries(BEFORE).map(([name, gpus]) => `--assign=${name}=${gpus.join(",")}`);
  const env = { ...ENVIRONMENT, DIE_BEFORE: typeof moment === "number" ? `${moment}` : "0" };
  const server = new ServingProcess(["--import", PRELOAD, MAIN, "serve", "--json", ...where, ...assign], { env });
  await server.event("ready");
  const lines = server.lines.length;
  const asking = linkfence("assign", "vm2=GPU2,GPU3", "--socket-dir", sockets, "--json");
  if (moment === "fencing")
    await server.line((line) => server.lines.indexOf(line) >= lines && line.includes('"fence"'));
  const answer = typeof moment === "number" || moment === "answered" ? await asking : undefined;
  assert.equal((await server.end("SIGKILL")).signal, "SIGKILL");
  const run = answer ?? (await asking);
  if (run.status !== 0) refused(run, `assign, when the server was killed: ${moment}`);
  return { state: await stateAfterRestart(where, sockets, state), told: run.status === 0 };
}

/** Status of a server that knows nothing but the ledger: it is fenced, and what is assigned is what the ledger has. */
async function stateAfterRestart(where: string[], sockets: string, state: string): Promise<"before" | "after"> {
  const kept = loadLedger(state);
  const server = await ServingProcess.ready(...where);
  try {
    const status = await json<StatusJson>(0, "status", "--socket-dir", sockets);
    assert.equal(status.fenced, true);
    const gpus = (name: string) =>
      status.functions.filter((each) => each.kind === "gpu" && each.assignment === name).map((each) => each.name);
    const found = Object.fromEntries(status.assignments.map(({ name }) => [name, gpus(name)]));
    assert.deepEqual(
      status.assignments.map(({ name, members }) => [name, members]),
      kept?.assignments.map(({ name, members }) => [name, members]),
    );
    const states = { before: BEFORE, after: AFTER };
    for (const name of ["before", "after"] as const) {
      if (JSON.stringify(found) === JSON.stringify(states[name])) return name;
    }
    return assert.fail(`neither: ${JSON.stringify(found)}`);
  } finally {
    await server.end();
  }
}
