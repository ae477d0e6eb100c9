import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { UsageError } from "../../src/cli/failure.js";
import { loadLedger, saveLedger } from "../../src/cli/serve/ledger_file.js";
import { writeFileWhole } from "../../src/cli/write_file.js";
import type { Ledger } from "../../src/fence/ledger.js";
import { errnoInWords } from "../../src/host/error.js";
import { type FileCall, intercept, systemError } from "./file_calls.js";
import { assertGoesOn, CHANGES, ledgerOfGpus, oldOrNew } from "./old_or_new.js";

// Each call of a write fails, in each way that a disk fails.

const folder = mkdtempSync(join(tmpdir(), "linkfence-failing-"));
after(() => rmSync(folder, { recursive: true }));
const ERRORS = ["ENOSPC", "EIO", "EACCES", "EROFS", "EDQUOT", "EMFILE"];
let folders = 0;

type Handler = (call: FileCall, perform: (...args: unknown[]) => unknown, index: number) => unknown;

/** A change of a ledger whose calls somebody meddles with. Resolves to what it was refused with, if it was. */
async function change(
  from: Ledger | undefined,
  to: Ledger,
  handle: Handler,
): Promise<{ stateDir: string; calls: number; error?: unknown }> {
  const stateDir = join(folder, `${folders++}`);
  mkdirSync(stateDir);
  if (from !== undefined) await saveLedger(stateDir, from);
  let calls = 0;
  try {
    await intercept(
      () => saveLedger(stateDir, to),
      (call, perform) => handle(call, perform, calls++),
    );
    return { stateDir, calls };
  } catch (error) {
    return { stateDir, calls, error };
  }
}

/** What a failure must look like to whoever asked for the write. */
function assertTold(error: unknown, code: string): void {
  assert.ok(error instanceof UsageError, String(error));
  assert.match(error.message, new RegExp(`^cannot write [^\\n]+: ${errnoInWords(code)}(;|$)`));
  assert.notEqual(errnoInWords(code), code, "said in words");
}

for (const { name, from, to } of CHANGES) {
  test(`any call that fails once leaves the old ledger, and nothing beside it: ${name}`, async (t) => {
    const { calls } = await change(from, to, (_, perform) => perform());
    assert.ok(calls > 8, `only ${calls} calls seen`);
    let [refused, needless] = [0, 0];
    for (const code of ERRORS) {
      for (let failing = 0; failing < calls; failing++) {
        const { stateDir, error } = await change(from, to, (call, perform, index) => {
          // A descriptor is gone whatever close answers.
          if (index === failing && call.name === "closeSync") perform();
          if (index === failing) throw systemError(code, call);
          return perform();
        });
        const state = oldOrNew(stateDir, from, to);
        if (error === undefined) needless++;
        else {
          refused++;
          assertTold(error, code);
          assert.equal(state, "old");
        }
        assert.deepEqual(readdirSync(stateDir), loadLedger(stateDir) === undefined ? [] : ["ledger.json"]);
        await assertGoesOn(stateDir);
        rmSync(stateDir, { recursive: true });
      }
    }
    assert.ok(needless <= 2 * ERRORS.length, "only where links lead may stay unknown");
    t.diagnostic(`${refused} failures refused, ${needless} that did not matter`);
  });

  test(`a disk that fails for good leaves one of the two, and who is told that nothing was changed has the old: ${name}`, async () => {
    for (const code of ERRORS) {
      for (let failing = 0; ; failing++) {
        const { stateDir, error } = await change(from, to, (call, perform, index) => {
          if (index >= failing && call.name === "closeSync") perform();
          if (index >= failing) throw systemError(code, call);
          return perform();
        });
        if (error === undefined) break;
        assertTold(error, code);
        const state = oldOrNew(stateDir, from, to);
        const isSure = (error as Error).message.includes("nothing was changed");
        assert.equal(isSure, !(error as Error).message.includes("may have the new assignments"));
        assert.ok(!isSure || state === "old");
        await assertGoesOn(stateDir);
        rmSync(stateDir, { recursive: true });
      }
    }
  });
}

const [FROM, TO] = [ledgerOfGpus(2, 5), ledgerOfGpus(100, 6)];

/** Writes at most this much at once, and after this much in all nothing more. */
function smallWrites(most: number, room = Number.POSITIVE_INFINITY): Handler {
  let left = room;
  return (call, perform) => {
    if (call.name !== "writeSync") return perform();
    const [fd, data, from, length, at] = call.args as [number, Uint8Array, number, number, number];
    const some = Math.min(length, most, left);
    if (some === 0) throw systemError("ENOSPC", call);
    left -= some;
    return perform(fd, data, from, some, at);
  };
}

test("a disk with room for some of it takes none: a short write is no whole ledger", async () => {
  for (const room of [0, 1, 100, 5000]) {
    const { stateDir, error } = await change(FROM, TO, smallWrites(8192, room));
    assertTold(error, "ENOSPC");
    assert.equal(oldOrNew(stateDir, FROM, TO), "old");
    assert.deepEqual(readdirSync(stateDir), ["ledger.json"]);
  }
});

test("what is taken in small pieces is whole", async () => {
  for (const most of [1000, 4096]) {
    const { stateDir, error } = await change(FROM, TO, smallWrites(most));
    assert.equal(error, undefined);
    assert.equal(oldOrNew(stateDir, FROM, TO), "new");
  }
});

test("a kernel that takes nothing and names no error does not hang the writer", async () => {
  const { stateDir, error } = await change(FROM, TO, (call, perform) => (call.name === "writeSync" ? 0 : perform()));
  assertTold(error, "EIO");
  assert.equal(oldOrNew(stateDir, FROM, TO), "old");
});

test("a file of --out is whole or not there, too", async () => {
  const path = join(folder, "out.json");
  const { length } = "x".repeat(3000);
  let left = 1024;
  const write = writeFileWhole(path, "y").then(() =>
    intercept(
      () => writeFileWhole(path, "x".repeat(length)),
      (call, perform) => {
        const most = smallWrites(1024, left);
        if (call.name === "writeSync") left = 0;
        return most(call, perform, 0);
      },
    ),
  );
  await assert.rejects(write, { code: "EUSAGE", message: /out\.json: no space left/ });
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith("out")),
    ["out.json"],
  );
});
