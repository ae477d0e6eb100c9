import { textBytes, u32Bytes, u64Bytes } from "../../devicetree/property.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";
import { compressTgt, GPU_RAM_WINDOW, gpuRamBase } from "../witherspoon.js";
import type { Npu, NpuLink } from "./board.js";
import { addBridge } from "./gpu_nodes.js";
import type { Grower } from "./grower.js";
import { growEndpoint, NPU_BRIDGE, PCI_BUS_PROPERTIES } from "./pci_nodes.js";
import { ATSD_REGISTERS, atsdAddress, POWER9_MAP } from "./power9_map.js";

/** `ibm,phb-index` of every NPU's host bridge; the real ones of a chip are 0..5. */
const NPU_PHB_INDEX = 7;

/** First chip and NUMA node number of GPU memory; each further GPU takes the next lower one. */
const FIRST_GPU_NODE = 255;

/** The emulated host bridge of an NPU (skiboot hw/npu2.c). */
export function growNpuHostBridge(grower: Grower, npu: Npu, domain: number): DeviceTreeNode {
  const registers = POWER9_MAP.npuRegisters(npu.chipId);
  const window = POWER9_MAP.npuWindow(npu.chipId);
  const atsd = Array.from({ length: ATSD_REGISTERS }, (_, n) => atsdAddress(npu.chipId, n));
  return grower.child(grower.tree.root, `pciex@${registers.base.toString(16)}`, {
    compatible: textBytes("ibm,power9-npu-pciex", "ibm,ioda2-npu2-phb"),
    reg: u64Bytes(registers.base, registers.size),
    "ibm,phb-index": u32Bytes(NPU_PHB_INDEX),
    "ibm,npu-index": u32Bytes(npu.index),
    "ibm,chip-id": u32Bytes(npu.chipId),
    "ibm,xscom-base": u32Bytes(npu.scom),
    "ibm,npcq": u32Bytes(grower.phandle(npu.node)),
    "ibm,links": u32Bytes(npu.links.length),
    "ibm,mmio-window": u64Bytes(window.base, window.size),
    "ibm,phb-diag-data-size": u32Bytes(0),
    ...PCI_BUS_PROPERTIES,
    "bus-range": u32Bytes(0, 0xff),
    "clock-frequency": u64Bytes(0x200n << 32n),
    "ibm,opal-num-pes": u32Bytes(8),
    "ibm,opal-reserved-pe": u32Bytes(7),
    "ibm,supported-tce-sizes": u32Bytes(12, 16, 24, 28),
    "ibm,mmio-atsd": u64Bytes(...atsd),
    ranges: Buffer.concat([u32Bytes(0x02000000), u64Bytes(window.base, window.base, window.size)]),
    "ibm,opal-phbid": u64Bytes(BigInt(domain)),
  });
}

/**
 * The bridges of an NPU, one function per link: the device number is the link's group, the function its place in the
 * group. Each is tied to its link, to its GPU and to the GPU's memory.
 * @param gpus the GPUs' nodes by slot label
 * @returns the bridges' phandles by link index
 */
export function growBridges(
  grower: Grower,
  npu: Npu,
  hostBridge: DeviceTreeNode,
  gpus: ReadonlyMap<string, DeviceTreeNode>,
): Map<number, number> {
  const byIndex = new Map<number, number>();
  const inGroup = new Map<number, number>();
  for (const link of npu.links) {
    const place = inGroup.get(link.group) ?? 0;
    inGroup.set(link.group, place + 1);
    const bridge = growEndpoint(grower, hostBridge, NPU_BRIDGE, { bus: 0, device: link.group, function: place });
    tie(grower, npu, link, bridge, gpus);
    byIndex.set(link.index, grower.phandle(bridge));
  }
  return byIndex;
}

function tie(
  grower: Grower,
  npu: Npu,
  link: NpuLink,
  bridge: DeviceTreeNode,
  gpus: ReadonlyMap<string, DeviceTreeNode>,
): void {
  const { properties } = bridge;
  const base = gpuRamBase(npu.chipId, link.group);
  properties.set("memory-region", u32Bytes(grower.phandle(growMemory(grower, base))));
  properties.set("ibm,device-tgt-addr", u64Bytes(compressTgt(base)));
  properties.set("ibm,nvlink", u32Bytes(grower.phandle(link.node)));
  if (link.speed !== undefined) properties.set("ibm,nvlink-speed", u32Bytes(link.speed));
  if (link.label === undefined) return;
  properties.set("ibm,loc-code", textBytes(link.label));
  const gpu = gpus.get(link.label);
  if (gpu === undefined) return;
  properties.set("ibm,gpu", u32Bytes(grower.phandle(gpu)));
  addBridge(gpu, grower.phandle(bridge));
}

/** The memory node of one GPU's window, shared by the GPU's bridges. `linux,usable-memory` keeps it offline. */
function growMemory(grower: Grower, base: bigint): DeviceTreeNode {
  const { root } = grower.tree;
  const name = `memory@${base.toString(16)}`;
  const others = root.children.filter(({ properties }) => properties.has("linux,usable-memory")).length;
  const node = FIRST_GPU_NODE - others;
  return grower.child(root, name, {
    device_type: textBytes("memory"),
    compatible: textBytes("ibm,coherent-device-memory"),
    reg: u64Bytes(base, GPU_RAM_WINDOW),
    "ibm,chip-id": u32Bytes(node),
    "linux,usable-memory": u64Bytes(base, 0n),
    "ibm,associativity": u32Bytes(4, node, node, node, node),
  });
}
