import { DeviceTreeError, type DeviceTreeErrorCode } from "./error.js";
import { type Block, readHeader } from "./header.js";
import { MAX_DEPTH, MAX_NAME_BYTES, MAX_NODES } from "./limits.js";
import { isNameByte } from "./name.js";
import { isPhandleName, phandleProblem } from "./phandle.js";
import { FDT_TOKEN } from "./token.js";
import type { DeviceTree, DeviceTreeNode } from "./tree.js";

/**
 * Reads a flattened device tree of version 16 or 17 (or newer, when it says that a reader of 17 can read it). Bytes behind
 * the tree's own size are ignored. The properties are views of `bytes`, not copies: leave `bytes` unchanged.
 * @throws DeviceTreeError one code per kind of damage, with the byte offset.
 */
export function readDeviceTree(bytes: Uint8Array): DeviceTree {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { structure, strings, reservations, bootCpu } = readHeader(view);
  const root = new StructureReader(bytes, view, structure, strings).read();
  return { root, reservations, bootCpu };
}

/** A node that is open, and where it began. */
interface OpenNode {
  node: DeviceTreeNode;
  offset: number;
  childNames: Set<string> | undefined;
  phandle: number | undefined;
}

class StructureReader {
  #at: number;
  #root: DeviceTreeNode | undefined;
  #nodes = 0;
  readonly #open: OpenNode[] = [];
  /** The last of the open nodes. */
  #current: OpenNode | undefined;
  readonly #text: Buffer;
  readonly #propertyNames = new Map<number, string>();
  readonly #phandles = new Set<number>();

  constructor(
    readonly bytes: Uint8Array,
    readonly view: DataView,
    readonly structure: Block,
    readonly strings: Block,
  ) {
    this.#at = structure.start;
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(): DeviceTreeNode {
    for (;;) {
      const offset = this.#at;
      const token = this.#word("the structure block has no end token");
      switch (token) {
        case FDT_TOKEN.property:
          this.#property(offset);
          break;
        case FDT_TOKEN.beginNode:
          this.#beginNode(offset);
          break;
        case FDT_TOKEN.endNode:
          this.#endNode(offset);
          break;
        case FDT_TOKEN.nop:
          break;
        case FDT_TOKEN.end:
          return this.#end(offset);
        default:
          fail("EFDT_TOKEN", `0x${token.toString(16)} is no token of the structure block`, offset);
      }
    }
  }

  #beginNode(offset: number): void {
    const parent = this.#current;
    const name = this.#nodeName(offset);
    const node: DeviceTreeNode = { name, properties: new Map(), children: [] };
    if (parent === undefined) {
      if (this.#root !== undefined) fail("EFDT_UNBALANCED", "a second root node", offset);
      if (name !== "") fail("EFDT_NAME", `the root node is named ${name}; its name is empty`, offset);
      this.#root = node;
    } else {
      if (name === "") fail("EFDT_NAME", "a node without a name", offset);
      parent.childNames ??= new Set();
      if (parent.childNames.has(name)) fail("EFDT_DUPLICATE", `two nodes ${name} in one node`, offset);
      parent.childNames.add(name);
      parent.node.children.push(node);
    }
    if (this.#open.length === MAX_DEPTH) fail("EFDT_DEPTH", `nodes nested deeper than ${MAX_DEPTH} levels`, offset);
    if (++this.#nodes > MAX_NODES) fail("EFDT_LIMIT", `more than ${MAX_NODES} nodes`, offset);
    this.#current = { node, offset, childNames: undefined, phandle: undefined };
    this.#open.push(this.#current);
  }

  #endNode(offset: number): void {
    if (this.#open.pop() === undefined) fail("EFDT_UNBALANCED", "a node ends that did not begin", offset);
    this.#current = this.#open.at(-1);
  }

  #end(offset: number): DeviceTreeNode {
    const open = this.#current;
    if (open !== undefined) {
      fail(
        "EFDT_UNBALANCED",
        `the node ${open.node.name || "/"} does not end before the structure block does`,
        open.offset,
      );
    }
    return this.#root ?? fail("EFDT_UNBALANCED", "no root node", offset);
  }

  #property(offset: number): void {
    const length = this.#word("a property is cut off");
    const nameOffset = this.#word("a property is cut off");
    const start = this.#at;
    const current = this.#current ?? fail("EFDT_UNBALANCED", "a property outside every node", offset);
    const name = this.#propertyNames.get(nameOffset) ?? this.#propertyName(nameOffset, offset + 8);
    if (length > this.structure.end - start) {
      fail("EFDT_BOUNDS", `the property ${name} of ${length} bytes leads outside the structure block`, offset + 4);
    }
    const { node } = current;
    if (node.children.length > 0) fail("EFDT_ORDER", `the property ${name} stands behind a child node`, offset);
    if (node.properties.has(name)) fail("EFDT_DUPLICATE", `two properties ${name} in one node`, offset);
    const value = new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + start, length);
    node.properties.set(name, value);
    this.#at = align4(start + length);
    if (isPhandleName(name)) this.#phandle(current, name, value, offset);
  }

  #phandle(current: OpenNode, name: string, value: Uint8Array, offset: number): void {
    const problem = phandleProblem(value, current.phandle);
    if (problem !== undefined)
      fail("EFDT_PHANDLE", `${name} of the node ${current.node.name || "/"} ${problem}`, offset);
    if (current.phandle !== undefined) return;
    current.phandle = this.view.getUint32(offset + 12);
    if (this.#phandles.has(current.phandle)) {
      fail("EFDT_DUPLICATE_PHANDLE", `two nodes with the phandle 0x${current.phandle.toString(16)}`, offset);
    }
    this.#phandles.add(current.phandle);
  }

  #word(problem: string): number {
    const at = this.#at;
    if (at + 4 > this.structure.end) fail("EFDT_TRUNCATED", `truncated: ${problem}`, at);
    this.#at = at + 4;
    return this.view.getUint32(at);
  }

  #nodeName(offset: number): string {
    const start = this.#at;
    const end = this.#nameEnd(start, this.structure, "node name", offset);
    this.#at = align4(end + 1);
    return this.#text.toString("latin1", start, end);
  }

  #propertyName(nameOffset: number, offset: number): string {
    const start = this.strings.start + nameOffset;
    if (start >= this.strings.end) fail("EFDT_BOUNDS", "a property's name lies outside the strings block", offset);
    const end = this.#nameEnd(start, this.strings, "property name", offset);
    if (end === start) fail("EFDT_NAME", "a property without a name", offset);
    const name = this.#text.toString("latin1", start, end);
    this.#propertyNames.set(nameOffset, name);
    return name;
  }

  /** Where the name's NUL is. The search is bounded, or overlapping names in one long string would cost quadratic time. */
  #nameEnd(start: number, block: Block, what: string, offset: number): number {
    const last = Math.min(block.end, start + MAX_NAME_BYTES + 1);
    let at = start;
    while (at < last && isNameByte(this.bytes[at] ?? 0)) at++;
    if (at < last && this.bytes[at] === 0) return at;
    if (at < last) fail("EFDT_NAME", `a ${what} with a character no name may have`, at);
    if (at === block.end) fail("EFDT_UNTERMINATED", `a ${what} without its NUL before the ${block.name} ends`, offset);
    return fail("EFDT_NAME", `a ${what} longer than ${MAX_NAME_BYTES} bytes`, offset);
  }
}

function align4(offset: number): number {
  return (offset + 3) & ~3;
}

function fail(code: DeviceTreeErrorCode, problem: string, offset: number): never {
  throw new DeviceTreeError(code, problem, offset);
}
