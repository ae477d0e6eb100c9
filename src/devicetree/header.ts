import { DeviceTreeError } from "./error.js";
import { MAX_TREE_BYTES } from "./limits.js";
import type { MemoryReservation } from "./tree.js";

// Layout and numbers: Devicetree Specification 0.4, chapter 5 "Flattened Devicetree (DTB) Format".

/** First word of every flattened tree. */
export const FDT_MAGIC = 0xd00dfeed;
/** The newest version of the format; a reader of this version reads all trees whose `last_comp_version` is not higher. */
export const FDT_VERSION = 17;
/** The oldest version read and written compatible with: older ones spell names and alignment differently. */
export const FDT_COMPATIBLE_VERSION = 16;
/** Bytes of the header in version 17. Version 16 lacks the last word, the structure block's size. */
export const FDT_HEADER_BYTES = 40;
const FDT_V16_HEADER_BYTES = 36;
/** Bytes of a memory reservation: address and size. */
const ENTRY_BYTES = 16;

/** Byte offsets of the header's fields, each a big-endian 32-bit word. */
export const FDT_FIELD = {
  magic: 0,
  totalSize: 4,
  structureOffset: 8,
  stringsOffset: 12,
  reservationsOffset: 16,
  version: 20,
  lastCompatibleVersion: 24,
  bootCpu: 28,
  stringsSize: 32,
  structureSize: 36,
} as const;

/** A part of the flattened tree: bytes `start` up to, not including, `end`. */
export interface Block {
  name: string;
  start: number;
  end: number;
}

/** The header and the reservation list of a flattened tree, after all their checks. */
export interface Header {
  bootCpu: number;
  reservations: MemoryReservation[];
  structure: Block;
  strings: Block;
}

/**
 * Reads the header and the memory reservations and places the blocks.
 * @throws DeviceTreeError EFDT_TRUNCATED, EFDT_MAGIC, EFDT_VERSION, EFDT_LIMIT, EFDT_BOUNDS, EFDT_OVERLAP or
 * EFDT_UNTERMINATED, with the byte offset of the field or block that is wrong.
 */
export function readHeader(view: DataView): Header {
  const { totalSize, headerEnd, hasStructureSize } = checkPrefix(view);
  const header: Block = { name: "header", start: 0, end: headerEnd };
  const start = (field: number, name: string, alignment: number) =>
    blockStart(view, field, name, alignment, totalSize, headerEnd);
  const starts = {
    reservations: start(FDT_FIELD.reservationsOffset, "memory reservation block", 8),
    structure: start(FDT_FIELD.structureOffset, "structure block", 4),
    strings: start(FDT_FIELD.stringsOffset, "strings block", 1),
  };
  // Neither the reservation list nor, in version 16, the structure says its size: each may reach to the next block.
  const reach = (from: number) => Math.min(totalSize, ...Object.values(starts).filter((other) => other > from));
  const sized = (name: string, from: number, field: number): Block => {
    const end = from + view.getUint32(field);
    if (end > totalSize) throw new DeviceTreeError("EFDT_BOUNDS", `the ${name} ends outside the tree`, field);
    return { name, start: from, end };
  };
  const strings = sized("strings block", starts.strings, FDT_FIELD.stringsSize);
  const structure = hasStructureSize
    ? sized("structure block", starts.structure, FDT_FIELD.structureSize)
    : { name: "structure block", start: starts.structure, end: reach(starts.structure) };
  // The shortest list is its end entry; that no longer one reaches into the next block is seen while it is read.
  const list = { name: "memory reservation block", start: starts.reservations, end: starts.reservations + ENTRY_BYTES };
  checkOverlap([header, list, structure, strings]);
  const reservations = readReservations(view, starts.reservations, reach(starts.reservations));
  return { bootCpu: view.getUint32(FDT_FIELD.bootCpu), reservations, structure, strings };
}

