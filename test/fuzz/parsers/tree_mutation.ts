import { DeviceTreeError } from "../../../src/devicetree/error.js";
import { walk } from "../../../src/devicetree/path.js";
import { readDeviceTree } from "../../../src/devicetree/read.js";
import type { DeviceTree, DeviceTreeNode } from "../../../src/devicetree/tree.js";
import { writeDeviceTree } from "../../../src/devicetree/write.js";
import type { Random } from "../random.js";
import { BYTE_MUTATIONS, edgeNumber } from "./mutation.js";
import type { Mutation } from "./target.js";

/** Changes to nodes and properties: the tree stays whole, so that what is made of it is reached. */
export const TREE_MUTATIONS: readonly Mutation[] = [
  inTree(({ node }, random) => void node.properties.delete(anyProperty(node, random))),
  inTree(({ node }, random) => {
    const name = anyProperty(node, random);
    const value = node.properties.get(name);
    const mutation = BYTE_MUTATIONS[random.below(BYTE_MUTATIONS.length)];
    if (value !== undefined && mutation !== undefined) node.properties.set(name, mutation(value, random, value));
  }),
  inTree(({ node }, random) =>
    setCell(node, anyProperty(node, random), random, Number(edgeNumber(random) & 0xffffffffn)),
  ),
  inTree(({ node, nodes }, random) => {
    // One node's phandle, where another node refers to a third.
    const phandle = nodes[random.below(nodes.length)]?.properties.get("phandle");
    if (phandle?.length === 4) setCell(node, anyProperty(node, random), random, Buffer.from(phandle).readUInt32BE());
  }),
  inTree(({ node, nodes, others }, random) => {
    const from = random.once(2) ? others[random.below(others.length)] : nodes[random.below(nodes.length)];
    const name = from === undefined ? "" : anyProperty(from, random);
    const value = from?.properties.get(name);
    if (value !== undefined) node.properties.set(random.once(4) ? anyProperty(node, random) || name : name, value);
  }),
  inTree(({ node }, random) => void node.children.splice(random.below(node.children.length + 1), 1)),
  inTree(({ node, nodes, others }, random) => {
    const from = random.once(2) ? others[random.below(others.length)] : nodes[random.below(nodes.length)];
    if (from !== undefined && from.name !== "") node.children.push(copyOf(from, random));
  }),
  inTree(({ node }, random) => {
    const child = node.children[random.below(node.children.length)];
    if (child === undefined) return;
    const [name, unit] = child.name.split("@");
    child.name = random.once(2) ? `${name}@${edgeNumber(random).toString(16)}` : `${name?.slice(1)}x@${unit}`;
  }),
];

interface Place {
  node: DeviceTreeNode;
  /** All nodes of the tree, and of another. */
  nodes: DeviceTreeNode[];
  others: DeviceTreeNode[];
}

function inTree(change: (place: Place, random: Random) => void): Mutation {
  return (input, random, other) => {
    const tree = treeOf(input);
    if (tree === undefined) return input;
    const nodes = nodesOf(tree);
    const node = nodes[random.below(nodes.length)] ?? tree.root;
    change({ node, nodes, others: nodesOf(treeOf(other)) }, random);
    return written(tree) ?? input;
  };
}

function treeOf(input: Uint8Array): DeviceTree | undefined {
  return unlessRefused(() => readDeviceTree(input));
}

function written(tree: DeviceTree): Uint8Array | undefined {
  return unlessRefused(() => writeDeviceTree(tree));
}

function unlessRefused<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof DeviceTreeError) return undefined;
    throw error;
  }
}

function nodesOf(tree: DeviceTree | undefined): DeviceTreeNode[] {
  return tree === undefined ? [] : [...walk(tree.root)].map(({ node }) => node);
}

function anyProperty(node: DeviceTreeNode, random: Random): string {
  return [...node.properties.keys()][random.below(node.properties.size)] ?? "";
}

function setCell(node: DeviceTreeNode, name: string, random: Random, value: number): void {
  const old = node.properties.get(name);
  if (old === undefined || old.length < 4) return;
  const copy = Buffer.from(old);
  copy.writeUInt32BE(value, 4 * random.below(Math.floor(old.length / 4)));
  node.properties.set(name, copy);
}

/** A copy with another unit address and without phandles, which only one node can have. */
export function copyOf(node: DeviceTreeNode, random: Random): DeviceTreeNode {
  const properties = new Map([...node.properties].filter(([name]) => !/phandle$/.test(name)));
  const name = `${node.name.split("@")[0]}@${random.u32().toString(16)}`;
  return { name, properties, children: node.children.map((child) => ({ ...copyOf(child, random), name: child.name })) };
}
