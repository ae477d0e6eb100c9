import { isAddress, type PciAddress, parseAddress } from "../pci/address.js";

/** What {@link writeLedger} writes and {@link readLedger} accepts. */
export const LEDGER_VERSION = 1;

/** One assignment and since when it is. */
export interface LedgerEntry {
  /** As an assignment is named: 1 to 64 letters, digits, `_`, `-`, `.`, not beginning with `-` or `.`, not `host`. */
  name: string;
  /** GPUs and other functions, at least one; nobody else's. */
  members: PciAddress[];
  /** UTC, as `Date.toISOString` gives it. */
  since: string;
}

/** What had a function of a live host before it was taken, as it was found and is to be given back. */
export interface LedgerDriver {
  address: PciAddress;
  /** 1 to 64 letters, digits, `_`, `-`; null for none, as below. */
  driver: string | null;
  /** `driver_override` in sysfs, as `driver`. */
  override: string | null;
  /** `power/control` in sysfs. */
  powerControl: "on" | "auto" | null;
}

/** The assignments of a machine as they are kept on disk. They are what is wanted: what is, only the hardware tells. */
export interface Ledger {
  version: 1;
  /** The machine's name, 1 to 256 characters without control characters, `"` and `\`. */
  machine: string;
  virtual: boolean;
  assignments: LedgerEntry[];
  /** Of a live host, each function once, and at least one; not there when nothing is to be given back. */
  drivers?: LedgerDriver[];
  /** UTC, as `since`. */
  writtenAt: string;
}

/** A ledger of a version that this program does not know, or text that is no ledger. */
export type LedgerErrorCode = "ELEDGER_VERSION" | "ELEDGER_FORMAT";

export class LedgerError extends Error {
  constructor(
    readonly code: LedgerErrorCode,
    message: string,
  ) {
    super(`ledger: ${message}`);
    this.name = "LedgerError";
  }
}

/** A ledger of the most members that there may be has room in this many characters. */
const MAX_TEXT = 4 * 2 ** 20;
const MAX_ASSIGNMENTS = 4096;
const MAX_MEMBERS = 65_536;
const DRIVER = /^[A-Za-z0-9_-]{1,64}$/;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
/** Nothing that JSON escapes, so that a key in the text is always written the one way. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const MACHINE = /^[^\u0000-\u001f"\\\u007f-\u009f\ud800-\udfff]{1,256}$/u;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/**
 * Reads a ledger. Whatever is not exactly as it is written is refused: a ledger that was half understood could leave out
 * an owner.
 * @throws LedgerError `ELEDGER_VERSION` for another version, `ELEDGER_FORMAT` for everything else, with the field
 */
export function readLedger(text: string): Ledger {
  if (text.length > MAX_TEXT) throw format(`${text.length} characters, at most ${MAX_TEXT} are read`);
  const root = object(parse(text), "the ledger");
  if (root.version !== LEDGER_VERSION) throw unknownVersion(root.version);
  const { version, machine, virtual, assignments, drivers, writtenAt } = fields(
    root,
    "the ledger",
    ["version", "machine", "virtual", "assignments", "writtenAt"],
    ["drivers"],
  );
  if (typeof machine !== "string" || !MACHINE.test(machine)) throw format("machine: no name of a machine");
  if (typeof virtual !== "boolean") throw format("virtual: neither true nor false");
  const entries = list(assignments, "assignments", MAX_ASSIGNMENTS).map(readEntry);
  refuseDuplicates(entries);
  const formers = drivers === undefined ? [] : readDrivers(drivers, virtual);
  refuseDoubleKeys(text, 5 + 3 * entries.length + (formers.length === 0 ? 0 : 1 + 4 * formers.length));
  const ledger = { machine, virtual, assignments: entries, writtenAt: time(writtenAt, "writtenAt") };
  return { version: version as 1, ...ledger, ...(formers.length > 0 && { drivers: formers }) };
}

/**
 * The ledger as text that {@link readLedger} reads, with a line end at its end.
 * @throws LedgerError `ELEDGER_FORMAT` for a ledger that could not be read back
 */
export function writeLedger(ledger: Ledger): string {
  const { version, machine, virtual, assignments, writtenAt } = ledger;
  const entries = assignments.map(({ name, members, since }) => ({ name, members, since }));
  const formers = ledger.drivers?.map(({ address, driver, override, powerControl }) => {
    return { address, driver, override, powerControl };
  });
  const drivers = formers === undefined || formers.length === 0 ? {} : { drivers: formers };
  const text = `${JSON.stringify({ version, machine, virtual, assignments: entries, ...drivers, writtenAt }, null, 2)}\n`;
  readLedger(text);
  return text;
}

