import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { describe, test } from "node:test";
import { json } from "./json_schema.js";
import type { AuditJson, FenceJson, PlanJson, VerifyJson } from "./json_shapes.js";
import { linkfence, refused, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
const TIME = "2026-01-31T12:00:00.000Z";

/** A state directory whose ledger says that vm1 has GPU0 and GPU1 of a Sequoia, changed so. */
function stateDir(name: string, change: Record<string, unknown> = {}): string[] {
  const assignments = [{ name: "vm1", members: ["0004:04:00.0", "0004:05:00.0"], since: TIME }];
  const ledger = { version: 1, machine: "sequoia", virtual: true, assignments, writtenAt: TIME, ...change };
  mkdirSync(folder.path(name));
  folder.file(`${name}/ledger.json`, JSON.stringify(ledger));
  return ["--state-dir", folder.path(name)];
}

const SEQUOIA = ["--machine", "sequoia"];
const owners = (plan: PlanJson) => plan.gpus.map(({ assignment }) => assignment).join(" ");

describe("the ledger says who owns what", { concurrency: 4 }, () => {
  test("to plan, fence, verify and audit, when nothing else does", async () => {
    const state = stateDir("plain");
    const plan = await json<PlanJson>(0, "plan", ...SEQUOIA, ...state);
    assert.equal(owners(plan), "vm1 vm1 host host host host");
    const fenced = await json<FenceJson>(0, "fence", ...SEQUOIA, ...state);
    assert.equal(fenced.gpus[0]?.after.disableMask, "0x000c0000");
    const { open } = await json<VerifyJson>(1, "verify", ...SEQUOIA, ...state);
    assert.equal(open, true);
    const { findings } = await json<AuditJson>(1, "audit", ...SEQUOIA, ...state);
    assert.ok(
      findings.some(({ reason }) => reason.includes("vm1")),
      JSON.stringify(findings[0]),
    );
  });

  test("and what --assign or the capture says goes first", async () => {
    const state = stateDir("behind");
    const plan = await json<PlanJson>(0, "plan", ...SEQUOIA, ...state, "--assign", "vm2=GPU5");
    assert.equal(owners(plan), "host host host host host vm2");
    const capture = folder.path("sequoia.json");
    await json(0, "capture", ...SEQUOIA, "--assign", "vm3=GPU4", "--out", capture);
    const captured = await json<PlanJson>(0, "plan", "--capture", capture, ...state);
    assert.equal(owners(captured), "host host host host vm3 host");
  });

  test("one of another machine, or none at all, says nothing", async () => {
    const nobody = [
      stateDir("other", { machine: "redbud" }),
      stateDir("members", { assignments: [{ name: "vm1", members: ["00ff:00:00.0"], since: TIME }] }),
      stateDir("empty", { assignments: [] }),
      ["--state-dir", folder.path("nothing")],
    ];
    for (const state of nobody) {
      assert.match(refused(await linkfence("plan", ...SEQUOIA, ...state), state.join(" ")), /--assign/);
    }
  });

  test("a damaged one is refused by name, unless --assign makes it needless", async () => {
    const state = stateDir("damaged", { version: 7 });
    for (const command of ["plan", "fence", "verify", "audit"]) {
      assert.match(
        refused(await linkfence(command, ...SEQUOIA, ...state), command),
        /damaged\/ledger\.json.*version 7/,
      );
    }
    await json<PlanJson>(0, "plan", ...SEQUOIA, ...state, "--assign", "a=GPU0");
  });
});
