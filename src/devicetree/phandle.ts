import { DeviceTreeError } from "./error.js";
import { type PlacedNode, walk } from "./path.js";
import type { DeviceTree, DeviceTreeNode } from "./tree.js";

/** Whether a property of this name holds its node's phandle; `linux,phandle` is the name older trees use, often both. */
export function isPhandleName(name: string): boolean {
  return name === "phandle" || name === "linux,phandle";
}

/**
 * What is wrong with a property that holds a phandle, or undefined. 0 and 0xffffffff are never phandles (Devicetree
 * Specification 0.4, section 2.3.3, and dtc, which marks references to be resolved later with 0xffffffff).
 * @param known the phandle that the node's other such property gave.
 */
export function phandleProblem(value: Uint8Array, known: number | undefined): string | undefined {
  if (value.length !== 4) return `has ${value.length} bytes, not 4`;
  const phandle = word(value);
  if (phandle === 0 || phandle === 0xffffffff) return `is 0x${phandle.toString(16)}, which is never a phandle`;
  if (known !== undefined && known !== phandle) {
    return `is 0x${phandle.toString(16)}, and the node's other phandle property says 0x${known.toString(16)}`;
  }
  return undefined;
}

/**
 * The node's phandle, 1 to 0xfffffffe, or undefined when it has none.
 * @throws DeviceTreeError EFDT_PHANDLE when it is malformed, or `phandle` and `linux,phandle` disagree.
 */
export function phandleOf(node: DeviceTreeNode): number | undefined {
  let phandle: number | undefined;
  for (const name of ["phandle", "linux,phandle"]) {
    const value = node.properties.get(name);
    if (value === undefined) continue;
    const problem = phandleProblem(value, phandle);
    if (problem !== undefined)
      throw new DeviceTreeError("EFDT_PHANDLE", `${name} of the node ${node.name || "/"} ${problem}`);
    phandle = word(value);
  }
  return phandle;
}

/**
 * All nodes that have a phandle, by it.
 * @throws DeviceTreeError EFDT_PHANDLE as {@link phandleOf}, EFDT_DUPLICATE_PHANDLE when two nodes have the same.
 */
export function phandleIndex(tree: DeviceTree): Map<number, PlacedNode> {
  const index = new Map<number, PlacedNode>();
  for (const placed of walk(tree.root)) {
    const phandle = phandleOf(placed.node);
    if (phandle === undefined) continue;
    const other = index.get(phandle);
    if (other !== undefined) {
      const problem = `${other.path} and ${placed.path} have the same phandle 0x${phandle.toString(16)}`;
      throw new DeviceTreeError("EFDT_DUPLICATE_PHANDLE", problem);
    }
    index.set(phandle, placed);
  }
  return index;
}

/** A phandle that is not taken: one above the highest, or the lowest free one when the highest possible is taken. */
export function nextPhandle(taken: ReadonlyMap<number, unknown>): number {
  let highest = 0;
  for (const phandle of taken.keys()) if (phandle > highest) highest = phandle;
  if (highest < 0xfffffffe) return highest + 1;
  let free = 1;
  while (taken.has(free)) free++;
  return free;
}

function word(value: Uint8Array): number {
  return new DataView(value.buffer, value.byteOffset, value.byteLength).getUint32(0);
}
