import { walk } from "../../devicetree/path.js";
import { cells, u32, u32At, u64 } from "../../devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../../devicetree/tree.js";
import { compareAddresses, formatAddress, type PciAddress, splitAddress } from "../../pci/address.js";
import type { Bar, PciFunction } from "../../pci/function.js";
import { PHBS_PER_CHIP } from "../firmware/power9_map.js";
import { isCompatible } from "./compatible.js";
import { isNvlinkEnd, nvlinkAncestors } from "./ends.js";
import type { Notes } from "./notes.js";

/** A PCI host bridge: the root of a domain. */
export interface HostBridge {
  node: DeviceTreeNode;
  path: string;
  domain: number;
  /** The emulated one of an NPU, whose functions are links. */
  npu: boolean;
  numaNode?: number;
}

/** A node that is a PCI function. */
export interface PciNode {
  node: DeviceTreeNode;
  path: string;
  host: HostBridge;
  /** The port it hangs under, or null on the root bus. */
  parent: PciNode | null;
  fn: PciFunction;
}

/** Whose children are PCI functions. */
interface Bus {
  host: HostBridge;
  port: PciNode | null;
  /** Only the NVLink ends below it make it a bus: its other children are no functions. */
  implied?: true;
}

/** A node that is a function by its NVLink properties, without an address of its own. */
interface UnplacedNode {
  node: DeviceTreeNode;
  path: string;
  bus: Bus;
}

/** Devices of a domain: 256 buses of 32. */
const DEVICES = 256 * 32;

/** Node names of host bridges that lack the `device_type` which should tell. */
const PCI_NAME = /^pci(?:ex)?(?:@|$)/;

const NPU_HOST_BRIDGES = ["ibm,power9-npu-pciex", "ibm,power8-npu-pciex"] as const;

/**
 * All PCI functions of a tree, in the order of their addresses: the nodes below a host bridge, and below ports, that have
 * a `reg` (PCI Bus Binding to Open Firmware 2.1, section 2.2.1.1). A node with NVLink properties is one wherever it is:
 * left out, it would hide what its links join.
 */
export function pciNodes(tree: DeviceTree, notes: Notes): PciNode[] {
  const ancestors = nvlinkAncestors(tree.root);
  const buses = new Map<DeviceTreeNode, Bus>();
  const byAddress = new Map<PciAddress, PciNode>();
  const unplaced: UnplacedNode[] = [];
  const domains: DomainNumbers = { taken: new Set(), next: 0 };
  for (const { node, path, parent } of walk(tree.root)) {
    const bus = parent && buses.get(parent);
    if (bus === undefined || (bus.implied && !isNvlinkEnd(node))) {
      const implied = !isHostBridge(node) && !(PCI_NAME.test(node.name) && ancestors.has(node));
      if (implied && !node.children.some(isNvlinkEnd)) continue;
      buses.set(node, { host: readHostBridge(node, path, domains, notes), port: null, ...(implied && { implied }) });
      continue;
    }
    const found = readFunction(node, path, bus, notes);
    const twin = found && byAddress.get(found.fn.address);
    if (isNvlinkEnd(node) && (found === undefined || twin !== undefined)) {
      unplaced.push({ node, path, bus });
    } else if (found === undefined) {
      if (ancestors.has(node)) buses.set(node, { ...bus, implied: true });
    } else {
      if (twin === undefined) byAddress.set(found.fn.address, found);
      else notes.add(`${twin.path} and ${path} have the same address; the second is left out`, [found.fn.address]);
      if (isBus(found) || ancestors.has(node)) buses.set(node, { host: bus.host, port: twin ?? found });
    }
  }
  for (const found of placeNodes(unplaced, byAddress, notes)) byAddress.set(found.fn.address, found);
  const nodes = [...byAddress.values()].sort((a, b) => compareAddresses(a.fn.address, b.fn.address));
  completeBuses(nodes);
  markMultifunction(nodes);
  return nodes;
}

/** Gives NVLink ends without an address of their own the next free device number of their host bridge's root bus. */
function* placeNodes(
  unplaced: readonly UnplacedNode[],
  taken: ReadonlyMap<PciAddress, PciNode>,
  notes: Notes,
): Generator<PciNode> {
  const next = new Map<number, number>();
  for (const { node, path, bus } of unplaced) {
    const { domain } = bus.host;
    let slot = next.get(domain) ?? 0;
    const address = () => formatAddress({ domain, bus: slot >> 5, device: slot & 31, function: 0 });
    while (slot < DEVICES && taken.has(address())) slot++;
    next.set(domain, slot + 1);
    if (slot >= DEVICES) {
      notes.add(`${path} is left out: its PCI domain has no free address`);
      continue;
    }
    notes.add(`${path} does not tell a PCI address of its own; it was given ${address()}`, [address()]);
    yield functionAt(address(), node, path, bus, notes);
  }
}

