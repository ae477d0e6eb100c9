import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { inWords, killLedgerWriters, WRITER, type Write } from "./kill_everywhere.js";
import { CHANGES } from "./old_or_new.js";

// Killed before each of its calls of a file function. For all changes, that of where links end, and each system call:
// npm run check:ledger

const folder = mkdtempSync(join(tmpdir(), "linkfence-killed-"));
after(() => rmSync(folder, { recursive: true }));

const write: Write = async (args) => {
  const child = spawn(process.execPath, [WRITER, ...args.map(String)], { stdio: ["ignore", "ignore", "inherit"] });
  const [status, signal] = await once(child, "close");
  assert.ok(signal === "SIGKILL" || status === 0, `${status} ${signal}`);
  return status === 0;
};

function subfolder(name: string): string {
  mkdirSync(join(folder, name));
  return join(folder, name);
}

test("killed before any call, a writer of the ledger leaves the old one or the new", async (t) => {
  const [, change] = CHANGES;
  assert.ok(change);
  t.diagnostic(inWords(await killLedgerWriters(subfolder("ledger"), change, write)));
});
