import { readdirSync, readFileSync, realpathSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Ledger, type LedgerDriver, readLedger, writeLedger } from "../../fence/ledger.js";
import { errnoInWords, errnoOf, HostError } from "../../host/error.js";
import { printable } from "../../host/printable.js";
import { readBounded } from "../../host/read_bounded.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { replaceFile, syncDirectory, TEMPORARY } from "../replace_file.js";
import { LockFile } from "./lock_file.js";

const LEDGER_LIMIT = 4 << 20;
const NEVER = new Date(0).toISOString();
const OWNER_ONLY = 0o600;
/** What a writer that was killed has left of a ledger, or of what is kept beside it. */
const LEFT = new RegExp(`^(ledger|wiring-[0-9a-f-]{36})\\.json${TEMPORARY}$`);

/** Where the ledger of a state directory is. */
export function ledgerPath(stateDir: string): string {
  return join(stateDir, "ledger.json");
}

/**
 * Takes the lock that the ledger's writer holds, and clears away what killed writers have left.
 * @param use what the directory is used for, for the message
 * @throws as {@link LockFile}
 */
export function lockLedger(stateDir: string, use: string): LockFile {
  const lock = new LockFile(join(stateDir, "ledger.lock"), use);
  try {
    for (const name of readdirSync(stateDir).filter((each) => LEFT.test(each))) unlinkSync(join(stateDir, name));
  } catch {
    // It harms nobody, and the next one tries again.
  }
  return lock;
}

/**
 * Reads the ledger of a state directory; undefined when there is none.
 * @throws UsageError when it cannot be read, or is none
 */
export function loadLedger(stateDir: string): Ledger | undefined {
  const path = ledgerPath(stateDir);
  let text: string;
  try {
    text = readBounded(path, LEDGER_LIMIT).toString("utf8");
  } catch (error) {
    if (error instanceof HostError && (error.errno === "ENOENT" || error.errno === "ENOTDIR")) return undefined;
    throw error;
  }
  try {
    return readLedger(text);
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    throw new UsageError(`${printable(path)}: ${error.message}; mend it, or remove it and give --assign`);
  }
}

/**
 * Writes the ledger so that after a crash or a power loss at any moment the old one or the new one is there, whole. When this
 * has returned it is the new one.
 * @throws UsageError when it cannot be written; the old one is as it was then, or the message says that it may not be.
 *   LedgerError for what no ledger can hold
 */
export async function saveLedger(stateDir: string, ledger: Ledger): Promise<void> {
  const path = ledgerPath(stateDir);
  const text = writeLedger(ledger);
  try {
    const old = contentOf(path);
    replaceFile(path, text, OWNER_ONLY);
    syncOrPutBack(path, old);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot write ${path}, so nothing was changed: ${errnoInWords(errnoOf(error))}`);
  }
}

/** Whoever is told that nothing was changed must not find it changed. */
function syncOrPutBack(path: string, old: Buffer | undefined): void {
  try {
    syncDirectory(dirname(realpathSync(path)));
  } catch (error) {
    try {
      if (old === undefined) unlinkSync(path);
      else replaceFile(path, old, OWNER_ONLY);
    } catch {
      const why = errnoInWords(errnoOf(error));
      throw new UsageError(`cannot write ${path}: ${why}; it may have the new assignments already, look into it`);
    }
    throw error;
  }
}

function contentOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * The ledger for a machine with these assignments. An assignment that stays as it was keeps its date, and whoever had a
 * function first is who had it, until it is given back ({@link withoutDrivers}).
 * @param now when it is written, ISO 8601
 * @param taken who has the functions that are about to be taken
 */
export function ledgerOf(
  machine: Machine,
  assignments: readonly Assignment[],
  old: Ledger | undefined,
  now: string,
  taken: readonly LedgerDriver[] = [],
): Ledger {
  const known = old?.drivers ?? [];
  const first = new Set(known.map(({ address }) => address));
  const drivers = [...known, ...taken.filter(({ address }) => !first.has(address))];
  const before = new Map(old?.assignments.map((entry) => [entry.name, entry]));
  return {
    version: 1,
    machine: machine.name,
    virtual: machine.virtual,
    writtenAt: now,
    assignments: assignments.map(({ name, members }) => {
      const entry = before.get(name);
      return { name, members, since: entry !== undefined && same(entry.members, members) ? entry.since : now };
    }),
    ...(drivers.length > 0 && { drivers }),
  };
}

/** The ledger when these functions have been given back to their drivers. */
export function withoutDrivers(ledger: Ledger, addresses: readonly PciAddress[]): Ledger {
  const { drivers = [], ...rest } = ledger;
  const left = drivers.filter(({ address }) => !addresses.includes(address));
  return left.length === 0 ? rest : { ...rest, drivers: left };
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((member) => b.includes(member));
}

/**
 * The ledger of a state directory that a machine is to be kept in; an empty one where there is none, and where there is
 * one of another virtual machine, whose hardware went with its server.
 * @throws UsageError when it is another machine's and one of the two is real, or as {@link loadLedger}
 */
export function ledgerFor(machine: Machine, stateDir: string): Ledger {
  const ledger = loadLedger(stateDir);
  if (ledger === undefined || isEmpty(ledger)) return ledgerOf(machine, [], undefined, NEVER);
  if (isOf(ledger, machine)) return ledger;
  if (ledger.virtual && machine.virtual) return ledgerOf(machine, [], undefined, NEVER);
  throw new UsageError(
    `--state-dir: the ledger in ${printable(stateDir)} is of another machine, ${ledger.machine}; name another --state-dir`,
  );
}

function isEmpty({ assignments, drivers = [] }: Ledger): boolean {
  return assignments.length === 0 && drivers.length === 0;
}

/** Whether a ledger is of this machine: its name, and all of its members. */
export function isOf(ledger: Ledger, machine: Machine): boolean {
  const known = new Set(machine.functions.map(({ address }) => address));
  return (
    ledger.machine === machine.name && ledger.assignments.every(({ members }) => members.every((at) => known.has(at)))
  );
}