function isHostBridge(node: DeviceTreeNode): boolean {
  const type = node.properties.get("device_type");
  const word = type === undefined ? "" : Buffer.from(type).toString("latin1").replace(/\0$/, "");
  return word === "pci" || word === "pciex" || NPU_HOST_BRIDGES.some((name) => isCompatible(node, name));
}

function readHostBridge(node: DeviceTreeNode, path: string, domains: DomainNumbers, notes: Notes): HostBridge {
  const domain = hostBridgeDomain(node, path, notes) ?? freeDomain(domains);
  domains.taken.add(domain);
  const numaNode = notes.read(path, () => cells(node, "ibm,associativity"))?.[4];
  return {
    node,
    path,
    domain,
    npu: NPU_HOST_BRIDGES.some((name) => isCompatible(node, name)),
    ...(numaNode !== undefined && { numaNode }),
  };
}

/** The domain as Linux takes it (arch/powerpc/kernel/pci-common.c), or as skiboot would number this host bridge. */
function hostBridgeDomain(node: DeviceTreeNode, path: string, notes: Notes): number | undefined {
  const linux = notes.read(path, () => u32(node, "linux,pci-domain"));
  if (linux !== undefined) return linux;
  const opal = notes.read(path, () => u64(node, "ibm,opal-phbid"));
  if (opal !== undefined) return Number(opal & 0xffffn);
  const chip = notes.read(path, () => u32(node, "ibm,chip-id"));
  const index = notes.read(path, () => u32(node, "ibm,phb-index"));
  if (chip !== undefined && chip < 0x1000 && index !== undefined && index < PHBS_PER_CHIP) {
    return chip * PHBS_PER_CHIP + index;
  }
  notes.add(`${path} does not tell its PCI domain; it was given the next free number`);
  return undefined;
}

/** Domains in use, and the lowest that may be free. */
interface DomainNumbers {
  taken: Set<number>;
  next: number;
}

function freeDomain(domains: DomainNumbers): number {
  while (domains.taken.has(domains.next)) domains.next++;
  return domains.next;
}

function readFunction(node: DeviceTreeNode, path: string, bus: Bus, notes: Notes): PciNode | undefined {
  const where = notes.read(path, () => u32At(node, "reg", 0));
  if (where === undefined) {
    if (node.properties.has("vendor-id") && !isNvlinkEnd(node)) {
      notes.add(`${path} is a PCI function without an address and is left out`);
    }
    return undefined;
  }
  const address = formatAddress({
    domain: bus.host.domain,
    bus: (where >>> 16) & 0xff,
    device: (where >>> 11) & 31,
    function: (where >>> 8) & 7,
  });
  return functionAt(address, node, path, bus, notes);
}

function functionAt(address: PciAddress, node: DeviceTreeNode, path: string, { host, port }: Bus, notes: Notes) {
  const ids = readIds(node, path, notes);
  const buses = readBuses(node, path, splitAddress(address).bus, notes);
  const fn: PciFunction = {
    address,
    ...ids,
    ...(ids.classCode !== undefined && { headerType: headerType(ids.classCode) }),
    bars: readBars(node, path, notes),
    capabilities: [],
    ...(buses && { buses }),
    parent: port?.fn.address ?? null,
    ...(host.numaNode !== undefined && { numaNode: host.numaNode }),
  };
  return { node, path, host, parent: port, fn };
}

/** Ids from their properties, else from the first `compatible` entry of the form `pciex10de,1db1`. */
function readIds(node: DeviceTreeNode, path: string, notes: Notes) {
  const number = (name: string, highest: number) => {
    const value = notes.read(path, () => u32(node, name));
    if (value === undefined || value <= highest) return value;
    notes.add(`${path}: ${name} 0x${value.toString(16)} is too large to be one`);
    return undefined;
  };
  const [vendor, device] = idsOfCompatible(node);
  const vendorId = number("vendor-id", 0xffff) ?? vendor;
  const deviceId = number("device-id", 0xffff) ?? device;
  const subsystemVendorId = number("subsystem-vendor-id", 0xffff);
  const subsystemId = number("subsystem-id", 0xffff);
  const classCode = number("class-code", 0xffffff);
  const revision = number("revision-id", 0xff);
  return {
    ...(vendorId !== undefined && { vendorId }),
    ...(deviceId !== undefined && { deviceId }),
    ...(subsystemVendorId !== undefined && { subsystemVendorId }),
    ...(subsystemId !== undefined && { subsystemId }),
    ...(classCode !== undefined && { classCode }),
    ...(revision !== undefined && { revision }),
  };
}