function readEntry(value: unknown, index: number): LedgerEntry {
  const at = `assignments[${index}]`;
  const { name, members, since } = fields(object(value, at), at, ["name", "members", "since"]);
  if (typeof name !== "string" || !NAME.test(name)) throw format(`${at}.name: no name of an assignment`);
  if (name === "host") throw format(`${at}.name: "host" is nobody's to assign`);
  const addresses = list(members, `${at}.members`, MAX_MEMBERS).map((member, i) => {
    return readAddress(member, `${at}.members[${i}]`);
  });
  if (addresses.length === 0) throw format(`${at}.members: empty`);
  return { name, members: addresses, since: time(since, `${at}.since`) };
}

function readAddress(value: unknown, at: string): PciAddress {
  if (typeof value === "string" && isAddress(value) && parseAddress(value) === value) return value;
  throw format(`${at}: no PCI address such as 0004:04:00.0`);
}

function readDrivers(value: unknown, virtual: boolean): LedgerDriver[] {
  if (virtual) throw format("drivers: virtual hardware has none");
  const drivers = list(value, "drivers", MAX_MEMBERS).map(readDriver);
  if (drivers.length === 0) throw format("drivers: empty");
  const known = new Set<PciAddress>();
  for (const { address } of drivers) {
    if (known.has(address)) throw format(`drivers: ${address} is there twice`);
    known.add(address);
  }
  return drivers;
}

function readDriver(value: unknown, index: number): LedgerDriver {
  const at = `drivers[${index}]`;
  const names = ["address", "driver", "override", "powerControl"] as const;
  const { address, driver, override, powerControl } = fields(object(value, at), at, names);
  const name = (field: unknown, of: string): string | null => {
    if (field === null || (typeof field === "string" && DRIVER.test(field))) return field;
    throw format(`${at}.${of}: neither null nor a driver's name`);
  };
  if (powerControl !== null && powerControl !== "on" && powerControl !== "auto") {
    throw format(`${at}.powerControl: neither null, "on" nor "auto"`);
  }
  const read = { address: readAddress(address, `${at}.address`), driver: name(driver, "driver") };
  return { ...read, override: name(override, "override"), powerControl };
}

function refuseDuplicates(entries: readonly LedgerEntry[]): void {
  const names = new Set<string>();
  const owners = new Map<PciAddress, string>();
  for (const { name, members } of entries) {
    if (names.has(name)) throw format(`assignment ${name} is there twice`);
    names.add(name);
    for (const member of members) {
      const owner = owners.get(member);
      if (owner !== undefined) throw format(`${member} is in ${owner} and again in ${name}`);
      owners.set(member, name);
    }
  }
  if (owners.size > MAX_MEMBERS) throw format(`${owners.size} members, at most ${MAX_MEMBERS} are read`);
}

/** JSON.parse takes the last of two values for one key and says nothing. */
function refuseDoubleKeys(text: string, expected: number): void {
  if (text.includes("\\")) throw format("a backslash, which no ledger has");
  const keys = text.match(/"[^"]*"\s*:/g)?.length ?? 0;
  if (keys !== expected) throw format("a field is there twice");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw format(error instanceof Error ? `no JSON: ${error.message}` : "no JSON");
  }
}

function object(value: unknown, at: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw format(`${at}: no object`);
}

/** The fields of an object that has these, perhaps some more, and no others. */
function fields<K extends string, M extends string = never>(
  value: Record<string, unknown>,
  at: string,
  names: readonly K[],
  more: readonly M[] = [],
): Record<K | M, unknown> {
  const missing = names.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) throw format(`${at}: ${missing} is missing`);
  const known = new Set<string>([...names, ...more]);
  const strange = Object.keys(value).find((key) => !known.has(key));
  if (strange !== undefined) throw format(`${at}: field ${JSON.stringify(strange.slice(0, 64))} is not known`);
  return value as Record<K | M, unknown>;
}

function list(value: unknown, at: string, most: number): unknown[] {
  if (!Array.isArray(value)) throw format(`${at}: no list`);
  if (value.length > most) throw format(`${at}: ${value.length} entries, at most ${most} are read`);
  return value;
}

function time(value: unknown, at: string): string {
  if (typeof value === "string" && TIME.test(value)) {
    const milliseconds = Date.parse(value);
    if (!Number.isNaN(milliseconds) && new Date(milliseconds).toISOString() === value) return value;
  }
  throw format(`${at}: no time such as 2026-01-31T12:00:00.000Z`);
}

function unknownVersion(version: unknown): LedgerError {
  if (typeof version !== "number") return format("version: no number");
  const known = `this program reads version ${LEDGER_VERSION}`;
  return new LedgerError("ELEDGER_VERSION", `it has version ${version}, ${known}: use the program that wrote it`);
}

function format(message: string): LedgerError {
  return new LedgerError("ELEDGER_FORMAT", message);
}
