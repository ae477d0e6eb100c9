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
}

/**
 * Which functions the kernel's rules join (drivers/iommu/iommu.c `pci_device_group`, drivers/pci/pci.c
 * `pci_acs_enabled`, drivers/pci/search.c `pci_for_each_dma_alias`): a function joins the bridge above it unless ACS
 * isolates every step from that bridge to the root, always joins a bridge that takes over its requester id, and joins
 * the other functions of its device when they lack ACS. A path that is not known isolates nothing.
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
  for (const fn of functions) {
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

/** What to do to switch ACS on at all these functions, or null when one of them cannot. */
function enableAcs(functions: readonly PciFunction[]): string | null {
  const settings = functions.map(configAcs);
  if (settings.length === 0 || settings.some((setting) => setting === null)) return null;
  return `enable ACS: boot with pci=config_acs=${settings.join(";")} (Linux 6.11 or later)`;
}

/** The bridges from one up to the root: those without the required ACS, lowest first, and whether the root was reached. */
interface PathUp {
  blockers: PciFunction[];
  reachesRoot: boolean;
}

/** A domain has 256 buses, so a longer path bites its own tail. */
const LONGEST_PATH = 256;

class Walk {
  readonly #paths = new Map<PciAddress, PathUp>();

  constructor(
    private readonly hierarchy: Hierarchy,
    private readonly acsOf: (fn: PciFunction) => Acs | undefined,
    private readonly deviceOf: (fn: PciFunction) => readonly PciFunction[],
  ) {}

  joinWithParent(fn: PciFunction, parent: PciFunction): PcieJoin | undefined {
    const alias = aliasAbove(parent);
    if (alias !== undefined) {
      const reason = `${alias.address} is a conventional PCI bridge and answers for everything behind it`;
      return { a: fn.address, b: alias.address, reason, action: null };
    }
    const { blockers, reachesRoot } = this.#pathUp(parent);
    const [blocker] = blockers;
    if (blocker === undefined) {
      if (reachesRoot) return undefined;
      return { a: fn.address, b: parent.address, reason: `what is above ${parent.address} is not known`, action: null };
    }
    const state = configAcs(blocker) === null ? "has no ACS" : "has ACS switched off";
    const action = reachesRoot ? enableAcs(blockers) : null;
    return { a: fn.address, b: parent.address, reason: `${describePort(blocker)} ${state}`, action };
  }

  /** The first sibling that neither isolates itself nor is isolated from: functions of one device may talk directly. */
  siblingWithoutAcs(fn: PciFunction): PciFunction | undefined {
    if (!this.#isMultifunction(fn) || this.#acsEnabled(fn)) return undefined;
    return this.deviceOf(fn).find((other) => other !== fn && !this.#acsEnabled(other));
  }

  #pathUp(start: PciFunction): PathUp {
    const known = this.#paths.get(start.address);
    if (known !== undefined) return known;
    const path: PathUp = { blockers: [], reachesRoot: false };
    let at: PciFunction | null | undefined = start;
    for (let length = 0; at !== null && at !== undefined && length < LONGEST_PATH; length++) {
      if (!this.#acsEnabled(at)) path.blockers.push(at);
      at = this.hierarchy.parent(at.address);
    }
    path.reachesRoot = at === null;
    this.#paths.set(start.address, path);
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
    return fn.multifunction === true || splitAddress(fn.address).function > 0 || this.deviceOf(fn).length > 1;
  }
}

/** The bridge whose requester id the DMA below it carries: a conventional PCI bridge, or one to PCI. */
function aliasAbove(bridge: PciFunction): PciFunction | undefined {
  const type = bridge.express?.type;
  return type === "root-port" || type === "upstream-port" || type === "downstream-port" ? undefined : bridge;
}

function joinPathless(fn: PciFunction, pathless: Map<string, PciFunction>, joins: PcieJoin[]): void {
  const domain = fn.address.slice(0, fn.address.indexOf(":"));
  const first = pathless.get(domain);
  if (first === undefined) {
    pathless.set(domain, fn);
    return;
  }
  const reason = "the bridges above them are not known, so nothing shows that PCIe separates them";
  const action = "read the whole machine: linkfence ... --live as root, or lspci -vvv of all functions";
  joins.push({ a: first.address, b: fn.address, reason, action });
}

function siblingJoin(fn: PciFunction, sibling: PciFunction): PcieJoin {
  // One side with ACS is enough: the kernel joins two functions only when both lack it.
  const action = enableAcs([fn, sibling].filter((one) => configAcs(one) !== null));
  const reason = `functions of one device ${action === null ? "without ACS" : "with ACS switched off"}`;
  return { a: fn.address, b: sibling.address, reason, action };
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
