import { ISOLATION } from "../pci/acs.js";
import { type PciAddress, splitAddress } from "../pci/address.js";
import type { Acs, PciFunction } from "../pci/function.js";
import type { Hierarchy } from "../pci/hierarchy.js";

/** Two functions that PCIe does not keep apart, why, and what would separate them (null: nothing known). */
export interface PcieJoin {
  a: PciAddress;
  b: PciAddress;
  reason: string;
  action: string | null;
  /** The source shows it. Else it was not read, and ignorance isolates nothing. */
  certain: boolean;
}

/**
 * Which functions the kernel's rules join (drivers/iommu/iommu.c `pci_device_group`, drivers/pci/pci.c
 * `pci_acs_enabled`, drivers/pci/search.c `pci_for_each_dma_alias`): a function joins the bridge above it unless ACS
 * isolates every step from that bridge to the root, always joins a bridge that takes over its requester id, and joins
 * the other functions of its device when they lack ACS. What lies behind a VMD is one. A path that is not known isolates
 * nothing.
 *
 * `acsOf` lets the caller ask "what if": the ACS state to judge by. Time is linear in the number of functions.
 */
export function pcieJoins(
  functions: readonly PciFunction[],
  hierarchy: Hierarchy,
  acsOf: (fn: PciFunction) => Acs | undefined = (fn) => fn.acs,
): PcieJoin[] {
  const devices = devicesOf(functions);
  const walk = new Walk(hierarchy, acsOf, (fn) => devices.get(deviceAddress(fn)) ?? []);
  const joins: PcieJoin[] = [];
  const pathless = new Map<string, PciFunction>();
  const behindVmd = new Map<string, PciFunction>();
  for (const fn of functions) {
    if (splitAddress(fn.address).domain > LAST_SEGMENT) {
      joinVmd(fn, behindVmd, joins);
      continue;
    }
    const parent = hierarchy.parent(fn.address);
    if (parent === undefined) joinPathless(fn, pathless, joins);
    else if (parent !== null) {
      const join = walk.joinWithParent(fn, parent);
      if (join !== undefined) {
        joins.push(join);
        continue;
      }
    }
    const sibling = walk.siblingWithoutAcs(fn);
    if (sibling !== undefined) joins.push(siblingJoin(fn, sibling));
  }
  return joins;
}

/** The ACS state a function would have with everything switched on that isolation wants and the function has. */
export function enableAllAcs(fn: PciFunction): Acs | undefined {
  return fn.acs && { supported: fn.acs.supported, enabled: fn.acs.enabled | (fn.acs.supported & ISOLATION) };
}

/** `FLAGS@ADDRESS` of the boot parameter that switches on the required bits a port lacks; null when it has none to. */
function configAcs(fn: PciFunction): string | null {
  const missing = fn.acs === undefined ? 0 : ISOLATION & fn.acs.supported & ~fn.acs.enabled;
  if (missing === 0) return null;
  // Bit 6 is written first; x leaves a bit as it is (Documentation/admin-guide/kernel-parameters.txt, since 6.11).
  const flags = Array.from({ length: 7 }, (_, i) => (missing & (1 << (6 - i)) ? "1" : "x")).join("");
  return `${flags}@${fn.address}`;
}

/** What to do to switch ACS on, by {@link configAcs} settings. */
function enableAcs(settings: readonly string[]): string {
  return `enable ACS: boot with pci=config_acs=${settings.join(";")} (Linux 6.11 or later)`;
}

/** What the bridges from one up to the root do for isolation. */
interface PathUp {
  /** The lowest one without the required ACS; one whose capabilities were read rather than a lower one of unknown state. */
  blocker: PciFunction | undefined;
  /** Of each without it the boot parameter's setting, lowest first; null when one of them cannot have it. */
  settings: readonly string[] | null;
  reachesRoot: boolean;
}

/** Far more than switches are ever stacked; a longer list is no advice. */
const MOST_SETTINGS = 32;

function blockedAt(port: PciFunction, above: PathUp): PathUp {
  const setting = configAcs(port);
  const most = above.settings !== null && above.settings.length < MOST_SETTINGS ? above.settings : null;
  return {
    blocker: wasRead(port) ? port : (above.blocker ?? port),
    settings: setting === null || most === null ? null : [setting, ...most],
    reachesRoot: above.reachesRoot,
  };
}

class Walk {
  readonly #paths = new Map<PciAddress, PathUp>();

  constructor(
    private readonly hierarchy: Hierarchy,
    private readonly acsOf: (fn: PciFunction) => Acs | undefined,
    private readonly deviceOf: (fn: PciFunction) => readonly PciFunction[],
  ) {}

  joinWithParent(fn: PciFunction, parent: PciFunction): PcieJoin | undefined {
    const pair = { a: fn.address, b: parent.address };
    if (!wasRead(parent)) {
      const reason = `whether ${parent.address} isolates could not be read`;
      return { ...pair, reason, action: READ_ALL, certain: false };
    }
    if (takesOverRequesterId(parent)) {
      const reason = `${parent.address} is a conventional PCI bridge and answers for everything behind it`;
      return { ...pair, reason, action: null, certain: true };
    }
    const { blocker, settings, reachesRoot } = this.#pathUp(parent);
    if (blocker === undefined) {
      if (reachesRoot) return undefined;
      return { ...pair, reason: `what is above ${parent.address} is not known`, action: null, certain: false };
    }
    if (!wasRead(blocker)) {
      const reason = `whether ${blocker.address} isolates could not be read`;
      return { ...pair, reason, action: READ_ALL, certain: false };
    }
    const state = configAcs(blocker) === null ? "has no ACS" : "has ACS switched off";
    const action = reachesRoot && settings !== null ? enableAcs(settings) : null;
    return { ...pair, reason: `${describePort(blocker)} ${state}`, action, certain: true };
  }

