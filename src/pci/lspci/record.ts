import { isAddress } from "../address.js";
import { isBarLine } from "./bar.js";
import { isDumpLine, isDumpRest, LspciDump } from "./dump.js";
import { isFieldLine, isKernelLine } from "./field.js";
import { readHeader } from "./header.js";
import type { TextLine } from "./text.js";

/** Something in a text that could not be used. */
export interface LspciProblem {
  /** Line number, from 1. */
  line: number;
  message: string;
}

/** A line with what a mail program wrapped off it. */
export interface LspciItem {
  line: number;
  kind: "header" | "field" | "capability";
  parts: string[];
}

/** The lines that belong to one function. */
export interface LspciRecord {
  line: number;
  /** Columns before the device line: what is indented further belongs to it even behind a blank line. */
  indent: number;
  /** The device line; absent in `-vmm` output. */
  header?: LspciItem;
  items: LspciItem[];
  /** `-vmm` output: tags with their values, in order. */
  tags: [tag: string, value: string][];
  dump: LspciDump;
}

/** lspci cuts names at 255 characters; a longer line than this is not one of its own. */
const LONGEST_LINE = 4096;
/** A wrapped line is one line in a few pieces, not in hundreds. */
const MOST_PIECES = 16;
/** Mail programs wrap at 60 to 100 columns, mostly at 72 to 80: a line far from that was not wrapped. */
const WRAP_COLUMNS = { least: 60, most: 100 };

const CAPABILITY = /^Capabilities: (?=\[|<)/;
const SRIOV = /^Capabilities: \[[^\]]*\] Single Root I\/O/;
const SLOT = /^(?:Slot|Device):\s+(\S{7,16})$/;
const TAG = /^(Class|Vendor|Device|SVendor|SDevice|PhySlot|Rev|ProgIf|Driver|Module|NUMANode|IOMMUGroup):\s+(\S.*)$/;
const PATH_WITHOUT_BUS = /^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?:\/[0-9a-f]{2}\.[0-7])+ /i;
const PLACE = /^(?:([0-9a-f]{4,8}):)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\s/i;
const TREE = /^[-+|\\ ]{0,64}\[[0-9a-f]{4}:[0-9a-f]{2}\]-/i;

/**
 * Sorts the lines of a text into functions. A device line begins one; fields, capabilities and hex dumps below it
 * belong to it; whatever is none of these is taken as the rest of a wrapped line where it can be one, and skipped as
 * prose where not.
 */
export class LspciRecords {
  readonly records: LspciRecord[] = [];
  readonly problems: LspciProblem[] = [];
  /** The text has the tree that `lspci -t` draws. */
  tree = false;

  private record: LspciRecord | undefined;
  private item: LspciItem | undefined;
  private previous: TextLine | undefined;
  /** A blank line was seen since the last line of the record. */
  private gap = false;

  take(line: TextLine): void {
    if (line.text === "") this.blank();
    else if (line.text.length > LONGEST_LINE) this.problem(line, "longer than any line of lspci: skipped");
    else if (!this.begins(line) && !this.belongs(line)) this.rest(line);
    this.previous = line;
  }

  private blank(): void {
    this.gap = true;
    if (this.record !== undefined && this.record.tags.length > 0) this.record = undefined;
  }

  /** Device lines: the first of a record. */
  private begins(line: TextLine): boolean {
    if (readHeader(line.text) !== undefined) {
      const record = this.open(line);
      record.header = { line: line.number, kind: "header", parts: [line.text] };
      this.item = record.header;
      return true;
    }
    const slot = SLOT.exec(line.text)?.[1];
    if (slot !== undefined && isAddress(slot)) {
      this.open(line).tags.push(["Slot", slot]);
      return true;
    }
    const place = PLACE.exec(line.text);
    const pathOnly = PATH_WITHOUT_BUS.test(line.text);
    this.tree ||= TREE.test(line.text);
    if (place === null && !pathOnly) return false;
    // What follows is about another function than the one before, and must not be taken for that one's.
    this.record = undefined;
    this.item = undefined;
    if (pathOnly) this.problem(line, "a bridge path without bus numbers (lspci -P): use lspci -D or -PP");
    else if (place?.[1] !== undefined) this.problem(line, "begins like a device line, but no class follows: skipped");
    return true;
  }

