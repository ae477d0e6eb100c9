import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { killServer } from "./killed_server.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-killed-server-"));
after(() => rmSync(folder, { recursive: true }));

// Every moment: npm run check:ledger
test("a server that is killed while an assignment changes comes back with the old one or the new, and has not lied", async () => {
  const [early, late] = await Promise.all([
    killServer(join(folder, "early"), 1),
    killServer(join(folder, "late"), "answered"),
  ]);
  assert.deepEqual(early, { state: "before", told: false });
  assert.deepEqual(late, { state: "after", told: true });
});
