import type { Unknown } from "../machine/machine.js";
import { compareAddresses, type PciAddress } from "../pci/address.js";
import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE } from "../pci/config_space.js";
import { decodeFunction } from "../pci/decode_function.js";
import type { PciFunction } from "../pci/function.js";
import { Failure, type HostRoot } from "./host_root.js";
import { printable } from "./printable.js";
import { addResources, parseResources } from "./resource_file.js";
import { type Trouble, Troubles } from "./troubles.js";

const DEVICES = "sys/bus/pci/devices";
/** Seven lines of 57 bytes are all that is wanted of `resource`. */
const RESOURCE_LIMIT = 512;
const NUMBER_LIMIT = 32;
const MAX_NUMA_NODE = 65535;

/** What sysfs shows of PCI. */
export interface PciListing {
  /** In numeric order of the addresses. */
  functions: PciFunction[];
  /** The resolved folder of each function that has one. */
  folders: ReadonlyMap<PciAddress, string>;
  unknown: Unknown[];
}

/**
 * Reads every PCI function that sysfs shows. Seven file operations per function: the link that tells its place among
 * the bridges, `config`, `resource`, `numa_node`, `irq` and the links to its physical function and its driver.
 */
export function readPciFunctions(root: HostRoot): PciListing {
  const names = root.list(DEVICES);
  if (names instanceof Failure) return { functions: [], folders: new Map(), unknown: [noPci(names)] };
  const addresses = names.filter(isCanonical).sort(compareAddresses);
  const folders = locate(root, addresses);
  const troubles = new Troubles(addresses.length, root.live);
  const functions = addresses.map((address) => readFunction(root, address, folders, troubles));
  const unknown = troubles.asUnknown();
  const strange = names.length - addresses.length;
  if (strange > 0)
    unknown.push({ what: `${strange} entries of /${DEVICES} whose names are no addresses`, functions: [] });
  return { functions, folders, unknown };
}

/** Whether a name is an address as the kernel spells it: another spelling would be a second name of the same function. */
export function isCanonical(name: string): boolean {
  return CANONICAL.test(name);
}

