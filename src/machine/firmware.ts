import { walk } from "../devicetree/path.js";
import { text, textBytes, u32Bytes } from "../devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../devicetree/tree.js";
import { isWitherspoon, type Npu, readBoard, witherspoonBoard } from "./firmware/board.js";
import { growGpus } from "./firmware/gpu_nodes.js";
import { Grower } from "./firmware/grower.js";
import { growBridges, growNpuHostBridge } from "./firmware/npu_nodes.js";
import { hostBridgeDomain } from "./firmware/pci_nodes.js";
import { isCompatible } from "./from_device_tree/compatible.js";
import { type SocketEnd, WITHERSPOON_WIRING, type WitherspoonBoard } from "./witherspoon.js";

export { witherspoonBoard } from "./firmware/board.js";

/**
 * Whether the tree is one that an AC922's boot firmware hands to skiboot: NPUs and their links are there, PCI has not
 * been probed.
 */
export function needsProbe(tree: DeviceTree): boolean {
  if (!isWitherspoon(tree)) return false;
  let links = false;
  for (const { node } of walk(tree.root)) {
    if (isCompatible(node, "ibm,power9-npu"))
      links ||= node.children.some((link) => isCompatible(link, "ibm,npu-link"));
    const { properties } = node;
    // A GPU with bridges or peers, a function below a host bridge, or an NPU's host bridge: somebody has probed.
    if (properties.has("ibm,npu") || properties.has("ibm,nvlink-peers") || properties.has("vendor-id")) return false;
    if (isCompatible(node, "ibm,power9-npu-pciex")) return false;
  }
  return links;
}

/**
 * The full tree that an AC922's firmware makes of the tree it boots with: NPU host bridges and bridges, GPUs with the
 * ports above them, GPU memory, and what ties them together (skiboot hw/npu2.c and platforms/astbmc/witherspoon.c). A
 * tree that is already full, or that is of another machine, is returned as it is ({@link needsProbe} tells). The input is
 * left unchanged.
 * @throws MachineError when an NPU, a link or a host bridge lacks a number its place depends on, or has one out of range.
 * @throws DeviceTreeError EFDT_VALUE when such a property is malformed.
 */
export function probeNvlink(tree: DeviceTree): DeviceTree {
  if (!needsProbe(tree)) return tree;
  const grower = new Grower(tree);
  const board = readBoard(grower.tree);
  const wiring = witherspoonBoard(tree);
  const locationCode = text(tree.root, "ibm,io-base-loc-code");
  const domains = new Set(board.hostBridges.map(hostBridgeDomain));
  for (const [socket, npu] of board.npus.entries()) {
    if (npu.links.length === 0) continue;
    for (const { node } of npu.links) node.properties.set("ibm,npu-link-type", textBytes("nvlink"));
    const gpus = growGpus(grower, board, npu, socket, locationCode);
    const bridges = growBridges(grower, npu, growNpuHostBridge(grower, npu, takeDomain(domains)), gpus);
    if (wiring !== undefined) wire(grower, wiring, npu, gpus, bridges);
  }
  return grower.tree;
}

/** An NPU's host bridge has no domain of its own: it gets the lowest that is free. */
function takeDomain(taken: Set<number>): number {
  let domain = 0;
  while (taken.has(domain)) domain++;
  taken.add(domain);
  return domain;
}

/** Writes `ibm,nvlink-peers` of a socket's GPUs: the board's wiring, with 0 where an end is missing. */
function wire(
  grower: Grower,
  board: WitherspoonBoard,
  npu: Npu,
  gpus: ReadonlyMap<string, DeviceTreeNode>,
  bridges: ReadonlyMap<number, number>,
): void {
  const numbers = npu.links.flatMap(({ label }) => slotNumber(label) ?? []);
  const first = Math.min(...numbers);
  const atPlace = (place: number) => gpus.get(`GPU${first + place}`);
  const phandle = (end: SocketEnd) => {
    const place = Number(end.slice(1));
    if (end.startsWith("n")) return bridges.get(place) ?? 0;
    const gpu = atPlace(place);
    return gpu === undefined ? 0 : grower.phandle(gpu);
  };
  for (const [place, ends] of WITHERSPOON_WIRING[board].entries()) {
    atPlace(place)?.properties.set("ibm,nvlink-peers", u32Bytes(...ends.map(phandle)));
  }
}

/** Number in a GPU slot's label, `GPU3`. */
function slotNumber(label: string | undefined): number | undefined {
  const match = /^GPU(\d{1,3})$/.exec(label ?? "");
  return match === null ? undefined : Number(match[1]);
}
