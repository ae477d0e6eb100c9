import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { killServer, MOMENTS, type Outcome } from "./killed_server.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-killed-server-"));
after(() => rmSync(folder, { recursive: true }));

test("a server that is killed at any moment of a change comes back with the old or the new, and has not lied", async (t) => {
  const outcomes: Outcome[] = [];
  for (const moment of MOMENTS) {
    const outcome = await killServer(join(folder, `${moment}`), moment);
    assert.ok(outcome.state === "after" || !outcome.told, `${moment}: told that it is done, and yet it is not`);
    outcomes.push(outcome);
  }
  const many = (state: string, told: boolean) =>
    outcomes.filter((each) => each.state === state && each.told === told).length;
  t.diagnostic(
    `${outcomes.length} kills: ${many("before", false)} times the old assignments, ` +
      `${many("after", false)} times the new ones with no answer, ${many("after", true)} times with one`,
  );
  assert.ok(many("before", false) > 0 && many("after", false) > 0 && many("after", true) > 0);
});
