import { nextPhandle, phandleIndex, phandleOf } from "../../devicetree/phandle.js";
import { u32Bytes } from "../../devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../../devicetree/tree.js";

/** A copy of a tree to which nodes are added, each with a phandle nobody else has. Property values are shared. */
export class Grower {
  readonly tree: DeviceTree;
  readonly #taken: Map<number, unknown>;
  #last = 0xffffffff;

  constructor(tree: DeviceTree) {
    this.tree = { ...tree, root: copyNode(tree.root), reservations: [...tree.reservations] };
    this.#taken = phandleIndex(tree);
  }

  /** Adds a child. Where the parent has one of the name, that one gets the properties it lacks. */
  child(parent: DeviceTreeNode, name: string, properties: Readonly<Record<string, Uint8Array>>): DeviceTreeNode {
    let node = parent.children.find((child) => child.name === name);
    if (node === undefined) {
      node = { name, properties: new Map(), children: [] };
      parent.children.push(node);
    }
    this.phandle(node);
    for (const [key, value] of Object.entries(properties)) {
      if (!node.properties.has(key)) node.properties.set(key, value);
    }
    return node;
  }

  /** The node's phandle; a node without one gets a new one. */
  phandle(node: DeviceTreeNode): number {
    const known = phandleOf(node);
    if (known !== undefined) return known;
    const above = this.#last + 1;
    const phandle = above < 0xffffffff && !this.#taken.has(above) ? above : nextPhandle(this.#taken);
    this.#last = phandle;
    this.#taken.set(phandle, node);
    node.properties.set("phandle", u32Bytes(phandle));
    return phandle;
  }
}

function copyNode(node: DeviceTreeNode): DeviceTreeNode {
  return { name: node.name, properties: new Map(node.properties), children: node.children.map(copyNode) };
}
