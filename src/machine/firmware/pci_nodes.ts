import { textBytes, u32Bytes, u64Bytes } from "../../devicetree/property.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";
import type { HostBridgeUnit } from "./board.js";
import type { Grower } from "./grower.js";
import { PHBS_PER_CHIP, POWER9_MAP } from "./power9_map.js";

/** What a PCI function's node says about it. */
export interface FunctionIds {
  /** Name of the node, from the class code (skiboot core/pci.c). */
  name: "pci" | "3d-controller" | "unknown-bridge";
  vendor: number;
  device: number;
  classCode: number;
  revision: number;
}

/** POWER9's root port. */
export const ROOT_PORT: FunctionIds = { name: "pci", vendor: 0x1014, device: 0x4c1, classCode: 0x060400, revision: 0 };

/** Any port of the PEX 8725 switch that an AC922's GPUs hang behind. */
export const SWITCH_PORT: FunctionIds = {
  name: "pci",
  vendor: 0x10b5,
  device: 0x8725,
  classCode: 0x060400,
  revision: 0xca,
};

/** Tesla V100 SXM2, the GPU of an AC922. */
export const V100_SXM2: FunctionIds = {
  name: "3d-controller",
  vendor: 0x10de,
  device: 0x1db1,
  classCode: 0x030200,
  revision: 0xa1,
};

/** An NPU bridge, emulated by the firmware. */
export const NPU_BRIDGE: FunctionIds = {
  name: "unknown-bridge",
  vendor: 0x1014,
  device: 0x4ea,
  classCode: 0x068001,
  revision: 1,
};

/** Bus, device and function numbers inside a domain. */
export interface BusAddress {
  bus: number;
  device: number;
  function: number;
}

/** The PCI domain of a host bridge: skiboot numbers them by chip, six each. */
export function hostBridgeDomain({ chipId, index }: { chipId: number; index: number }): number {
  return chipId * PHBS_PER_CHIP + index;
}

/** What the nodes of all PCI buses have. */
export const PCI_BUS_PROPERTIES = {
  "#address-cells": u32Bytes(3),
  "#size-cells": u32Bytes(2),
  "#interrupt-cells": u32Bytes(1),
  device_type: textBytes("pciex"),
};

/**
 * The node of a POWER9 PCI host bridge, as skiboot's hw/phb4.c makes it. What describes the firmware's own memory and
 * interrupt sources is left out: it was allocated when the machine booted, and no tree tells how.
 */
export function growHostBridge(grower: Grower, unit: HostBridgeUnit): DeviceTreeNode {
  const { chipId, index, stack } = unit;
  const registers = POWER9_MAP.phbRegisters(chipId, index);
  const interrupts = POWER9_MAP.phbInterrupts(chipId, index);
  const window64 = POWER9_MAP.phbWindow64(chipId, index);
  const window32 = POWER9_MAP.phbWindow32(chipId, index);
  return grower.child(grower.tree.root, `pciex@${registers.base.toString(16)}`, {
    compatible: textBytes("ibm,power9-pciex", "ibm,ioda3-phb"),
    reg: u64Bytes(registers.base, registers.size, interrupts.base, interrupts.size),
    "ibm,mmio-windows": u64Bytes(window64.base, window64.size, window32.base, window32.size),
    "ibm,phb-index": u32Bytes(index),
    ...(stack && {
      "ibm,phb-pec-index": u32Bytes(stack.pec),
      "ibm,phb-stack": u32Bytes(grower.phandle(stack.node)),
      "ibm,phb-stack-index": u32Bytes(stack.index),
    }),
    "ibm,chip-id": u32Bytes(chipId),
    "ibm,associativity": u32Bytes(unit.domains.length, ...unit.domains),
    "ibm,opal-phbid": u64Bytes(BigInt(hostBridgeDomain(unit))),
    ...PCI_BUS_PROPERTIES,
    "bus-range": u32Bytes(0, 0xff),
    "clock-frequency": u64Bytes(0x200n << 32n),
    // 32-bit BARs at 2 GiB of PCI space, less the 64 KiB that 32-bit MSIs take.
    ranges: Buffer.concat([
      u32Bytes(0x02000000, 0, 0x80000000),
      u64Bytes(window32.base),
      u32Bytes(0, Number(window32.size) - 0x10000),
    ]),
    "ibm,opal-m64-window": u64Bytes(window64.base, window64.base, window64.size),
    status: textBytes("okay"),
  });
}

/**
 * The node of an endpoint. Its BARs are not in it: the firmware leaves them to the operating system. Nor is its interrupt
 * pin, which without the interrupt controller, allocated at boot, would lead nowhere.
 */
export function growEndpoint(grower: Grower, parent: DeviceTreeNode, ids: FunctionIds, at: BusAddress): DeviceTreeNode {
  return growFunction(grower, parent, ids, at, {});
}

/** The node of a root port or a switch port. */
export function growPort(
  grower: Grower,
  parent: DeviceTreeNode,
  ids: FunctionIds,
  at: BusAddress,
  slot: Readonly<Record<string, Uint8Array>> = {},
): DeviceTreeNode {
  return growFunction(grower, parent, ids, at, {
    ...slot,
    ...PCI_BUS_PROPERTIES,
    // One to one, since an empty `ranges` is not translated properly by Linux.
    ranges: u32Bytes(0x02000000, 0, 0, 0x02000000, 0, 0, 0xf0000000, 0),
  });
}

function growFunction(
  grower: Grower,
  parent: DeviceTreeNode,
  ids: FunctionIds,
  at: BusAddress,
  properties: Readonly<Record<string, Uint8Array>>,
): DeviceTreeNode {
  const unit = at.function === 0 ? at.device.toString(16) : `${at.device.toString(16)},${at.function}`;
  return grower.child(parent, `${ids.name}@${unit}`, {
    "ibm,pci-config-space-type": u32Bytes(1),
    "class-code": u32Bytes(ids.classCode),
    "revision-id": u32Bytes(ids.revision),
    "vendor-id": u32Bytes(ids.vendor),
    "device-id": u32Bytes(ids.device),
    reg: u32Bytes((at.bus << 16) | (at.device << 11) | (at.function << 8), 0, 0, 0, 0),
    ...properties,
  });
}
