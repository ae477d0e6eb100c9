import type { PciAddress } from "./address.js";

/** One base address register, or the expansion ROM. */
export interface Bar {
  /** 0..5, or `rom`. A 64-bit BAR has the number of its lower half. */
  index: number | "rom";
  kind: "memory" | "io";
  /** Bus address; 0 while nothing is assigned. */
  address: bigint;
  /** Bytes; absent where the source does not say (config space alone never does). */
  size?: bigint;
  width: 32 | 64;
  prefetchable: boolean;
  /** Set when decoding for this kind is off, so that the BAR answers nothing. */
  disabled: boolean;
}

/** One entry of the standard (`extended: false`) or extended capability list. */
export interface Capability {
  /** Byte offset in config space. */
  offset: number;
  id: number;
  extended: boolean;
  /** As pciutils 3.9 names it; `#19` style (hexadecimal) for ids it does not know. */
  name: string;
}

/** Device/Port Type field of the PCI Express capability (PCIe base specification 7.5.3.2). */
export type ExpressType =
  | "endpoint"
  | "legacy-endpoint"
  | "root-port"
  | "upstream-port"
  | "downstream-port"
  | "pcie-to-pci-bridge"
  | "pci-to-pcie-bridge"
  | "root-complex-endpoint"
  | "root-complex-event-collector"
  | "unknown";

/** What the PCI Express capability says that isolation depends on. */
export interface Express {
  type: ExpressType;
  /** The port is connected to a slot (root and downstream ports). */
  slotImplemented: boolean;
  /** Physical slot number, when one is implemented. */
  slotNumber?: number;
  /** The function can be reset on its own. */
  functionLevelReset: boolean;
}

/** The Access Control Services capability: what the port can do and what is switched on (bits as in `acs.ts`). */
export interface Acs {
  supported: number;
  enabled: number;
}

/** Bus numbers of a type 1 header. */
export interface BridgeBuses {
  primary: number;
  secondary: number;
  subordinate: number;
}

/**
 * One PCI function, as much as its source knows of it. Ids may be missing: `lspci` without `-n` prints names only.
 */
export interface PciFunction {
  address: PciAddress;
  vendorId?: number;
  deviceId?: number;
  subsystemVendorId?: number;
  subsystemId?: number;
  /** Base class, subclass and programming interface, 24 bits. */
  classCode?: number;
  revision?: number;
  /** Vendor and device as the source names them. */
  name?: string;
  /** Header layout: 0 endpoint, 1 PCI bridge, 2 CardBus bridge. */
  headerType?: number;
  multifunction?: boolean;
  bars: Bar[];
  capabilities: Capability[];
  express?: Express;
  acs?: Acs;
  buses?: BridgeBuses;
  /** The bridge this function hangs under; `null` on a root bus; absent when only bus numbers can tell. */
  parent?: PciAddress | null;
  /** The physical function that this one is an SR-IOV virtual function of; absent: none, or the source does not say. */
  physicalFunction?: PciAddress;
  driver?: string;
  numaNode?: number;
  irq?: number;
  /** What is wrong with its config space, in words: looping lists, lists that run out of the space. */
  damage?: string[];
}
