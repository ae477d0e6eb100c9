import type { Gpu, Machine } from "../machine/machine.js";
import { compareAddresses } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";
import { Hierarchy } from "../pci/hierarchy.js";

/** A socket, host bridge, bridge or GPU, with what is below it. */
export interface TreeNode {
  kind: "socket" | "host-bridge" | "bridge" | "gpu";
  label: string;
  children: TreeNode[];
  /** Index of the GPU in the picture; set on GPUs only. */
  gpu?: number;
}

/** More bridges than this on one path are not drawn one by one: how deep a tree is, its file decides. */
const LEVELS = 6;

/** The tree above the GPUs, and the GPUs in the order of its leaves. */
export function pcieTree(machine: Machine): { sockets: TreeNode[]; order: Gpu[] } {
  const hierarchy = new Hierarchy(machine.functions);
  const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
  const placed = machine.gpus.map((gpu) => {
    const path = shortened(hierarchy.path(gpu.address).reverse());
    const node = functions.get(gpu.address)?.numaNode;
    const socket = node === undefined || node < 0 ? Number.POSITIVE_INFINITY : node;
    return { gpu, path, socket, root: hierarchy.rootBus(gpu.address) };
  });
  placed.sort((a, b) => a.socket - b.socket || compareTexts(a.root, b.root) || comparePaths(a, b));
  const sockets: TreeNode[] = [];
  placed.forEach(({ path, socket, root }, index) => {
    const nodes: [TreeNode["kind"], string][] = [
      ["socket", Number.isFinite(socket) ? `NUMA node ${socket}` : "NUMA node not known"],
      ["host-bridge", root === undefined ? "PCIe path not known" : `host bridge ${root}`],
      ...path.map((step): [TreeNode["kind"], string] => ["bridge", typeof step === "string" ? step : describe(step)]),
    ];
    let level = sockets;
    for (const [kind, label] of nodes) {
      const last = level.at(-1);
      const node = last?.kind === kind && last.label === label ? last : { kind, label, children: [] };
      if (node !== last) level.push(node);
      level = node.children;
    }
    level.push({ kind: "gpu", label: "", children: [], gpu: index });
  });
  return { sockets, order: placed.map(({ gpu }) => gpu) };
}

/** Bridges from the top, those in the middle of a long path as a count. */
function shortened(path: PciFunction[]): (PciFunction | string)[] {
  if (path.length <= LEVELS) return path;
  const middle = path.length - LEVELS + 1;
  return [...path.slice(0, LEVELS - 3), `${middle} bridges`, ...path.slice(path.length - 2)];
}

function describe({ address, express }: PciFunction): string {
  switch (express?.type) {
    case "root-port":
      return `root port ${address}`;
    case "upstream-port":
      return `switch ${address}`;
    case "downstream-port":
      return `port ${address}`;
    default:
      return `bridge ${address}`;
  }
}

function comparePaths(a: { gpu: Gpu; path: (PciFunction | string)[] }, b: typeof a): number {
  const [left, right] = [addresses(a), addresses(b)];
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const [one, other] = [left[at], right[at]];
    if (one === undefined || other === undefined) return one === other ? 0 : one === undefined ? -1 : 1;
    const order = compareAddresses(one, other);
    if (order !== 0) return order;
  }
  return 0;
}

function addresses({ gpu, path }: { gpu: Gpu; path: (PciFunction | string)[] }): string[] {
  return [...path.map((step) => (typeof step === "string" ? "" : step.address)), gpu.address];
}

function compareTexts(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0;
  if (a === undefined || b === undefined) return a === undefined ? 1 : -1;
  return compareAddresses(a, b);
}
