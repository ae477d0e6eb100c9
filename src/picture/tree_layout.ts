import { hierarchy, partition } from "d3-hierarchy";
import type { TreeNode } from "./pcie_tree.js";

/** A node of the tree with the room that it and everything below it has. */
export interface PlacedNode {
  node: TreeNode;
  /** From 0 for sockets. */
  level: number;
  /** Levels from here to the deepest of all GPUs' bridges. */
  left: number;
  right: number;
  children: PlacedNode[];
}

const ROOT: TreeNode["kind"] = "socket";

/**
 * Gives every node the width of what is below it, side by side.
 * @param widthOf the width that a GPU needs, by its index
 * @param gap free space right of every socket
 */
export function placeTree(
  sockets: TreeNode[],
  widthOf: (gpu: number) => number,
  gap: number,
): { sockets: PlacedNode[]; width: number; levels: number } {
  const root = hierarchy<TreeNode>({ kind: ROOT, label: "", children: sockets }).sum((node) => {
    if (node.gpu !== undefined) return widthOf(node.gpu);
    return node.kind === "socket" && node.children.length > 0 && node.label !== "" ? gap : 0;
  });
  const width = root.value ?? 0;
  if (width === 0) return { sockets: [], width: 0, levels: 0 };
  const placed = partition<TreeNode>().size([width, 1])(root);
  const made = new Map<unknown, PlacedNode>();
  let levels = 0;
  // Children before their parents, whatever the depth.
  placed.eachAfter((at) => {
    const children = (at.children ?? []).flatMap((child) => made.get(child) ?? []);
    made.set(at, { node: at.data, level: at.depth - 1, left: Math.round(at.x0), right: Math.round(at.x1), children });
    if (at.data.gpu === undefined) levels = Math.max(levels, at.depth);
  });
  return { sockets: made.get(placed)?.children ?? [], width: Math.round(width), levels };
}
