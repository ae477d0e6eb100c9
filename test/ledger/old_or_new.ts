import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { loadLedger, lockLedger, saveLedger } from "../../src/cli/serve/ledger_file.js";
import type { Ledger } from "../../src/fence/ledger.js";

/** A ledger of this many GPUs, each of an owner of its own. */
export function ledgerOfGpus(count: number, day: number): Ledger {
  const since = new Date(Date.UTC(2026, 0, day)).toISOString();
  const assignments = Array.from({ length: count }, (_, i) => {
    return { name: `vm${i}`, members: [`0000:${(16 + i).toString(16)}:00.0`], since };
  });
  return { version: 1, machine: "a host", virtual: false, assignments, writtenAt: since };
}

/** What a write begins from and what it writes: a first ledger, a longer one, a shorter one. */
export const CHANGES: readonly { name: string; from: Ledger | undefined; to: Ledger }[] = [
  { name: "none to a first", from: undefined, to: ledgerOfGpus(2, 5) },
  { name: "one to a longer", from: ledgerOfGpus(2, 5), to: ledgerOfGpus(100, 6) },
  { name: "one to a shorter", from: ledgerOfGpus(100, 5), to: ledgerOfGpus(1, 6) },
];

/** Which of the two a state directory has. Fails for anything else: half a ledger, none, or what cannot be read. */
export function oldOrNew(stateDir: string, from: Ledger | undefined, to: Ledger): "old" | "new" {
  const found = loadLedger(stateDir);
  if (isDeepStrictEqual(found, from)) return "old";
  assert.deepEqual(found, to, "neither the old ledger nor the new one");
  return "new";
}

/** Whoever comes next has the lock, writes what it wants, and nothing of the one before is left. */
export async function assertGoesOn(stateDir: string): Promise<void> {
  const next = ledgerOfGpus(3, 7);
  const lock = lockLedger(stateDir, "uses it");
  try {
    await saveLedger(stateDir, next);
    assert.deepEqual(loadLedger(stateDir), next);
  } finally {
    lock.release();
  }
  assert.deepEqual(
    readdirSync(stateDir).filter((name) => !/^(ledger|wiring-[0-9a-f-]{36})\.json$/.test(name)),
    [],
  );
}
