import { texts } from "./property.js";
import type { DeviceTreeNode } from "./tree.js";

/** A node with its place in the tree. */
export interface PlacedNode {
  node: DeviceTreeNode;
  /** From the root, each name with its unit address: `/`, `/npu@5011000/link@0`. */
  path: string;
  /** Undefined for the root. */
  parent: DeviceTreeNode | undefined;
}

/** All nodes, each before its children, in the tree's order. It needs no stack however deep the tree is. */
export function* walk(root: DeviceTreeNode): Generator<PlacedNode, void, undefined> {
  const waiting: PlacedNode[] = [{ node: root, path: "/", parent: undefined }];
  for (let placed = waiting.pop(); placed !== undefined; placed = waiting.pop()) {
    yield placed;
    const { node, path } = placed;
    const prefix = path === "/" ? "/" : `${path}/`;
    for (let index = node.children.length - 1; index >= 0; index--) {
      const child = node.children[index];
      if (child !== undefined) waiting.push({ node: child, path: prefix + child.name, parent: node });
    }
  }
}

/**
 * The node at a path from the root, or undefined. A name may leave out the unit address where only one child has the
 * name: `/cpus/PowerPC,POWER9` finds `/cpus/PowerPC,POWER9@8` when there is no other; an exact name always wins.
 */
export function findNode(root: DeviceTreeNode, path: string): DeviceTreeNode | undefined {
  if (!path.startsWith("/")) return undefined;
  let node: DeviceTreeNode | undefined = root;
  for (const name of path.split("/")) {
    if (name !== "") node = findChild(node, name);
    if (node === undefined) return undefined;
  }
  return node;
}

function findChild(node: DeviceTreeNode, name: string): DeviceTreeNode | undefined {
  const exact = node.children.find((child) => child.name === name);
  if (exact !== undefined || name.includes("@")) return exact;
  const [found, another] = node.children.filter((child) => child.name.startsWith(`${name}@`));
  return another === undefined ? found : undefined;
}

/**
 * Whether the node's `compatible` list has the text.
 * @throws DeviceTreeError EFDT_VALUE when `compatible` is no list of strings.
 */
export function compatible(node: DeviceTreeNode, text: string): boolean {
  return texts(node, "compatible")?.includes(text) ?? false;
}
