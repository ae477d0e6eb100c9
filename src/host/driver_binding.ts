import { existsSync } from "node:fs";
import { join } from "node:path";
import type { PciAddress } from "../pci/address.js";
import { HostError } from "./error.js";
import { FunctionFolder } from "./function_folder.js";

/** What had a function before linkfence took it, to give it back. */
export interface FormerDriver {
  address: PciAddress;
  driver: string | null;
  /** `driver_override`: the only driver that the function is offered to; null when any that knows it may have it. */
  override: string | null;
  /** `power/control`: whether the kernel may suspend the function; null where it has none. */
  powerControl: "on" | "auto" | null;
}

const VFIO_PCI = "vfio-pci";
/** A driver that nobody has: a function with this override stays without one, whatever is loaded. */
const NOBODY = "linkfence";
/** What sysfs shows for an override that nobody has set, and what {@link unbind} has. */
const NO_OVERRIDES: ReadonlySet<string> = new Set(["(null)", "", NOBODY]);

/**
 * Who has a function now. Reads only.
 * @param root the folder above `sys`; another than `/` is for tests
 * @throws HostError `EGONE` when the kernel does not know it
 */
export function readBinding(address: PciAddress, root = "/"): FormerDriver {
  const folder = new FunctionFolder(address, root);
  folder.requireExists();
  const override = folder.read("driver_override");
  const power = folder.read("power/control");
  return {
    address,
    driver: folder.link("driver") ?? null,
    override: override === undefined || NO_OVERRIDES.has(override) ? null : override,
    powerControl: power === "on" || power === "auto" ? power : null,
  };
}

/**
 * Gives a function to vfio-pci, whoever has it, by `driver_override`, which concerns this function alone (`new_id` would
 * offer vfio-pci every function with the same ids). When that fails, everything is as it was, as far as the former driver
 * takes its function back.
 * @throws HostError `EBIND` with what is missing: vfio-pci, permission, an IOMMU; `EGONE`
 */
export function bindToVfio(address: PciAddress, root = "/"): void {
  const folder = new FunctionFolder(address, root);
  const former = readBinding(address, root);
  if (folder.link("iommu_group") === undefined) throw noGroup(address);
  requireDriver(folder, VFIO_PCI);
  if (former.driver === VFIO_PCI && former.override === VFIO_PCI) return;
  undoing(former, root, () => {
    if (former.driver === VFIO_PCI) folder.write("driver_override", VFIO_PCI, "EBIND");
    else move(folder, former.driver, VFIO_PCI);
  });
}

/**
 * Takes a function from its driver, and keeps all others from it until {@link giveBack}. When that fails, everything is
 * as it was. Returns when the driver has let go, which it does when nobody uses the function any more.
 * @throws HostError `EBIND`, `EGONE`
 */
export function unbind(address: PciAddress, root = "/"): void {
  const folder = new FunctionFolder(address, root);
  const former = readBinding(address, root);
  undoing(former, root, () => {
    folder.write("driver_override", NOBODY, "EBIND");
    if (former.driver !== null) folder.write("driver/unbind", address, "EBIND");
    const left = folder.link("driver");
    if (left !== undefined) throw new HostError("EBIND", `${left} does not let go of ${address}`);
  });
}

/**
 * Gives a function back to whom it had: the driver, the override, and whether it may be suspended.
 * @throws HostError `EBIND` when the driver is not there any more or does not take it, with the driver's name; `EGONE`
 */
export function giveBack(former: FormerDriver, root = "/"): void {
  const { address, driver, override, powerControl } = former;
  const folder = new FunctionFolder(address, root);
  folder.requireExists();
  const now = folder.link("driver") ?? null;
  try {
    if (driver !== null && now !== driver) {
      requireDriver(folder, driver);
      move(folder, now, driver);
    } else if (driver === null && now !== null) folder.write("driver/unbind", address, "EBIND");
  } finally {
    folder.write("driver_override", `${override ?? ""}\n`, "EBIND");
  }
  if (powerControl !== null) folder.write("power/control", powerControl, "EBIND");
}

/**
 * Moves a function from the driver that has it to another, which gets it also when it would not know it by its ids
 * (vfio-pci, uio_pci_generic). Nobody else is offered it in between.
 */
function move(folder: FunctionFolder, from: string | null, to: string): void {
  folder.write("driver_override", to, "EBIND");
  if (from !== null) folder.write("driver/unbind", folder.address, "EBIND");
  folder.writeBus("drivers_probe", folder.address, "EBIND");
  if (folder.link("driver") === to) return;
  throw new HostError("EBIND", `${to} does not take ${folder.address}; the kernel's log says why (dmesg)`);
}

/** @throws HostError `EBIND` when the driver is not loaded */
function requireDriver({ root }: FunctionFolder, driver: string): void {
  if (existsSync(join(root, "sys/bus/pci/drivers", driver))) return;
  throw new HostError("EBIND", `the driver ${driver} is not loaded: modprobe ${driver}`);
}

function noGroup(address: PciAddress): HostError {
  return new HostError(
    "EBIND",
    `${address} is in no IOMMU group, so vfio-pci cannot have it: switch the IOMMU on in the firmware's setup (VT-d, AMD-Vi) ` +
      "and boot with intel_iommu=on where it is Intel's",
  );
}

/** What is thrown says why it failed, not why undoing it did. */
function undoing(former: FormerDriver, root: string, act: () => void): void {
  try {
    act();
  } catch (error) {
    try {
      giveBack(former, root);
    } catch {
      // The function may be gone, or its driver refuse it: the first error is what led here.
    }
    throw error;
  }
}
