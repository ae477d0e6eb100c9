import { DeviceTreeError } from "./error.js";
import type { DeviceTreeNode } from "./tree.js";

/** Longest text that is taken for one. Linux's command line has at most 4096 characters (COMMAND_LINE_SIZE). */
const MAX_TEXT = 4096;

/** Whether the node has the property, empty or not. */
export function hasProperty(node: DeviceTreeNode, name: string): boolean {
  return node.properties.has(name);
}

/**
 * The property as one 32-bit cell, unsigned, or undefined when the node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when it has not 4 bytes.
 */
export function u32(node: DeviceTreeNode, name: string): number | undefined {
  return viewOf(node, name, (length) => length === 4, "4 bytes")?.getUint32(0);
}

/**
 * Cell `index` (from 0) of the property, or undefined when the node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when the property is not made of cells or has not that many.
 */
export function u32At(node: DeviceTreeNode, name: string, index: number): number | undefined {
  const fits = (length: number) => length % 4 === 0 && index >= 0 && index < length / 4;
  return viewOf(node, name, fits, `4-byte cells up to number ${index}`)?.getUint32(4 * index);
}

/**
 * The property as one 64-bit number, unsigned, or undefined when the node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when it has not 8 bytes.
 */
export function u64(node: DeviceTreeNode, name: string): bigint | undefined {
  return viewOf(node, name, (length) => length === 8, "8 bytes")?.getBigUint64(0);
}

/**
 * The property as 32-bit cells, unsigned, or undefined when the node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when its length is no multiple of 4.
 */
export function cells(node: DeviceTreeNode, name: string): number[] | undefined {
  const view = viewOf(node, name, (length) => length % 4 === 0, "a multiple of 4 bytes");
  return view && Array.from({ length: view.byteLength / 4 }, (_, index) => view.getUint32(4 * index));
}

/**
 * The property as 64-bit numbers, unsigned, or undefined when the node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when its length is no multiple of 8.
 */
export function u64s(node: DeviceTreeNode, name: string): bigint[] | undefined {
  const view = viewOf(node, name, (length) => length % 8 === 0, "a multiple of 8 bytes");
  return view && Array.from({ length: view.byteLength / 8 }, (_, index) => view.getBigUint64(8 * index));
}

/**
 * The property as one string, or undefined when the node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when it is no string, or more than one.
 */
export function text(node: DeviceTreeNode, name: string): string | undefined {
  const strings = texts(node, name);
  if (strings === undefined) return undefined;
  const [only, another] = strings;
  if (only === undefined || another !== undefined) throw wrongValue(node, name, `${strings.length} strings, not one`);
  return only;
}

/**
 * The property as the strings of a list, each ended by a NUL; an empty property is an empty list. Undefined when the
 * node has none of the name.
 * @throws DeviceTreeError EFDT_VALUE when the last string is not ended, or one is no UTF-8, has control characters or line
 * separators, or is longer than any kernel's command line: these texts reach terminals, and no standard property is so.
 */
export function texts(node: DeviceTreeNode, name: string): string[] | undefined {
  const value = node.properties.get(name);
  if (value === undefined) return undefined;
  if (value.length === 0) return [];
  if (value.at(-1) !== 0) throw wrongValue(node, name, "a string without its NUL");
  const strings = decode(node, name, value.subarray(0, -1)).split("\0");
  if (strings.some((string) => /[\p{Cc}\p{Zl}\p{Zp}]/u.test(string))) {
    throw wrongValue(node, name, "a string with control characters");
  }
  if (strings.some(({ length }) => length > MAX_TEXT)) {
    throw wrongValue(node, name, `a string of more than ${MAX_TEXT} characters`);
  }
  return strings;
}

/**
 * A property value of 32-bit cells.
 * @throws DeviceTreeError EFDT_VALUE when a value is no integer from 0 to 2^32 - 1.
 */
export function u32Bytes(...values: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  for (const [index, value] of values.entries()) {
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
      throw new DeviceTreeError("EFDT_VALUE", `${value} is no unsigned 32-bit number`);
    }
    view.setUint32(4 * index, value);
  }
  return new Uint8Array(view.buffer);
}

/**
 * A property value of 64-bit numbers.
 * @throws DeviceTreeError EFDT_VALUE when a value is not from 0 to 2^64 - 1.
 */
export function u64Bytes(...values: bigint[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  for (const [index, value] of values.entries()) {
    if (value !== BigInt.asUintN(64, value)) {
      throw new DeviceTreeError("EFDT_VALUE", `${value} is no unsigned 64-bit number`);
    }
    view.setBigUint64(8 * index, value);
  }
  return new Uint8Array(view.buffer);
}

/**
 * A property value of strings in UTF-8, each ended by a NUL.
 * @throws DeviceTreeError EFDT_VALUE when a string has a NUL inside.
 */
export function textBytes(...strings: string[]): Uint8Array {
  for (const string of strings) {
    if (string.includes("\0")) throw new DeviceTreeError("EFDT_VALUE", `a NUL inside ${JSON.stringify(string)}`);
  }
  return new TextEncoder().encode(strings.map((string) => `${string}\0`).join(""));
}

function viewOf(
  node: DeviceTreeNode,
  name: string,
  fits: (length: number) => boolean,
  expected: string,
): DataView | undefined {
  const value = node.properties.get(name);
  if (value === undefined) return undefined;
  if (!fits(value.length)) throw wrongValue(node, name, `${value.length} bytes where ${expected} are needed`);
  return new DataView(value.buffer, value.byteOffset, value.byteLength);
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decode(node: DeviceTreeNode, name: string, bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw wrongValue(node, name, "a string that is not UTF-8");
  }
}

function wrongValue(node: DeviceTreeNode, name: string, found: string): DeviceTreeError {
  return new DeviceTreeError("EFDT_VALUE", `the property ${name} of the node ${node.name || "/"} has ${found}`);
}
