import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import type { Machine } from "../../machine/machine.js";
import { keepWiring, withKeptWiring } from "./kept_wiring.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-wiring-"));
after(() => rmSync(folder, { recursive: true }));

/** A carrier as a live host, as it is when nobody tells where links end. */
function live(told: boolean): Machine {
  const machine = { ...structuredClone(builtinMachine("c4140")), virtual: false };
  if (told) return machine;
  const addresses = machine.gpus.map(({ address }) => address);
  for (const gpu of machine.gpus) gpu.links = [];
  return { ...machine, unknown: [{ what: "far ends", functions: addresses, about: "far-ends" }] };
}

test("where links end is known again, and nothing of their state", async () => {
  await keepWiring(folder, live(true));
  const known = withKeptWiring(live(false), folder);
  const ends = (machine: Machine) => machine.gpus.map(({ links }) => links.map(({ number, far }) => ({ number, far })));
  assert.deepEqual(ends(known), ends(live(true)));
  assert.ok(known.gpus.every(({ links }) => links.every(({ state, evidence }) => state === "unknown" && !evidence)));
  assert.deepEqual(known.unknown, []);
});

test("what is told now counts, and another part at an address has no links of the former one", () => {
  const now = live(true);
  assert.equal(withKeptWiring(now, folder), now);
  const other = live(false);
  for (const gpu of other.gpus) gpu.part = "GA100";
  assert.equal(withKeptWiring(other, folder), other);
});

test("what another boot has kept, or what is damaged, is nothing", async () => {
  const [name = ""] = readdirSync(folder);
  writeFileSync(join(folder, name), "{}");
  const bare = live(false);
  assert.equal(withKeptWiring(bare, folder), bare);
  const old = "wiring-00000000-0000-4000-8000-000000000000.json";
  writeFileSync(join(folder, old), "{}");
  await keepWiring(folder, live(true));
  assert.deepEqual(readdirSync(folder), [name], "and goes when something is kept anew");
});
