import { cells, text, u32, u64, u64s } from "../../devicetree/property.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";
import type { Bridge } from "../machine.js";
import type { PciNode } from "./pci.js";
import { type BridgeNode, follow, type GpuNode, type Scene } from "./scene.js";

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
  refuseSharedIndexes(bridges.values(), scene);
  return bridges;
}

/** Two bridges of an NPU with one link index would share an ATSD register: neither gets it. */
function refuseSharedIndexes(bridges: Iterable<BridgeNode>, { notes }: Scene): void {
  const first = new Map<string, Bridge>();
  for (const { bridge } of bridges) {
    const key = `${bridge.npu} ${bridge.linkIndex}`;
    const other = first.get(key);
    if (other === undefined) {
      first.set(key, bridge);
      continue;
    }
    delete other.atsd;
    delete bridge.atsd;
    const both = [other.address, bridge.address];
    notes.add(`which of the bridges ${both.join(" and ")} is link ${bridge.linkIndex} of its NPU: both say so`, both);
  }
}

function readBridge(pci: PciNode, place: number, scene: Scene): Bridge {
  const { functions, origin, notes } = scene;
  const { node, path, host, fn } = pci;
  const link = follow(pci, "ibm,nvlink", scene);
  const read = (name: string) => link && notes.read(link.path, () => u32(link.node, name));
  const linkIndex = read("ibm,npu-link-index");
  if (linkIndex === undefined) {
    notes.add(
      `which link of its NPU the bridge ${fn.address} (${path}) is: it is taken for number ${place} and gets no ATSD register`,
      [fn.address],
    );
  }
  const gpu = follow(pci, "ibm,gpu", scene);
  const gpuAddress = gpu && functions.get(gpu.node)?.fn.address;
  if (gpu !== undefined && gpuAddress === undefined) {
    notes.add(`${path}: ibm,gpu leads to ${gpu.path}, which is no PCI function`, [fn.address]);
  }
  const label = link && notes.read(link.path, () => text(link.node, "ibm,slot-label"));
  const groupId = read("ibm,npu-group-id");
  const brickId = read("ibm,npu-brick-id");
  const speed = notes.read(path, () => u32(node, "ibm,nvlink-speed"));
  const tgt = notes.read(path, () => u64(node, "ibm,device-tgt-addr"));
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
    ...(tgt !== undefined && { tgt }),
    origin,
  };
}

/**
 * Gives each GPU the bridges that its `ibm,npu` names, in its order. A bridge that names another GPU, or that two GPUs
 * name while it names none, is nobody's: a link to it is not known to end at the GPU's own CPU.
 */
export function claimBridges(
  gpus: readonly GpuNode[],
  bridges: ReadonlyMap<DeviceTreeNode, BridgeNode>,
  scene: Scene,
): void {
  const claims = new Map<BridgeNode, GpuNode[]>([...bridges.values()].map((bridge) => [bridge, []]));
  const named = gpus.map((gpu) => ({ gpu, bridges: namedBridges(gpu, bridges, scene) }));
  for (const { gpu, bridges } of named) for (const bridge of bridges) claims.get(bridge)?.push(gpu);
  const owners = new Map([...claims].map(([bridge, claimants]) => [bridge, ownerOf(bridge, claimants)]));
  for (const { gpu, bridges } of named) {
    gpu.gpu.bridges = bridges.filter((bridge) => owners.get(bridge) === gpu).map(({ bridge }) => bridge.address);
  }
  for (const [bridge, claimants] of claims) noteClaims(bridge, claimants, owners.get(bridge), scene);
}

/** The bridges in a GPU's `ibm,npu`, each once. */
function namedBridges({ pci }: GpuNode, bridges: ReadonlyMap<DeviceTreeNode, BridgeNode>, scene: Scene): BridgeNode[] {
  const { notes, byPhandle } = scene;
  const found = new Set<BridgeNode>();
  let lost = 0;
  for (const phandle of notes.read(pci.path, () => cells(pci.node, "ibm,npu")) ?? []) {
    const target = byPhandle.get(phandle);
    const bridge = target && bridges.get(target.node);
    if (bridge === undefined) lost++;
    else found.add(bridge);
  }
  if (lost > 0) notes.add(`${pci.path}: ${lost} of the phandles in ibm,npu lead to no NPU bridge`, [pci.fn.address]);
  return [...found];
}

function ownerOf({ pci, bridge }: BridgeNode, claimants: readonly GpuNode[]): GpuNode | undefined {
  if (pci.node.properties.has("ibm,gpu")) return claimants.find(({ gpu }) => gpu.address === bridge.gpu);
  return claimants.length === 1 ? claimants[0] : undefined;
}

function noteClaims(
  { bridge }: BridgeNode,
  claimants: readonly GpuNode[],
  owner: GpuNode | undefined,
  { notes }: Scene,
): void {
  const rejected = claimants.filter((gpu) => gpu !== owner).map(({ gpu }) => gpu.address);
  const says = bridge.gpu === undefined ? "names no GPU" : `names ${bridge.gpu}`;
  if (rejected.length > 0) {
    const what = `whose bridge ${bridge.address} is: ibm,npu of ${rejected.join(", ")} has it, and its ibm,gpu ${says}`;
    notes.add(what, [bridge.address, ...rejected]);
  } else if (owner === undefined && bridge.gpu !== undefined) {
    const what = `whose bridge ${bridge.address} is: its ibm,gpu ${says}, whose ibm,npu does not have it`;
    notes.add(what, [bridge.address, bridge.gpu]);
  }
}
