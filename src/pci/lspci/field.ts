import type { BridgeBuses } from "../function.js";
import { isBarLine, type LspciBar, readBar } from "./bar.js";
import { type NamePair, readNamePair } from "./names.js";

/** What the lines below a device line say of it, capabilities and hex dump aside. */
export interface LspciFields {
  subsystem?: NamePair;
  /** Set once the line with the command register (`Flags:` or `Control:`) was there: a listing with `-v`. */
  verbose?: boolean;
  irq?: number;
  numaNode?: number;
  iommuGroup?: number;
  physicalSlot?: string;
  driver?: string;
  modules?: string[];
  buses?: BridgeBuses;
  cardBus?: boolean;
  bars: LspciBar[];
  damage: string[];
}

/** How one kind of line begins, and what is taken from the text behind that. The first line of a kind counts. */
interface FieldReader {
  start: RegExp;
  read?(fields: LspciFields, rest: string): void;
}

/**
 * `Flags:`, `Status:` and `Control:` are also lines of capabilities, and mail programs lose the indentation that tells
 * them apart, so each start includes the first word of the function's own line.
 */
const READERS: readonly FieldReader[] = [
  { start: /^Subsystem: /, read: (fields, rest) => setSubsystem(fields, rest) },
  {
    start: /^Flags: (?=bus master|VGA palette|stepping|fast |medium |slow |\?\? devsel|66MHz|user-definable)/,
    read: readFlags,
  },
  { start: /^Control: (?=I\/O[-+])/, read: (fields) => setVerbose(fields) },
  { start: /^Status: (?=Cap[-+])/ },
  { start: /^Latency: (?=\d)/ },
  {
    start: /^Interrupts?: (?=pin |MSI)/,
    read: (fields, rest) => setNumber(fields, "irq", /\bIRQ (\d{1,9})\b/.exec(rest)),
  },
  { start: /^NUMA node: /, read: (fields, rest) => setNumber(fields, "numaNode", /^(\d{1,9})\b/.exec(rest)) },
  { start: /^IOMMU group: /, read: (fields, rest) => setNumber(fields, "iommuGroup", /^(\d{1,9})\b/.exec(rest)) },
  { start: /^Physical Slot: /, read: (fields, rest) => setOnce(fields, "physicalSlot", rest) },
  { start: /^(?:Kernel driver|Driver) in use: ?/, read: (fields, rest) => setOnce(fields, "driver", firstWord(rest)) },
  { start: /^Kernel modules: ?/, read: (fields, rest) => setModules(fields, rest) },
  { start: /^Bus: (?=primary=)/, read: readBuses },
  { start: /^(?:Memory|I\/O) window [01]: /, read: (fields) => setCardBus(fields) },
  { start: /^!!! /, read: (fields, rest) => void fields.damage.push(rest) },
  { start: /^(?:I\/O|Memory|Prefetchable memory|Unknown resource) behind bridge: / },
  { start: /^(?:Secondary status|BridgeCtl|PriDiscTmr[-+]|DeviceName|Device tree node)\b/ },
  { start: /^(?:BIST (?:is running|result)|16-bit legacy interface|<access denied to the rest>)/ },
];

/** Whether a line begins one of the fields of a function (not a capability, not a hex dump). */
export function isFieldLine(text: string): boolean {
  return isBarLine(text) || READERS.some(({ start }) => start.test(text));
}

/** Whether a line is a field whose values are words: what a wrapped line may add to it is strictly a list. */
export function isKernelLine(text: string): boolean {
  return text.startsWith("Kernel ");
}

/** Takes what a field line says into `fields`. Returns what is wrong with the line, if anything. */
export function readField(fields: LspciFields, text: string): string | undefined {
  if (isBarLine(text)) {
    const bar = readBar(text);
    if (bar === undefined) return "the address of a memory or I/O region cannot be read";
    fields.bars.push(bar);
    return undefined;
  }
  const reader = READERS.find(({ start }) => start.test(text));
  reader?.read?.(fields, text.replace(reader.start, ""));
  return undefined;
}

/** `bus master, fast devsel, latency 0, IRQ 457, NUMA node 8, IOMMU group 12` */
function readFlags(fields: LspciFields, rest: string): void {
  setVerbose(fields);
  setNumber(fields, "irq", /\bIRQ (\d{1,9})\b/.exec(rest));
  setNumber(fields, "numaNode", /\bNUMA node (\d{1,9})\b/.exec(rest));
  setNumber(fields, "iommuGroup", /\bIOMMU group (\d{1,9})\b/.exec(rest));
}

function readBuses(fields: LspciFields, rest: string): void {
  const numbers = /^primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})\b/i.exec(rest);
  const [primary, secondary, subordinate] = (numbers ?? []).slice(1).map((digits) => Number.parseInt(digits, 16));
  if (primary === undefined || secondary === undefined || subordinate === undefined) return;
  fields.buses ??= { primary, secondary, subordinate };
}

function setSubsystem(fields: LspciFields, rest: string): void {
  fields.subsystem ??= readNamePair(rest);
}

function setModules(fields: LspciFields, rest: string): void {
  const list = /^[\w-]+(?:, ?[\w-]+)*/.exec(rest)?.[0];
  if (list !== undefined) fields.modules ??= list.split(/, ?/);
}

function setVerbose(fields: LspciFields): void {
  fields.verbose = true;
}

function setCardBus(fields: LspciFields): void {
  fields.cardBus = true;
}

function setNumber(fields: LspciFields, key: "irq" | "numaNode" | "iommuGroup", match: RegExpExecArray | null): void {
  if (match?.[1] !== undefined) fields[key] ??= Number(match[1]);
}

function setOnce(fields: LspciFields, key: "physicalSlot" | "driver", value: string): void {
  if (value !== "") fields[key] ??= value;
}

function firstWord(text: string): string {
  return /^\S*/.exec(text)?.[0] ?? "";
}
