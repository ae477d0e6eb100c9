import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { processorTime } from "../../test/processor_time.js";
import { type Ledger, LedgerError, readLedger, writeLedger } from "./ledger.js";

const NOW = "2026-01-31T12:00:00.000Z";
const GOOD: Ledger = {
  version: 1,
  machine: "sequoia",
  virtual: true,
  assignments: [
    { name: "vm1", members: ["0004:04:00.0", "0004:05:00.0"], since: NOW },
    { name: "vm2", members: ["0004:06:00.0"], since: NOW },
  ],
  writtenAt: NOW,
};

/** The ledger's text after a change to its parsed form. */
function changed(
  change: (ledger: Record<string, unknown> & { assignments: Record<string, unknown>[] }) => void,
): string {
  const copy = JSON.parse(writeLedger(GOOD));
  change(copy);
  return JSON.stringify(copy);
}

const refused = (text: string, code: string, message: RegExp) =>
  assert.throws(
    () => readLedger(text),
    (error) =>
      error instanceof LedgerError &&
      error.code === code &&
      message.test(error.message) &&
      !error.message.includes("\n"),
  );

test("what is written is read back, whatever is assigned", () => {
  assert.deepEqual(readLedger(writeLedger(GOOD)), GOOD);
  const address = fc
    .tuple(fc.nat(0xffff), fc.nat(0xff), fc.nat(0x1f), fc.nat(7))
    .map(
      ([d, b, s, f]) =>
        `${d.toString(16).padStart(4, "0")}:${b.toString(16).padStart(2, "0")}:${s.toString(16).padStart(2, "0")}.${f}`,
    );
  const ledger = fc.record({
    machine: fc.stringMatching(/^[a-zé0-9 .()-]{1,40}$/),
    virtual: fc.boolean(),
    members: fc.uniqueArray(address, { maxLength: 20 }),
    at: fc.date({ min: new Date(0), max: new Date("2200-01-01"), noInvalidDate: true }),
  });
  fc.assert(
    fc.property(ledger, ({ machine, virtual, members, at }) => {
      const assignments = members.map((member, i) => ({ name: `vm${i}`, members: [member], since: at.toISOString() }));
      const one: Ledger = { version: 1, machine, virtual, assignments, writtenAt: at.toISOString() };
      assert.deepEqual(readLedger(writeLedger(one)), one);
    }),
    { numRuns: 100 },
  );
});

test("a ledger of another version is refused with one line that says which is read", () => {
  refused(
    changed((it) => Object.assign(it, { version: 2, more: 1 })),
    "ELEDGER_VERSION",
    /version 2, this program reads version 1/,
  );
  refused(
    changed((it) => Object.assign(it, { version: "1" })),
    "ELEDGER_FORMAT",
    /version: no number/,
  );
});

test("duplicates are refused: names, members within and across assignments, and fields", () => {
  refused(
    changed((it) => Object.assign(it.assignments[1] ?? {}, { name: "vm1" })),
    "ELEDGER_FORMAT",
    /vm1 is there twice/,
  );
  const twice = ["0004:06:00.0", "0004:06:00.0"];
  refused(
    changed((it) => Object.assign(it.assignments[1] ?? {}, { members: twice })),
    "ELEDGER_FORMAT",
    /in vm2 and again in vm2/,
  );
  const foreign = ["0004:04:00.0"];
  refused(
    changed((it) => Object.assign(it.assignments[1] ?? {}, { members: foreign })),
    "ELEDGER_FORMAT",
    /in vm1 and again in vm2/,
  );
  refused(
    writeLedger(GOOD).replace('"virtual": true', '"virtual": false, "virtual" : true'),
    "ELEDGER_FORMAT",
    /twice/,
  );
  refused(
    writeLedger(GOOD).replace('"virtual": true', '"virtual": false, "\\u0076irtual": true'),
    "ELEDGER_FORMAT",
    /backslash/,
  );
});

