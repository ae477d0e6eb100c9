import { findNode, walk } from "../../devicetree/path.js";
import { cells, text, u32, u32At } from "../../devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../../devicetree/tree.js";
import { splitAddress } from "../../pci/address.js";
import { MachineError } from "../error.js";
import { isCompatible } from "../from_device_tree/compatible.js";
import { WITHERSPOON_GPU_ADDRESSES, WITHERSPOON_LABELS, type WitherspoonBoard } from "../witherspoon.js";
import { GPU_WINDOWS_PER_CHIP, LINKS_PER_NPU, MAX_CHIP_ID, PHBS_PER_CHIP } from "./power9_map.js";

/** One link of an NPU, as the boot firmware describes it before PCI is probed. */
export interface NpuLink {
  node: DeviceTreeNode;
  /** `ibm,npu-link-index`, 0..5, unique in its NPU. */
  index: number;
  /** `ibm,npu-group-id`: links of one group lead to one GPU. */
  group: number;
  /** Label of the GPU's slot. */
  label?: string;
  /** `nvidia,link-speed` code. */
  speed?: number;
}

/** One NPU and its links in the tree's order. */
export interface Npu {
  node: DeviceTreeNode;
  chipId: number;
  /** `ibm,npu-index`. */
  index: number;
  /** Address in the chip's SCOM space. */
  scom: number;
  links: NpuLink[];
}

/** A PCI host bridge of a chip that is not disabled. */
export interface HostBridgeUnit {
  chipId: number;
  /** 0..5 */
  index: number;
  /** Associativity domains from the node down to the chip; Linux takes the last as the NUMA node. */
  domains: number[];
  /** The stack and PEC it belongs to, where the tree has them. */
  stack?: { node: DeviceTreeNode; index: number; pec: number };
}

/** Where a GPU slot hangs: a downstream port of the switch at a host bridge. */
export interface GpuSlot {
  chipId: number;
  hostBridge: number;
  /** Device number of the downstream port. */
  port: number;
  /** Place among the GPU slots of the switch, from 0. */
  position: number;
}

/** What the boot firmware's tree says about NPUs, host bridges and GPU slots. */
export interface FirmwareBoard {
  /** In the order of their chips. */
  npus: Npu[];
  hostBridges: HostBridgeUnit[];
  /** By slot label. */
  slots: Map<string, GpuSlot>;
}

/**
 * Which AC922 board the tree is of: the highest GPU group of its NPU links tells them apart (skiboot
 * platforms/astbmc/witherspoon.c). Undefined for other machines and for a highest group other than 1 or 2.
 */
export function witherspoonBoard(tree: DeviceTree): WitherspoonBoard | undefined {
  if (!isWitherspoon(tree)) return undefined;
  let highest = 0;
  for (const { node } of walk(tree.root)) {
    const group = isCompatible(node, "ibm,npu-link") ? node.properties.get("ibm,npu-group-id") : undefined;
    if (group?.length === 4) highest = Math.max(highest, u32(node, "ibm,npu-group-id") ?? 0);
  }
  return highest === 1 ? "redbud" : highest === 2 ? "sequoia" : undefined;
}

/** Whether the tree is of an AC922. */
export function isWitherspoon(tree: DeviceTree): boolean {
  return isCompatible(tree.root, "ibm,witherspoon");
}

/**
 * Reads what a boot firmware's tree says.
 * @throws MachineError when an NPU, a link or a host bridge lacks a number that its place in PCI depends on, or the
 * number is out of range.
 * @throws DeviceTreeError EFDT_VALUE when such a property is malformed.
 */
export function readBoard(tree: DeviceTree): FirmwareBoard {
  const npus: Npu[] = [];
  const hostBridges: HostBridgeUnit[] = [];
  const chips = new Map<DeviceTreeNode, number | undefined>();
  const domains = new Map<number, number[]>();
  for (const { node, path, parent } of walk(tree.root)) {
    const chip = node.properties.has("ibm,chip-id") ? u32(node, "ibm,chip-id") : parent && chips.get(parent);
    chips.set(node, chip);
    if (isCompatible(node, "ibm,xscom") && chip !== undefined) domains.set(chip, readDomains(node, chip));
    if (isCompatible(node, "ibm,power9-npu")) npus.push(readNpu(node, path, chip));
    if (isCompatible(node, "ibm,power9-phb-stack") && parent !== undefined && isEnabled(node)) {
      hostBridges.push(readStack(node, path, parent, chip, domains));
    }
  }
  npus.sort((a, b) => a.chipId - b.chipId);
  const twin = npus.find((npu, index) => npus[index + 1]?.chipId === npu.chipId);
  if (twin !== undefined) throw new MachineError(`two NPUs on chip ${twin.chipId}; POWER9 has one per chip`);
  const slots = readSlots(tree.root);
  return {
    npus,
    hostBridges: hostBridges.length > 0 ? hostBridges : allHostBridges(npus, domains),
    slots: slots.size > 0 ? slots : usualSlots(witherspoonBoard(tree), npus),
  };
}