  private open(line: TextLine): LspciRecord {
    const record = { line: line.number, indent: line.indent, items: [], tags: [], dump: new LspciDump() };
    this.records.push(record);
    this.record = record;
    this.item = undefined;
    this.gap = false;
    return record;
  }

  /** Lines that are recognised by themselves. */
  private belongs(line: TextLine): boolean {
    const { record } = this;
    if (record !== undefined && record.tags.length > 0) {
      const [, tag, value] = TAG.exec(line.text) ?? [];
      if (tag === undefined || value === undefined) return false;
      record.tags.push([tag, value]);
      return true;
    }
    if (isDumpLine(line.text)) {
      this.item = undefined;
      record?.dump.add(line.text);
      return true;
    }
    const isField = isFieldLine(line.text) && !this.isOfVirtualFunctions(line);
    const kind = CAPABILITY.test(line.text) ? "capability" : isField ? "field" : undefined;
    if (kind === undefined) return false;
    if (record === undefined || (this.gap && line.indent <= record.indent)) {
      this.item = undefined;
      if (kind === "capability") this.problem(line, "a capability of no function: no device line before it");
      return true;
    }
    this.gap = false;
    this.item = { line: line.number, kind, parts: [line.text] };
    record.items.push(this.item);
    return true;
  }

  /** SR-IOV lists the base addresses of virtual functions as a function lists its own. */
  private isOfVirtualFunctions(line: TextLine): boolean {
    return isBarLine(line.text) && SRIOV.test(this.item?.parts[0] ?? "");
  }

  /** Lines that are nothing by themselves: details of a capability, the rest of a wrapped line, or prose. */
  private rest(line: TextLine): void {
    const { record, item, previous } = this;
    if (record === undefined) return;
    if (item === undefined) {
      if (!this.gap && isDumpRest(line.text)) record.dump.addRest(line.text);
      return;
    }
    // Behind a blank line only what is indented below the function can still be its own.
    if (this.gap && (item.kind !== "capability" || line.indent <= record.indent)) this.item = undefined;
    else if (item.kind === "capability") item.parts.push(line.text);
    else if (previous !== undefined && item.parts.length < MOST_PIECES && isWrapped(item, previous, line)) {
      item.parts.push(line.text);
    } else this.item = undefined;
  }

  private problem(line: TextLine, message: string): void {
    this.problems.push({ line: line.number, message });
  }
}

/** Whether a line goes on where the one before it stopped. */
function isWrapped(item: LspciItem, previous: TextLine, line: TextLine): boolean {
  if (isKernelLine(item.parts[0] ?? "")) return /[,:]$/.test(previous.text);
  if (/,$/.test(previous.text) || /^(?:\[|\(rev |\(prog-if )/.test(line.text) || hasOpenBracket(previous.text))
    return true;
  // Marks that only the end of a device or subsystem line has.
  if (/\(rev [0-9a-f]{2}\)|\[[0-9a-f]{4}:[0-9a-f]{4}\]/i.test(line.text)) return true;
  // A mail program breaks a line because the next word would not have fitted.
  const word = /^\S*/.exec(line.text)?.[0].length ?? 0;
  const { least, most } = WRAP_COLUMNS;
  const complete = item.kind === "header" && /[)\]]$/.test(previous.text);
  return !complete && previous.width <= most && previous.width + 1 + word > least && line.width <= most;
}

function hasOpenBracket(text: string): boolean {
  let open = 0;
  for (const char of text) {
    if (char === "[" || char === "(") open++;
    else if ((char === "]" || char === ")") && open > 0) open--;
  }
  return open > 0;
}
