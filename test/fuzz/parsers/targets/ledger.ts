import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { runAudit } from "../../../../src/cli/command/audit.js";
import { runPlan } from "../../../../src/cli/command/plan.js";
import { type Ledger, LedgerError, readLedger, writeLedger } from "../../../../src/fence/ledger.js";
import type { Random } from "../../random.js";
import { runCommand } from "../commands.js";
import { JSON_MUTATIONS } from "../json_mutation.js";
import { BYTE_MUTATIONS, TEXT_MUTATIONS } from "../mutation.js";
import { Finding, type MakeTarget, readOrRefused } from "../target.js";

const TIME = "2026-01-31T12:00:00.000Z";

const VIRTUAL: Ledger = {
  version: 1,
  machine: "sequoia",
  virtual: true,
  assignments: [
    { name: "vm1", members: ["0004:04:00.0", "0004:05:00.0"], since: TIME },
    { name: "vm2", members: ["0004:06:00.0"], since: TIME },
  ],
  writtenAt: TIME,
};
const LIVE: Ledger = {
  ...VIRTUAL,
  machine: "a host",
  virtual: false,
  drivers: [
    { address: "0004:04:00.0", driver: "nvidia", override: null, powerControl: "auto" },
    { address: "0004:05:00.0", driver: null, override: "vfio-pci", powerControl: null },
  ],
};

/** Ledgers, and the commands that take their assignments from one. */
export const makeTarget: MakeTarget = (directory) => {
  const stateDir = join(directory, "state");
  mkdirSync(stateDir, { recursive: true });
  return {
    modules: ["/src/fence/ledger", "/src/cli/serve/ledger_file"],
    seeds: () => [VIRTUAL, LIVE].map((ledger) => Buffer.from(writeLedger(ledger))),
    mutations: [...BYTE_MUTATIONS, ...TEXT_MUTATIONS, ...JSON_MUTATIONS, ...JSON_MUTATIONS],
    grown,
    async run(input, use) {
      const text = Buffer.from(input).toString("utf8");
      const ledger = readOrRefused(() => readLedger(text), LedgerError);
      if (ledger !== undefined) checkRoundTrip(ledger);
      writeFileSync(join(stateDir, "ledger.json"), input);
      const source = { machine: "sequoia", stateDir };
      if (ledger !== undefined || use === "commands") await runCommand({ run: runAudit }, source);
      if (use === "commands") {
        await runCommand({ run: (options) => runPlan({ ...options, json: true }), schema: "plan" }, source);
      }
      return ledger !== undefined;
    },
  };
};

function checkRoundTrip(ledger: Ledger): void {
  const text = writeLedger(ledger);
  const again = readLedger(text);
  if (!isDeepStrictEqual(again, ledger)) throw new Finding("what is written reads back as another ledger");
  if (writeLedger(again) !== text) throw new Finding("what is read back is written in another way");
}

/** As many members of as many assignments as fit, and who had them. */
function grown(_: Random, size: number): Uint8Array {
  const members = Array.from({ length: Math.ceil(size / 200) }, (_, at) => {
    const [domain, bus] = [0x1000 + (at >> 12), (at >> 4) & 0xff].map((number) => number.toString(16));
    return `${domain}:${bus?.padStart(2, "0")}:${(at & 0xf).toString(16).padStart(2, "0")}.0`;
  });
  const each = Math.ceil(members.length / 2000);
  const names = members.slice(0, Math.ceil(members.length / each));
  const assignments = names.map((_, at) => ({
    name: `vm${at}`,
    members: members.slice(at * each, (at + 1) * each),
    since: TIME,
  }));
  const drivers = members.map((address) => ({ address, driver: "nvidia", override: null, powerControl: null }));
  return Buffer.from(writeLedger({ ...LIVE, assignments, drivers }));
}
