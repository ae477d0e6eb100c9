import { DeviceTreeError } from "./error.js";
import { cells, u32 } from "./property.js";
import type { DeviceTreeNode } from "./tree.js";

/** One entry of `reg`: an address on the parent's bus and a size in bytes (0 where sizes have no cells). */
export interface RegEntry {
  address: bigint;
  size: bigint;
}

/** Widest number `#address-cells` and `#size-cells` may ask for. PCI addresses have 3 cells; nothing has more than 4. */
const MAX_CELLS = 4;

/**
 * The node's `reg`, in the cells its parent says: `#address-cells` (2 without it) and `#size-cells` (1 without it;
 * Devicetree Specification 0.4, section 2.3.5). No `reg` is an empty list. Addresses are not translated by `ranges`.
 * @throws DeviceTreeError EFDT_VALUE when `reg` is no whole number of entries, or a cell count is above 4.
 */
export function reg(node: DeviceTreeNode, parent: DeviceTreeNode): RegEntry[] {
  const values = cells(node, "reg") ?? [];
  if (values.length === 0) return [];
  const addressCells = cellCount(parent, "#address-cells", 2);
  const sizeCells = cellCount(parent, "#size-cells", 1);
  const entryCells = addressCells + sizeCells;
  if (entryCells === 0 || values.length % entryCells !== 0) {
    const problem = `reg of the node ${node.name || "/"} has ${values.length} cells, in entries of ${entryCells}`;
    throw new DeviceTreeError("EFDT_VALUE", problem);
  }
  const entries: RegEntry[] = [];
  for (let at = 0; at < values.length; at += entryCells) {
    const sizeAt = at + addressCells;
    entries.push({ address: join(values.slice(at, sizeAt)), size: join(values.slice(sizeAt, sizeAt + sizeCells)) });
  }
  return entries;
}

function cellCount(parent: DeviceTreeNode, name: string, usual: number): number {
  const count = u32(parent, name) ?? usual;
  if (count > MAX_CELLS) {
    throw new DeviceTreeError(
      "EFDT_VALUE",
      `${name} of the node ${parent.name || "/"} is ${count}, more than ${MAX_CELLS}`,
    );
  }
  return count;
}

/** Cells as one number, the most significant first. */
function join(values: number[]): bigint {
  return values.reduce((number, cell) => (number << 32n) | BigInt(cell), 0n);
}