function idsOfCompatible(node: DeviceTreeNode): [number?, number?] {
  const list = Buffer.from(node.properties.get("compatible") ?? []).toString("latin1");
  const match = /(?:^|\0)pci(?:ex)?([0-9a-f]{1,4}),([0-9a-f]{1,4})(?:\0|\.)/i.exec(list);
  return match === null ? [] : [Number.parseInt(match[1] ?? "", 16), Number.parseInt(match[2] ?? "", 16)];
}

function headerType(classCode: number): number {
  const subclass = classCode >>> 8;
  return subclass === 0x0604 ? 1 : subclass === 0x0607 ? 2 : 0;
}

/** Whether the function's children are functions on a bus behind it. */
function isBus({ node, fn }: PciNode): boolean {
  return fn.headerType === undefined ? isHostBridge(node) : fn.headerType !== 0;
}

function readBuses(node: DeviceTreeNode, path: string, primary: number, notes: Notes) {
  const range = notes.read(path, () => cells(node, "bus-range"));
  const [secondary, subordinate] = range ?? [];
  if (secondary === undefined || subordinate === undefined) return undefined;
  if (secondary > subordinate || subordinate > 0xff) {
    notes.add(`${path}: bus-range ${secondary} to ${subordinate} is none`);
    return undefined;
  }
  return { primary, secondary, subordinate };
}

/** Numbers the buses of ports that have no `bus-range` by what is found behind them. */
function completeBuses(nodes: readonly PciNode[]): void {
  const found = new Map<PciNode, { secondary: number; subordinate: number }>();
  for (const { fn, parent } of nodes) {
    const bus = Number.parseInt(fn.address.slice(-7, -5), 16);
    // Ports are never deeper than the nesting of the tree, which its reader limits; no loop is possible in a tree.
    for (let port = parent, direct = true; port !== null; port = port.parent, direct = false) {
      const seen = found.get(port) ?? { secondary: 0xff, subordinate: 0 };
      if (direct) seen.secondary = Math.min(seen.secondary, bus);
      seen.subordinate = Math.max(seen.subordinate, bus, fn.buses?.subordinate ?? 0);
      found.set(port, seen);
    }
  }
  for (const [{ fn }, buses] of found) {
    fn.buses ??= { primary: Number.parseInt(fn.address.slice(-7, -5), 16), ...buses };
  }
}

function markMultifunction(nodes: readonly PciNode[]): void {
  const devices = new Map<string, PciNode[]>();
  for (const node of nodes) {
    const device = node.fn.address.slice(0, -2);
    const others = devices.get(device);
    if (others === undefined) devices.set(device, [node]);
    else others.push(node);
  }
  for (const functions of devices.values()) {
    if (functions.length > 1) for (const { fn } of functions) fn.multifunction = true;
  }
}

/** Space codes of `assigned-addresses` (PCI Bus Binding to Open Firmware 2.1, section 2.2.1.1). */
const SPACE = { config: 0, io: 1, memory32: 2, memory64: 3 } as const;

/** BARs from `assigned-addresses`: five cells each, of which the first names register, space and prefetchability. */
function readBars(node: DeviceTreeNode, path: string, notes: Notes): Bar[] {
  const values = notes.read(path, () => cells(node, "assigned-addresses")) ?? [];
  const bars = new Map<Bar["index"], Bar>();
  // Six BARs and the expansion ROM are all a function can have.
  const whole = values.length % 5 === 0 && values.length <= 7 * 5;
  for (let at = 0; whole && at < values.length; at += 5) {
    const bar = readBar(values.slice(at, at + 5));
    if (bar !== undefined) bars.set(bar.index, bar);
  }
  if (5 * bars.size !== values.length) notes.add(`${path}: assigned-addresses has entries that are no BAR of its own`);
  return [...bars.values()];
}

function readBar([high = 0, addressHigh = 0, addressLow = 0, sizeHigh = 0, sizeLow = 0]: number[]): Bar | undefined {
  const index = barIndex(high & 0xff);
  const space = (high >>> 24) & 3;
  if (index === undefined || space === SPACE.config) return undefined;
  return {
    index,
    kind: space === SPACE.io ? "io" : "memory",
    address: (BigInt(addressHigh) << 32n) | BigInt(addressLow),
    size: (BigInt(sizeHigh) << 32n) | BigInt(sizeLow),
    width: space === SPACE.memory64 ? 64 : 32,
    prefetchable: (high & 0x40000000) !== 0,
    disabled: false,
  };
}

function barIndex(register: number): Bar["index"] | undefined {
  if (register === 0x30) return "rom";
  return register >= 0x10 && register <= 0x24 && register % 4 === 0 ? (register - 0x10) / 4 : undefined;
}
