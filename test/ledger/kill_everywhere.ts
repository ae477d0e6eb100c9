import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { saveLedger } from "../../src/cli/serve/ledger_file.js";
import { readCapture } from "../../src/machine/capture.js";
import { assertGoesOn, type CHANGES, oldOrNew } from "./old_or_new.js";

/** The program that is killed. */
export const WRITER = fileURLToPath(new URL("writer.mjs", import.meta.url));

/**
 * Runs the writer with these arguments, to be killed just before the given call.
 * Resolves to whether it came to its end before that call.
 */
export type Write = (
  args: readonly [what: "ledger" | "wiring", stateDir: string, call: number, file: string],
) => Promise<boolean>;

/** How often a writer was killed, what was there then, and how many of them left a temporary file. */
export interface Kills {
  kills: number;
  old: number;
  new: number;
  left: number;
}

/** A change of the ledger in a folder of its own, killed before each call until it comes to its end. */
export async function killLedgerWriters(
  folder: string,
  { from, to }: (typeof CHANGES)[number],
  write: Write,
): Promise<Kills> {
  const file = join(folder, "to.json");
  writeFileSync(file, JSON.stringify(to));
  const found: Kills = { kills: 0, old: 0, new: 0, left: 0 };
  await untilOneEnds(async (call) => {
    const stateDir = join(folder, `${call}`);
    mkdirSync(stateDir);
    if (from !== undefined) await saveLedger(stateDir, from);
    const ended = await write(["ledger", stateDir, call, file]);
    const state = oldOrNew(stateDir, from, to);
    if (ended) assert.equal(state, "new");
    else count(found, state, stateDir);
    await assertGoesOn(stateDir);
    return ended;
  });
  assert.ok(found.old > 0 && found.new > 0 && found.left > 0, `the kills missed the write: ${JSON.stringify(found)}`);
  return found;
}

/** The same for where links end, which is kept beside the ledger, over what was kept earlier in this boot and in another. */
export async function killWiringWriters(folder: string, write: Write): Promise<Kills> {
  const found: Kills = { kills: 0, old: 0, new: 0, left: 0 };
  assert.ok(await write(["wiring", folder, 0, "-"]));
  const [name = ""] = readdirSync(folder).filter((each) => each.startsWith("wiring-"));
  const before = readFileSync(join(folder, name), "utf8");
  await untilOneEnds(async (call) => {
    const stateDir = join(folder, `${call}`);
    mkdirSync(stateDir);
    writeFileSync(join(stateDir, name), before);
    writeFileSync(join(stateDir, "wiring-00000000-0000-4000-8000-000000000000.json"), "{}");
    const ended = await write(["wiring", stateDir, call, "-"]);
    const now = readFileSync(join(stateDir, name), "utf8");
    readCapture(now);
    if (!ended) count(found, now === before ? "old" : "new", stateDir);
    await assertGoesOn(stateDir);
    return ended;
  });
  assert.ok(found.old > 0 && found.new > 0 && found.left > 0, `the kills missed the write: ${JSON.stringify(found)}`);
  return found;
}

function count(found: Kills, state: "old" | "new", stateDir: string): void {
  found.kills++;
  found[state]++;
  if (readdirSync(stateDir).some((name) => /\.json\./.test(name))) found.left++;
}

/** Counts calls up, as many at a time as there are processors. */
async function untilOneEnds(at: (call: number) => Promise<boolean>): Promise<void> {
  for (let first = 1; first < 1000; first += availableParallelism()) {
    const ends = await Promise.all(Array.from({ length: availableParallelism() }, (_, i) => at(first + i)));
    const last = ends.indexOf(true);
    if (last === -1) continue;
    assert.ok(ends.slice(last).every((ended) => ended));
    return;
  }
  assert.fail("the writer never comes to its end");
}

/** A line for people. */
export function inWords({ kills, old, new: now, left }: Kills): string {
  return `${kills} kills: the old one ${old} times, the new one ${now} times, ${left} temporary files cleared away`;
}
