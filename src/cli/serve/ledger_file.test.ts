import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import { isOf, ledgerFor, ledgerOf, loadLedger, saveLedger, withoutDrivers } from "./ledger_file.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-ledger-"));
after(() => rmSync(folder, { recursive: true }));
const machine = builtinMachine("sequoia");
const [GPU0 = "", GPU1 = "", GPU2 = ""] = machine.gpus.map(({ address }) => address);
const MONDAY = "2026-01-05T12:00:00.000Z";
const TUESDAY = "2026-01-06T12:00:00.000Z";

test("a ledger is read as it was written, and is its owner's alone", async () => {
  const ledger = ledgerOf(machine, [{ name: "vm1", members: [GPU0, GPU1] }], undefined, MONDAY);
  await saveLedger(folder, ledger);
  assert.deepEqual(loadLedger(folder), ledger);
  assert.equal(statSync(join(folder, "ledger.json")).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder), ["ledger.json"]);
});

test("an assignment that stays as it was keeps its date", () => {
  const old = ledgerOf(
    machine,
    [
      { name: "vm1", members: [GPU0, GPU1] },
      { name: "vm2", members: [GPU2] },
    ],
    undefined,
    MONDAY,
  );
  const next = [
    { name: "vm1", members: [GPU1, GPU0] },
    { name: "vm2", members: [GPU0] },
    { name: "vm3", members: [GPU2] },
  ];
  assert.deepEqual(
    ledgerOf(machine, next, old, TUESDAY).assignments.map(({ since }) => since),
    [MONDAY, TUESDAY, TUESDAY],
  );
});

test("one that cannot be written leaves the old one as it is, and nothing beside it", async () => {
  const path = join(folder, "full");
  mkdirSync(path);
  const old = ledgerOf(machine, [], undefined, MONDAY);
  await saveLedger(path, old);
  // A folder in its place: root can write where permissions say no.
  const blocked = join(folder, "blocked");
  mkdirSync(join(blocked, "ledger.json"), { recursive: true });
  await assert.rejects(saveLedger(blocked, old), { code: "EUSAGE", message: /nothing was changed: is a directory/ });
  await assert.rejects(saveLedger(join(folder, "nowhere"), old), { message: /nothing was changed: no such file/ });
  await assert.rejects(saveLedger(path, { ...old, machine: 'a"b' }), { code: "ELEDGER_FORMAT" });
  assert.deepEqual(loadLedger(path), old);
  assert.deepEqual([readdirSync(path), readdirSync(blocked)], [["ledger.json"], ["ledger.json"]]);
});

test("no ledger is none, and what is none is refused with its name", () => {
  assert.equal(loadLedger(join(folder, "nothing")), undefined);
  assert.equal(loadLedger(join(folder, "ledger.json")), undefined, "below a file");
  const path = join(folder, "bad");
  mkdirSync(path);
  for (const text of ["", "{", "[]", "null", '{"version":2}', "\u0000".repeat(100)]) {
    writeFileSync(join(path, "ledger.json"), text);
    assert.throws(() => loadLedger(path), { code: "EUSAGE", message: /bad\/ledger\.json: ledger: .*remove it/ }, text);
  }
  chmodSync(join(path, "ledger.json"), 0o600);
  writeFileSync(join(path, "ledger.json"), Buffer.alloc(5 << 20));
  assert.throws(() => loadLedger(path), { code: "ETOOLARGE" });
});

test("a ledger is another machine's by its name or by its members, and a real machine's is not written over", async () => {
  const path = join(folder, "other");
  mkdirSync(path);
  const redbud = builtinMachine("redbud");
  const [gpu] = redbud.gpus;
  await saveLedger(path, ledgerOf(redbud, [{ name: "a", members: [gpu?.address ?? ""] }], undefined, MONDAY));
  assert.equal(ledgerFor(machine, path).assignments.length, 0, "virtual hardware is gone with its server");
  const real = { ...machine, virtual: false };
  assert.throws(() => ledgerFor(real, path), { code: "EUSAGE", message: /another machine, redbud/ });
  assert.equal(ledgerFor(redbud, path).assignments.length, 1);
  const strange = ledgerOf(machine, [{ name: "a", members: ["00ff:00:00.0"] }], undefined, MONDAY);
  assert.deepEqual([isOf(strange, machine), isOf({ ...strange, assignments: [] }, machine)], [false, true]);
  await saveLedger(path, ledgerOf(redbud, [], undefined, MONDAY));
  assert.equal(ledgerFor(machine, path).machine, "sequoia");
  assert.equal(JSON.parse(readFileSync(join(path, "ledger.json"), "utf8")).machine, "redbud", "only read");
});

test("who had a function first is who had it, until it is given back", () => {
  const live = { ...machine, virtual: false };
  const former = { address: GPU0, driver: "nvidia", override: null, powerControl: "auto" as const };
  const later = { address: GPU0, driver: "vfio-pci", override: "vfio-pci", powerControl: "on" as const };
  const other = { ...later, address: GPU1 };
  const first = ledgerOf(live, [{ name: "vm1", members: [GPU0] }], undefined, MONDAY, [former]);
  const next = ledgerOf(live, [], first, TUESDAY, [later, other]);
  assert.deepEqual(next.drivers, [former, other]);
  assert.deepEqual(withoutDrivers(next, [GPU0]).drivers, [other]);
  assert.equal("drivers" in withoutDrivers(next, [GPU0, GPU1]), false);
});

test("a ledger with nothing but functions to give back is not another machine's to take over", async () => {
  const live = { ...machine, virtual: false };
  const path = join(folder, "returning");
  mkdirSync(path);
  const former = { address: GPU0, driver: "nvidia", override: null, powerControl: null };
  await saveLedger(path, ledgerOf(live, [], undefined, MONDAY, [former]));
  assert.deepEqual(ledgerFor(live, path).drivers, [former]);
  assert.throws(() => ledgerFor({ ...live, name: "another" }, path), { code: "EUSAGE", message: /of another machine/ });
});