test("every field is checked, and the message names it", () => {
  const cases: [(it: Record<string, unknown> & { assignments: Record<string, unknown>[] }) => void, RegExp][] = [
    [(it) => delete it.machine, /machine is missing/],
    [(it) => Object.assign(it, { machine: "a\nb" }), /machine: no name/],
    [(it) => Object.assign(it, { virtual: 1 }), /virtual: neither/],
    [(it) => Object.assign(it, { owner: "me" }), /field "owner" is not known/],
    [(it) => Object.assign(it, { assignments: {} }), /assignments: no list/],
    [(it) => Object.assign(it, { writtenAt: "2026-02-30T00:00:00.000Z" }), /writtenAt: no time/],
    [(it) => Object.assign(it.assignments[0] ?? {}, { name: "host" }), /"host"/],
    [(it) => Object.assign(it.assignments[0] ?? {}, { name: "../x" }), /assignments\[0\]\.name/],
    [(it) => Object.assign(it.assignments[0] ?? {}, { members: [] }), /assignments\[0\]\.members: empty/],
    [(it) => Object.assign(it.assignments[0] ?? {}, { members: ["04:00.0"] }), /members\[0\]: no PCI address/],
    [(it) => Object.assign(it.assignments[0] ?? {}, { since: 5 }), /assignments\[0\]\.since: no time/],
    [(it) => it.assignments.push(...Array.from({ length: 5000 }, () => ({}))), /5002 entries, at most 4096/],
  ];
  for (const [change, message] of cases) refused(changed(change), "ELEDGER_FORMAT", message);
});

test("text that is no ledger is refused quickly, however long or deep", () => {
  const took = processorTime(() => {
    refused("", "ELEDGER_FORMAT", /no JSON/);
    refused("[".repeat(1_000_000), "ELEDGER_FORMAT", /no JSON/);
    refused(" ".repeat(5_000_000), "ELEDGER_FORMAT", /characters/);
    refused("[]", "ELEDGER_FORMAT", /no object/);
  });
  assert.ok(took < 1000, `${took} ms`);
  fc.assert(
    fc.property(fc.nat(), fc.string({ maxLength: 6 }), fc.nat(12), (at, insert, cut) => {
      const text = writeLedger(GOOD);
      const from = at % text.length;
      try {
        const read = readLedger(text.slice(0, from) + insert + text.slice(from + cut));
        assert.deepEqual(readLedger(writeLedger(read)), read);
      } catch (error) {
        assert.ok(error instanceof LedgerError);
      }
    }),
    { numRuns: 500 },
  );
});

test("what could not be read back is not written", () => {
  assert.throws(() => writeLedger({ ...GOOD, machine: 'a"b' }), { code: "ELEDGER_FORMAT" });
  assert.throws(() => writeLedger({ ...GOOD, writtenAt: "now" }), { code: "ELEDGER_FORMAT" });
});

const FORMER = { address: "0004:04:00.0", driver: "nvidia", override: null, powerControl: "auto" as const };
const LIVE: Ledger = { ...GOOD, virtual: false, drivers: [FORMER] };

test("former drivers are kept, and a ledger without any has no place for them", () => {
  assert.deepEqual(readLedger(writeLedger(LIVE)), LIVE);
  const idle = { ...LIVE, assignments: [] };
  assert.deepEqual(readLedger(writeLedger(idle)), idle);
  assert.equal(writeLedger({ ...LIVE, drivers: [] }).includes("drivers"), false);
});

test("former drivers that are not exactly as they are written are refused", () => {
  const withDrivers = (drivers: unknown, virtual = false) =>
    JSON.stringify({ ...JSON.parse(writeLedger({ ...GOOD, virtual })), drivers });
  const wrong: [unknown, RegExp][] = [
    [[], /drivers: empty/],
    ["nvidia", /drivers: no list/],
    [[FORMER, FORMER], /drivers: 0004:04:00\.0 is there twice/],
    [[{ ...FORMER, address: "4:4:0.0" }], /drivers\[0\]\.address/],
    [[{ ...FORMER, driver: "../x" }], /drivers\[0\]\.driver/],
    [[{ ...FORMER, override: "" }], /drivers\[0\]\.override/],
    [[{ ...FORMER, powerControl: "off" }], /drivers\[0\]\.powerControl/],
    [[{ ...FORMER, more: 1 }], /field "more" is not known/],
    [[{ address: FORMER.address }], /driver is missing/],
  ];
  for (const [drivers, message] of wrong) refused(withDrivers(drivers), "ELEDGER_FORMAT", message);
  refused(withDrivers([FORMER], true), "ELEDGER_FORMAT", /virtual hardware has none/);
  const twice = writeLedger(LIVE).replace('"driver": "nvidia"', '"driver": "vfio-pci",\n"driver": "nvidia"');
  refused(twice, "ELEDGER_FORMAT", /a field is there twice/);
});
