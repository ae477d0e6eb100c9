import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { builtinMachine } from "../../src/machine/builtin.js";
import { BUGS } from "../explore/bugs.js";
import { patchedCopy } from "../patched_copy.js";
import { runs } from "../runs.js";
import { expectedOf, sharings } from "./model.js";
import { checkModel, MACHINES } from "./model_check.js";

const RUNS = runs(6);

for (const machine of MACHINES) {
  test(`no order of clients, faults and assignments opens a link of ${machine}`, (t) => {
    const seed = Date.now() % 2 ** 31;
    t.diagnostic(`seed ${seed}`);
    const finding = checkModel({ machine, seed, runs: RUNS });
    const again = finding && `npm run models -- --machine ${machine} --seed ${seed} --runs ${RUNS}`;
    assert.equal(finding, undefined, `${finding?.message}\nagain: ${again}`);
  });
}

test("what is expected of a GPU follows from its wiring and its owners", () => {
  const machine = builtinMachine("sequoia");
  const [first, second] = sharings(machine);
  const gpu0 = machine.gpus[0]?.address ?? "";
  assert.deepEqual([...expectedOf(machine, first ?? [], gpu0).kept], [1, 5], "its NPU bridges");
  assert.deepEqual([...expectedOf(machine, second ?? [], gpu0).kept], [0, 1, 4, 5], "and its owner's other GPU");
});

test("random steps find a mistake in the code, and what they print has exactly that again", () => {
  const bug = BUGS.find(({ name }) => name === "restore-after-decode");
  const { folder, remove } = patchedCopy(bug?.edits ?? []);
  const run = (...args: string[]) => {
    const script = ["--import", "tsx", "test/models/run.ts", "sequoia", ...args];
    return spawnSync(process.execPath, script, { cwd: folder, encoding: "utf8" });
  };
  try {
    const found = run("1", "400", "60");
    assert.equal(found.status, 1, found.stdout);
    assert.match(found.stdout, /BROKEN: GPU\d failed although nothing went wrong: BAR0 has no address/);
    const again = /--seed (\S+) --path (\S+) --replay-path (\S+)/.exec(found.stdout);
    const [, seed = "", path = "", replayPath = ""] = again ?? [];
    assert.equal(run(seed, "1", "60", path, replayPath).stdout, found.stdout);
  } finally {
    remove();
  }
});
