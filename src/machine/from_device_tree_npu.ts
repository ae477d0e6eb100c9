import type { PlacedNode } from "../devicetree/path.js";
import { text, u32, u64, u64s } from "../devicetree/property.js";
import type { DeviceTreeNode } from "../devicetree/tree.js";
import type { PciAddress } from "../pci/address.js";
import { isCompatible } from "./from_device_tree_compatible.js";
import type { Notes } from "./from_device_tree_notes.js";
import type { PciNode } from "./from_device_tree_pci.js";
import type { Bridge, CoherentMemory, Origin } from "./machine.js";
import { compressTgt } from "./witherspoon.js";

/** What the parts of a tree refer to each other by, and where to note what does not fit. */
export interface Scene {
  byPhandle: ReadonlyMap<number, PlacedNode>;
  /** The functions by their nodes. */
  functions: ReadonlyMap<DeviceTreeNode, PciNode>;
  origin: Origin;
  notes: Notes;
}

/** An NPU bridge and its node. */
export interface BridgeNode {
  pci: PciNode;
  bridge: Bridge;
}

/** Whether the function is an NPU bridge: it is on an NPU's host bridge, or tied to a link or a GPU as only bridges are. */
export function isBridge({ host, node, fn }: PciNode): boolean {
  if (fn.headerType === 1) return false;
  return host.npu || node.properties.has("ibm,nvlink") || node.properties.has("ibm,gpu");
}

/** Reads the NPU bridges among the functions, in the order given. */
export function bridgeNodes(functions: Iterable<PciNode>, scene: Scene): Map<DeviceTreeNode, BridgeNode> {
  const bridges = new Map<DeviceTreeNode, BridgeNode>();
  const places = new Map<string, number>();
  for (const pci of functions) {
    if (!isBridge(pci)) continue;
    const place = places.get(pci.host.path) ?? 0;
    places.set(pci.host.path, place + 1);
    bridges.set(pci.node, { pci, bridge: readBridge(pci, place, scene) });
  }
  return bridges;
}

function readBridge(pci: PciNode, place: number, { byPhandle, functions, origin, notes }: Scene): Bridge {
  const { node, path, host, fn } = pci;
  const link = follow(node, path, "ibm,nvlink", byPhandle, notes, fn.address);
  const read = (name: string) => link && notes.read(link.path, () => u32(link.node, name));
  const linkIndex = read("ibm,npu-link-index");
  if (linkIndex === undefined) {
    notes.add(
      `which link of its NPU the bridge ${fn.address} (${path}) is: it is taken for number ${place} and gets no ATSD register`,
      [fn.address],
    );
  }
  const gpu = follow(node, path, "ibm,gpu", byPhandle, notes, fn.address);
  const gpuAddress = gpu && functions.get(gpu.node)?.fn.address;
  if (gpu !== undefined && gpuAddress === undefined) {
    notes.add(`${path}: ibm,gpu leads to ${gpu.path}, which is no PCI function`, [fn.address]);
  }
  const label = link && notes.read(link.path, () => text(link.node, "ibm,slot-label"));
  const groupId = read("ibm,npu-group-id");
  const brickId = read("ibm,npu-brick-id");
  const speed = notes.read(path, () => u32(node, "ibm,nvlink-speed"));
  // Linux indexes ATSD registers by link, so a guessed index could hand out another link's register.
  const atsd = linkIndex === undefined ? undefined : notes.read(host.path, () => u64s(host.node, "ibm,mmio-atsd"));
  const register = linkIndex === undefined ? undefined : atsd?.[linkIndex];
  return {
    address: fn.address,
    ...(gpuAddress !== undefined && { gpu: gpuAddress }),
    linkIndex: linkIndex ?? place,
    npu: host.path,
    ...(label !== undefined && { slotLabel: label }),
    ...(groupId !== undefined && { groupId }),
    ...(brickId !== undefined && { brickId }),
    ...(speed !== undefined && { speed }),
    ...(register !== undefined && register !== 0n && { atsd: register }),
    origin,
  };
}

/** The node that a phandle property leads to; one that leads nowhere is noted. */
function follow(
  node: DeviceTreeNode,
  path: string,
  name: string,
  byPhandle: ReadonlyMap<number, PlacedNode>,
  notes: Notes,
  address: PciAddress,
): PlacedNode | undefined {
  const phandle = notes.read(path, () => u32(node, name));
  if (phandle === undefined) return undefined;
  const target = byPhandle.get(phandle);
  if (target === undefined) notes.add(`${path}: ${name} is 0x${phandle.toString(16)}, which no node has`, [address]);
  return target;
}

/**
 * A GPU's memory, by the first of its bridges, which is the one Linux looks at (arch/powerpc and
 * drivers/vfio/pci/vfio_pci_nvlink2.c, 5.12). Undefined, and noted, when the bridge leads to none or to a malformed one.
 */
export function coherentMemory(gpu: PciAddress, bridge: BridgeNode, scene: Scene): CoherentMemory | undefined {
  const { byPhandle, notes, origin } = scene;
  const { node, path, fn } = bridge.pci;
  const missing = (why: string) => {
    notes.add(`the memory of the GPU ${gpu}: ${why}`, [gpu], "The GPU can be passed on without its coherent memory.");
    return undefined;
  };
  const region = follow(node, path, "memory-region", byPhandle, notes, fn.address);
  if (region === undefined) return missing(`its bridge ${path} leads to no memory-region`);
  if (!isCompatible(region.node, "ibm,coherent-device-memory")) return missing(`${region.path} is no GPU's memory`);
  const [base, size, ...more] = notes.read(region.path, () => u64s(region.node, "reg")) ?? [];
  if (base === undefined || size === undefined || more.length > 0) {
    return missing(`reg of ${region.path} is not one base and one size of 64 bits`);
  }
  if (size === 0n || base + size > 1n << 64n) return missing(`reg of ${region.path} is no address range`);
  const tgt = notes.read(path, () => u64(node, "ibm,device-tgt-addr"));
  if (tgt === undefined)
    notes.add(`the address by which DMA of the GPU ${gpu} reaches its memory (ibm,device-tgt-addr)`, [gpu]);
  else if (tgt !== compressTgt(base)) {
    const expected = compressTgt(base).toString(16);
    notes.add(`${path}: ibm,device-tgt-addr is 0x${tgt.toString(16)}, and the memory's base gives 0x${expected}`, [
      gpu,
    ]);
  }
  return { gpu, base, size, ...(tgt !== undefined && { tgt }), origin };
}