  /** The first sibling that neither isolates itself nor is isolated from: functions of one device may talk directly. */
  siblingWithoutAcs(fn: PciFunction): PciFunction | undefined {
    if (!this.#isMultifunction(fn) || this.#acsEnabled(fn)) return undefined;
    return this.deviceOf(fn).find((other) => other !== fn && !this.#acsEnabled(other));
  }

  #pathUp(start: PciFunction): PathUp {
    const unknown: PciFunction[] = [];
    let at: PciFunction | null | undefined = start;
    let path: PathUp | undefined;
    while (at !== null && at !== undefined) {
      path = this.#paths.get(at.address);
      if (path !== undefined) break;
      unknown.push(at);
      at = this.hierarchy.parent(at.address);
    }
    path ??= { blocker: undefined, settings: [], reachesRoot: at === null };
    for (const port of unknown.reverse()) {
      path = this.#acsEnabled(port) ? path : blockedAt(port, path);
      this.#paths.set(port.address, path);
    }
    return path;
  }

  #acsEnabled(fn: PciFunction): boolean {
    switch (fn.express?.type) {
      case undefined:
      case "unknown":
      case "pcie-to-pci-bridge":
      case "pci-to-pcie-bridge":
      case "root-complex-event-collector":
        return false;
      case "root-port":
      case "downstream-port":
        return this.#requiredBits(fn);
      case "root-complex-endpoint":
        // Intel says of all its integrated endpoints that the IOMMU sees their requests first (drivers/pci/quirks.c).
        return fn.vendorId === 0x8086 || !this.#isMultifunction(fn) || this.#requiredBits(fn);
      default:
        return !this.#isMultifunction(fn) || this.#requiredBits(fn);
    }
  }

  #requiredBits(fn: PciFunction): boolean {
    const acs = this.acsOf(fn);
    if (acs === undefined) return false;
    // A bit that cannot be switched counts as hard wired on.
    const wanted = ISOLATION & acs.supported;
    return (acs.enabled & wanted) === wanted;
  }

  #isMultifunction(fn: PciFunction): boolean {
    // The kernel goes by a virtual function's header alone, whatever its number (drivers/pci/iov.c); it is no part of a
    // device with the functions beside it.
    if (fn.physicalFunction !== undefined) return fn.multifunction === true;
    return fn.multifunction === true || splitAddress(fn.address).function > 0 || this.deviceOf(fn).length > 1;
  }
}

/** Whether the DMA below a bridge carries the bridge's requester id: a conventional PCI bridge, or one to PCI. */
function takesOverRequesterId(bridge: PciFunction): boolean {
  const type = bridge.express?.type;
  return type !== "root-port" && type !== "upstream-port" && type !== "downstream-port";
}

/** Capabilities are read by root only. A function that shows none at all may have every one. */
function wasRead(fn: PciFunction): boolean {
  return fn.express !== undefined || fn.acs !== undefined || fn.capabilities.length > 0;
}

const READ_ALL = "read the whole machine: linkfence ... --live as root, or lspci -vvv of all functions";

/** Firmware's segments have 16 bits. Domains above are those that Linux makes for Intel VMD (drivers/pci/controller/vmd.c). */
const LAST_SEGMENT = 0xffff;

/** To the IOMMU everything behind a VMD is the VMD itself (arch/x86/pci/common.c `pci_real_dma_dev`). */
function joinVmd(fn: PciFunction, first: Map<string, PciFunction>, joins: PcieJoin[]): void {
  const domain = fn.address.slice(0, fn.address.indexOf(":"));
  const other = first.get(domain);
  if (other === undefined) {
    first.set(domain, fn);
    return;
  }
  const reason = `domain ${domain} lies behind a VMD, whose requester id all of it carries`;
  joins.push({ a: other.address, b: fn.address, reason, action: null, certain: true });
}

function joinPathless(fn: PciFunction, pathless: Map<string, PciFunction>, joins: PcieJoin[]): void {
  const domain = fn.address.slice(0, fn.address.indexOf(":"));
  const first = pathless.get(domain);
  if (first === undefined) {
    pathless.set(domain, fn);
    return;
  }
  const reason = "the bridges above them are not known, so nothing shows that PCIe separates them";
  joins.push({ a: first.address, b: fn.address, reason, action: READ_ALL, certain: false });
}

function siblingJoin(fn: PciFunction, sibling: PciFunction): PcieJoin {
  // One side with ACS is enough: the kernel joins two functions only when both lack it.
  const settings = [fn, sibling].flatMap((one) => configAcs(one) ?? []);
  const action = settings.length > 0 ? enableAcs(settings) : null;
  const reason = `functions of one device ${action === null ? "without ACS" : "with ACS switched off"}`;
  return { a: fn.address, b: sibling.address, reason, action, certain: wasRead(fn) && wasRead(sibling) };
}

/** Domain, bus and device: what the functions of one device share. */
function deviceAddress(fn: PciFunction): string {
  return fn.address.slice(0, -2);
}

function devicesOf(functions: readonly PciFunction[]): Map<string, PciFunction[]> {
  const devices = new Map<string, PciFunction[]>();
  for (const fn of functions) {
    const device = devices.get(deviceAddress(fn));
    if (device === undefined) devices.set(deviceAddress(fn), [fn]);
    else device.push(fn);
  }
  return devices;
}

function describePort(fn: PciFunction): string {
  const names: Partial<Record<string, string>> = {
    "root-port": "root port",
    "upstream-port": "switch upstream port",
    "downstream-port": "switch downstream port",
  };
  return `${names[fn.express?.type ?? ""] ?? "bridge"} ${fn.address}`;
}
