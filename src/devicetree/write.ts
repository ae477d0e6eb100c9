import { DeviceTreeError } from "./error.js";
import { FDT_COMPATIBLE_VERSION, FDT_FIELD, FDT_HEADER_BYTES, FDT_MAGIC, FDT_VERSION } from "./header.js";
import { MAX_DEPTH, MAX_NODES, MAX_TREE_BYTES } from "./limits.js";
import { isName } from "./name.js";
import { phandleIndex } from "./phandle.js";
import { u64Bytes } from "./property.js";
import { FDT_TOKEN } from "./token.js";
import type { DeviceTree, DeviceTreeNode, MemoryReservation } from "./tree.js";

/**
 * Writes a flattened device tree of version 17 that readers of version 16 can read: header, reservations, structure and
 * strings without gaps, as dtc lays them out. What it writes, {@link readDeviceTree} reads back equal.
 * @throws DeviceTreeError EFDT_NAME, EFDT_DUPLICATE, EFDT_DEPTH, EFDT_PHANDLE, EFDT_DUPLICATE_PHANDLE or EFDT_LIMIT when
 * the tree is one that no reader would take, EFDT_VALUE for a boot CPU beyond 32 bits, or a reservation beyond 64 bits
 * or of address 0 and size 0, which is how the list ends.
 */
export function writeDeviceTree(tree: DeviceTree): Uint8Array {
  checkTree(tree);
  const reservations = reservationBytes(tree.reservations);
  const { structure, strings } = structureBytes(tree.root);
  const structureOffset = FDT_HEADER_BYTES + reservations.length;
  const stringsOffset = structureOffset + structure.length;
  const totalSize = stringsOffset + strings.length;
  if (totalSize > MAX_TREE_BYTES) {
    throw new DeviceTreeError("EFDT_LIMIT", `${totalSize} bytes, more than the ${MAX_TREE_BYTES} a tree may have`);
  }
  const out = new Uint8Array(totalSize);
  const view = new DataView(out.buffer);
  view.setUint32(FDT_FIELD.magic, FDT_MAGIC);
  view.setUint32(FDT_FIELD.totalSize, totalSize);
  view.setUint32(FDT_FIELD.structureOffset, structureOffset);
  view.setUint32(FDT_FIELD.stringsOffset, stringsOffset);
  view.setUint32(FDT_FIELD.reservationsOffset, FDT_HEADER_BYTES);
  view.setUint32(FDT_FIELD.version, FDT_VERSION);
  view.setUint32(FDT_FIELD.lastCompatibleVersion, FDT_COMPATIBLE_VERSION);
  view.setUint32(FDT_FIELD.bootCpu, tree.bootCpu);
  view.setUint32(FDT_FIELD.stringsSize, strings.length);
  view.setUint32(FDT_FIELD.structureSize, structure.length);
  out.set(reservations, FDT_HEADER_BYTES);
  out.set(structure, structureOffset);
  out.set(strings, stringsOffset);
  return out;
}

/** Checks all that a reader would refuse, before a byte is written. */
function checkTree(tree: DeviceTree): void {
  const { root, bootCpu } = tree;
  if (root.name !== "") throw new DeviceTreeError("EFDT_NAME", `the root node is named ${JSON.stringify(root.name)}`);
  if (!Number.isInteger(bootCpu) || bootCpu < 0 || bootCpu > 0xffffffff) {
    throw new DeviceTreeError("EFDT_VALUE", `the boot CPU ${bootCpu} is no unsigned 32-bit number`);
  }
  let nodes = 0;
  let level = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === MAX_DEPTH) throw new DeviceTreeError("EFDT_DEPTH", `nodes nested deeper than ${MAX_DEPTH} levels`);
    nodes += level.length;
    if (nodes > MAX_NODES) throw new DeviceTreeError("EFDT_LIMIT", `more than ${MAX_NODES} nodes`);
    for (const node of level) checkNames(node);
    level = level.flatMap(({ children }) => children);
  }
  phandleIndex(tree);
}

function checkNames(node: DeviceTreeNode): void {
  for (const name of [...node.properties.keys(), ...node.children.map((child) => child.name)]) {
    if (!isName(name)) throw new DeviceTreeError("EFDT_NAME", `${JSON.stringify(name)} cannot be a name`);
  }
  const seen = new Set<string>();
  for (const { name } of node.children) {
    if (seen.has(name)) throw new DeviceTreeError("EFDT_DUPLICATE", `two nodes ${name} in one node`);
    seen.add(name);
  }
}

function reservationBytes(reservations: MemoryReservation[]): Uint8Array {
  const list = new ByteWriter();
  for (const { address, size } of reservations) {
    if (address === 0n && size === 0n) {
      throw new DeviceTreeError("EFDT_VALUE", "a memory reservation of address 0 and size 0, which would end the list");
    }
    list.bytes(u64Bytes(address, size));
  }
  list.bytes(u64Bytes(0n, 0n));
  return list.written();
}

/** The structure block, and the strings block with each property name once. */
function structureBytes(root: DeviceTreeNode): { structure: Uint8Array; strings: Uint8Array } {
  const structure = new ByteWriter();
  const strings = new ByteWriter();
  const nameOffsets = new Map<string, number>();
  const waiting: (DeviceTreeNode | "end of node")[] = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (node === "end of node") {
      structure.word(FDT_TOKEN.endNode);
      continue;
    }
    structure.word(FDT_TOKEN.beginNode);
    structure.name(node.name);
    structure.align4();
    for (const [name, value] of node.properties) {
      const offset = nameOffsets.get(name) ?? strings.length;
      if (offset === strings.length) strings.name(name);
      nameOffsets.set(name, offset);
      structure.word(FDT_TOKEN.property);
      structure.word(value.length);
      structure.word(offset);
      structure.bytes(value);
      structure.align4();
    }
    waiting.push("end of node");
    for (const child of node.children.toReversed()) waiting.push(child);
  }
  structure.word(FDT_TOKEN.end);
  return { structure: structure.written(), strings: strings.written() };
}

/** Bytes written one after another, into room that grows. */
class ByteWriter {
  #room = new Uint8Array(4096);
  #view = new DataView(this.#room.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  written(): Uint8Array {
    return this.#room.subarray(0, this.#length);
  }

  word(value: number): void {
    const at = this.#extend(4);
    this.#view.setUint32(at, value);
  }

  bytes(value: Uint8Array): void {
    const at = this.#extend(value.length);
    this.#room.set(value, at);
  }

  /** An ASCII name and its NUL. */
  name(name: string): void {
    const at = this.#extend(name.length + 1);
    for (let index = 0; index < name.length; index++) this.#room[at + index] = name.charCodeAt(index);
  }

  align4(): void {
    this.#extend(-this.#length & 3);
  }

  /** Makes room for `count` bytes of zeros behind what is written, and says where they begin. */
  #extend(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#room.length) {
      const room = new Uint8Array(2 * this.#length);
      room.set(this.#room);
      this.#room = room;
      this.#view = new DataView(room.buffer);
    }
    return at;
  }
}