/** Checks magic, version and total size, the fields that say whether the others mean anything. */
function checkPrefix(view: DataView): { totalSize: number; headerEnd: number; hasStructureSize: boolean } {
  const length = view.byteLength;
  if (length < 4) throw truncated(length === 0 ? "there are no data" : `only ${length} bytes`, length);
  const magic = view.getUint32(FDT_FIELD.magic);
  if (magic !== FDT_MAGIC) {
    const found = `0x${magic.toString(16).padStart(8, "0")}`;
    throw new DeviceTreeError("EFDT_MAGIC", `not a flattened tree: it starts with ${found}, not 0xd00dfeed`, 0);
  }
  if (length < FDT_V16_HEADER_BYTES) throw truncated(`the header is cut off after ${length} bytes`, length);
  checkVersion(view.getUint32(FDT_FIELD.version), view.getUint32(FDT_FIELD.lastCompatibleVersion));
  const hasStructureSize = view.getUint32(FDT_FIELD.version) >= 17;
  const headerEnd = hasStructureSize ? FDT_HEADER_BYTES : FDT_V16_HEADER_BYTES;
  const totalSize = view.getUint32(FDT_FIELD.totalSize);
  if (totalSize < headerEnd) {
    const problem = `a total size of ${totalSize} bytes does not even hold the header`;
    throw new DeviceTreeError("EFDT_BOUNDS", problem, FDT_FIELD.totalSize);
  }
  if (totalSize > length) throw truncated(`the header says ${totalSize} bytes and there are ${length}`, length);
  if (totalSize > MAX_TREE_BYTES) {
    const problem = `${totalSize} bytes, more than the ${MAX_TREE_BYTES} a tree may have`;
    throw new DeviceTreeError("EFDT_LIMIT", problem, FDT_FIELD.totalSize);
  }
  return { totalSize, headerEnd, hasStructureSize };
}

function truncated(problem: string, offset: number): DeviceTreeError {
  return new DeviceTreeError("EFDT_TRUNCATED", `truncated: ${problem}`, offset);
}

function checkVersion(version: number, lastCompatible: number): void {
  if (version < FDT_COMPATIBLE_VERSION) {
    const problem = `version ${version} is too old; 16 and 17 are read (dtc -O dtb converts it)`;
    throw new DeviceTreeError("EFDT_VERSION", problem, FDT_FIELD.version);
  }
  if (lastCompatible > FDT_VERSION || lastCompatible > version) {
    const problem = `version ${version}, readable by readers of version ${lastCompatible}; 16 and 17 are read`;
    throw new DeviceTreeError("EFDT_VERSION", problem, FDT_FIELD.lastCompatibleVersion);
  }
}

function blockStart(
  view: DataView,
  field: number,
  name: string,
  alignment: number,
  totalSize: number,
  headerEnd: number,
): number {
  const start = view.getUint32(field);
  if (start > totalSize) throw new DeviceTreeError("EFDT_BOUNDS", `the ${name} starts outside the tree`, field);
  if (start < headerEnd) throw new DeviceTreeError("EFDT_OVERLAP", `the ${name} starts inside the header`, field);
  if (start % alignment !== 0) {
    throw new DeviceTreeError("EFDT_BOUNDS", `the ${name} is not aligned to ${alignment} bytes`, field);
  }
  return start;
}

function readReservations(view: DataView, start: number, end: number): MemoryReservation[] {
  const entries: MemoryReservation[] = [];
  for (let at = start; at + ENTRY_BYTES <= end; at += ENTRY_BYTES) {
    const address = view.getBigUint64(at);
    const size = view.getBigUint64(at + 8);
    if (address === 0n && size === 0n) return entries;
    entries.push({ address, size });
  }
  throw new DeviceTreeError(
    "EFDT_UNTERMINATED",
    "the memory reservations have no end entry before the next block",
    start,
  );
}

function checkOverlap(blocks: Block[]): void {
  const filled = blocks.filter(({ start, end }) => end > start).sort((a, b) => a.start - b.start);
  let previous: Block | undefined;
  for (const block of filled) {
    if (previous !== undefined && block.start < previous.end) {
      throw new DeviceTreeError("EFDT_OVERLAP", `the ${block.name} overlaps the ${previous.name}`, block.start);
    }
    previous = block;
  }
}