const CANONICAL = /^(?:[0-9a-f]{4}|[1-9a-f][0-9a-f]{4,7}):[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

function noPci({ errno }: Failure): Unknown {
  return errno === "ENOENT"
    ? { what: `PCI functions: there is no /${DEVICES}, so this host has no PCI or does not show it`, functions: [] }
    : { what: `PCI functions: /${DEVICES} cannot be read (${errno})`, functions: [], action: "run as root" };
}

/** The last name of what a link leads to; undefined when there is no such link. */
function nameAt(link: string | Failure): string | undefined {
  return link instanceof Failure ? undefined : link.slice(link.lastIndexOf("/") + 1);
}

/** The folder of each function, where its link leads to one. */
function locate(root: HostRoot, addresses: readonly PciAddress[]): Map<PciAddress, string> {
  const folders = new Map<PciAddress, string>();
  const devices = root.resolve(DEVICES);
  if (devices instanceof Failure) return folders;
  for (const address of addresses) {
    const folder = root.follow(devices, address);
    if (!(folder instanceof Failure)) folders.set(address, folder);
  }
  return folders;
}

function readFunction(
  root: HostRoot,
  address: PciAddress,
  folders: ReadonlyMap<PciAddress, string>,
  troubles: Troubles,
): PciFunction {
  const folder = folders.get(address);
  if (folder === undefined) {
    troubles.add("gone", address);
    return { address, bars: [], capabilities: [] };
  }
  const report = (trouble: Trouble) => troubles.add(trouble, address);
  const fn = readConfig(root, address, folder, report);
  const parent = parentOf(address, folder, folders);
  if (parent !== undefined) fn.parent = parent;
  const physical = nameAt(root.link(`${folder}/physfn`));
  if (physical !== undefined && isCanonical(physical)) fn.physicalFunction = physical;
  readResources(root, folder, fn, report);
  const numaNode = readNumber(root, `${folder}/numa_node`, 10, report);
  if (numaNode !== undefined && numaNode >= 0 && numaNode <= MAX_NUMA_NODE) fn.numaNode = numaNode;
  const irq = readNumber(root, `${folder}/irq`, 10, report);
  // Unlike the register, 0 is certain here: the kernel has no interrupt for it.
  if (irq === 0) delete fn.irq;
  else if (irq !== undefined && irq > 0) fn.irq = irq;
  const driver = root.link(`${folder}/driver`);
  if (!(driver instanceof Failure)) fn.driver = printable(driver.slice(driver.lastIndexOf("/") + 1));
  else if (driver.errno !== "ENOENT") report("attribute");
  return fn;
}

function readConfig(
  root: HostRoot,
  address: PciAddress,
  folder: string,
  report: (trouble: Trouble) => void,
): PciFunction {
  const bytes = root.read(`${folder}/config`, EXTENDED_SIZE);
  const length = bytes instanceof Failure ? 0 : bytes.length;
  if (length < HEADER_SIZE) report("config");
  else if (length < CONVENTIONAL_SIZE) report("header-only");
  const fn: PciFunction =
    bytes instanceof Failure ? { address, bars: [], capabilities: [] } : decodeFunction(address, bytes);
  if (fn.vendorId !== undefined) return fn;
  if (length >= HEADER_SIZE && fn.headerType === undefined) report("silent");
  // A virtual function's own ids read all ones; the kernel knows it from its physical function.
  return withIds(root, folder, fn);
}

/** Adds the ids that the kernel shows in files of their own. */
function withIds(root: HostRoot, folder: string, fn: PciFunction): PciFunction {
  const read = (name: string, max: number) => {
    const value = readNumber(root, `${folder}/${name}`, 16, () => {});
    return value !== undefined && value >= 0 && value <= max ? value : undefined;
  };
  const ids = {
    vendorId: read("vendor", 0xffff),
    deviceId: read("device", 0xffff),
    subsystemVendorId: read("subsystem_vendor", 0xffff),
    subsystemId: read("subsystem_device", 0xffff),
    classCode: read("class", 0xffffff),
    revision: read("revision", 0xff),
  };
  return Object.assign(fn, Object.fromEntries(Object.entries(ids).filter(([, value]) => value !== undefined)));
}

function readResources(root: HostRoot, folder: string, fn: PciFunction, report: (trouble: Trouble) => void): void {
  const bytes = root.read(`${folder}/resource`, RESOURCE_LIMIT);
  if (bytes instanceof Failure) {
    report("resource");
    return;
  }
  const { resources, malformed } = parseResources(bytes.toString("latin1"));
  if (malformed.length > 0) report("resource");
  addResources(fn.bars, resources);
}

/**
 * The bridge above, by the folder's own path; null directly below a host bridge. A folder above that is not where that
 * function itself is says nothing, so that parents never go round in circles.
 */
function parentOf(
  address: PciAddress,
  folder: string,
  folders: ReadonlyMap<PciAddress, string>,
): PciAddress | null | undefined {
  if (!folder.startsWith("sys/devices/") || !folder.endsWith(`/${address}`)) return undefined;
  const aboveFolder = folder.slice(0, -address.length - 1);
  const above = aboveFolder.slice(aboveFolder.lastIndexOf("/") + 1);
  if (/^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(above)) return null;
  return folders.get(above) === aboveFolder ? above : undefined;
}

function readNumber(
  root: HostRoot,
  path: string,
  base: 10 | 16,
  report: (trouble: Trouble) => void,
): number | undefined {
  const bytes = root.read(path, NUMBER_LIMIT);
  if (bytes instanceof Failure) {
    if (bytes.errno !== "ENOENT") report("attribute");
    return undefined;
  }
  const value = Number.parseInt(bytes.toString("latin1"), base);
  return Number.isSafeInteger(value) ? value : undefined;
}
