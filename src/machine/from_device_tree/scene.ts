import type { PlacedNode } from "../../devicetree/path.js";
import { u32 } from "../../devicetree/property.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";
import type { Bridge, Gpu, Origin } from "../machine.js";
import type { Notes } from "./notes.js";
import type { PciNode } from "./pci.js";

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

/** A GPU and its node. */
export interface GpuNode {
  pci: PciNode;
  gpu: Gpu;
  /** How many links the part has, where that is known. */
  linkCount?: number;
}

/** The node that a function's phandle property leads to; one that leads nowhere is noted. */
export function follow({ node, path, fn }: PciNode, name: string, { byPhandle, notes }: Scene): PlacedNode | undefined {
  const phandle = notes.read(path, () => u32(node, name));
  if (phandle === undefined) return undefined;
  const target = byPhandle.get(phandle);
  if (target === undefined) notes.add(`${path}: ${name} is 0x${phandle.toString(16)}, which no node has`, [fn.address]);
  return target;
}