function readNpu(node: DeviceTreeNode, path: string, chip: number | undefined): Npu {
  const chipId = inRange(chip, MAX_CHIP_ID, `${path}: ibm,chip-id of its chip`);
  const links = node.children.filter((child) => isCompatible(child, "ibm,npu-link"));
  if (links.length > LINKS_PER_NPU)
    throw new MachineError(`${path}: ${links.length} links; an NPU has ${LINKS_PER_NPU}`);
  const seen = new Set<number>();
  return {
    node,
    chipId,
    index: u32(node, "ibm,npu-index") ?? 0,
    scom: node.properties.has("reg") ? (u32At(node, "reg", 0) ?? 0) : 0,
    links: links.map((child) => {
      const link = readLink(child, `${path}/${child.name}`);
      if (seen.has(link.index)) throw new MachineError(`${path}: two links with ibm,npu-link-index ${link.index}`);
      seen.add(link.index);
      return link;
    }),
  };
}

function readLink(node: DeviceTreeNode, path: string): NpuLink {
  const label = node.properties.has("ibm,slot-label") ? text(node, "ibm,slot-label") : undefined;
  const speed = u32(node, "nvidia,link-speed");
  return {
    node,
    index: inRange(u32(node, "ibm,npu-link-index"), LINKS_PER_NPU - 1, `${path}: ibm,npu-link-index`),
    // The group is a PCI device number and the number of a RAM window; the windows are fewer.
    group: inRange(u32(node, "ibm,npu-group-id"), GPU_WINDOWS_PER_CHIP - 1, `${path}: ibm,npu-group-id`),
    ...(label !== undefined && { label }),
    ...(speed !== undefined && { speed }),
  };
}

/** A chip's associativity domains: node, card, module, chip (skiboot core/affinity.c). */
function readDomains(chip: DeviceTreeNode, chipId: number): number[] {
  const node = u32(chip, "ibm,ccm-node-id") ?? chipId >> 3;
  return [node, u32(chip, "ibm,hw-card-id") ?? 0, u32(chip, "ibm,hw-module-id") ?? 0, chipId];
}

function readStack(
  node: DeviceTreeNode,
  path: string,
  pec: DeviceTreeNode,
  chip: number | undefined,
  domains: ReadonlyMap<number, number[]>,
): HostBridgeUnit {
  const chipId = inRange(chip, MAX_CHIP_ID, `${path}: ibm,chip-id of its chip`);
  return {
    chipId,
    domains: domains.get(chipId) ?? [chipId >> 3, 0, 0, chipId],
    index: inRange(u32(node, "ibm,phb-index"), PHBS_PER_CHIP - 1, `${path}: ibm,phb-index`),
    stack: {
      node,
      index: u32(node, "reg") ?? 0,
      pec: u32(pec, "ibm,pec-index") ?? 0,
    },
  };
}

function isEnabled(node: DeviceTreeNode): boolean {
  const status = text(node, "status");
  return status === undefined || status === "okay" || status === "ok";
}

/** GPU slots from `/ibm,pcie-slots`: root complex, switch, labelled downstream ports. */
function readSlots(root: DeviceTreeNode): Map<string, GpuSlot> {
  const slots = new Map<string, GpuSlot>();
  for (const complex of findNode(root, "/ibm,pcie-slots")?.children ?? []) {
    if (!isCompatible(complex, "ibm,pcie-root-port")) continue;
    const [chipId, hostBridge] = cells(complex, "reg") ?? [];
    if (chipId === undefined || hostBridge === undefined) continue;
    for (const { children: ports } of complex.children) {
      let position = 0;
      for (const port of ports) {
        const label = text(port, "ibm,slot-label");
        const number = u32(port, "reg");
        if (!isCompatible(port, "ibm,pcie-port") || label === undefined || number === undefined || number > 31)
          continue;
        if (!slots.has(label)) slots.set(label, { chipId, hostBridge, port: number, position });
        position++;
      }
    }
  }
  return slots;
}

/** Downstream ports of the GPU slots on an AC922's two switches (op920's `/ibm,pcie-slots`). */
const USUAL_PORTS = [
  [0xa, 0xb, 0xc],
  [0x4, 0x5, 0xd],
] as const;

/** The AC922's GPU slots, for a tree that has no `/ibm,pcie-slots`. */
function usualSlots(board: WitherspoonBoard | undefined, npus: readonly Npu[]): Map<string, GpuSlot> {
  const slots = new Map<string, GpuSlot>();
  for (const [socket, labels] of (board ? WITHERSPOON_LABELS[board] : []).entries()) {
    const chipId = npus[socket]?.chipId;
    for (const [position, label] of labels.entries()) {
      const address = WITHERSPOON_GPU_ADDRESSES[socket]?.[position];
      const port = USUAL_PORTS[socket]?.[position];
      if (chipId === undefined || address === undefined || port === undefined) continue;
      slots.set(label, { chipId, hostBridge: splitAddress(address).domain % PHBS_PER_CHIP, port, position });
    }
  }
  return slots;
}

/** All host bridges of the NPUs' chips, for a tree that names none. */
function allHostBridges(npus: readonly Npu[], domains: ReadonlyMap<number, number[]>): HostBridgeUnit[] {
  return npus.flatMap(({ chipId }) =>
    Array.from({ length: PHBS_PER_CHIP }, (_, index) => ({
      chipId,
      index,
      domains: domains.get(chipId) ?? [chipId >> 3, 0, 0, chipId],
    })),
  );
}

function inRange(value: number | undefined, highest: number, what: string): number {
  if (value === undefined) throw new MachineError(`${what} is missing`);
  if (value > highest) throw new MachineError(`${what} is ${value}; the highest is ${highest}`);
  return value;
}
