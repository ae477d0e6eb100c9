import { readdirSync, readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { PciAddress } from "../pci/address.js";
import { type DeviceFile, deviceFilesOf } from "./device_files.js";
import { FunctionFolder } from "./function_folder.js";
import { holdersOf } from "./open_files.js";
import { printable } from "./printable.js";

/**
 * What the host uses a function for at this moment, a line each; nothing of a function that is free to be taken. Looks
 * only. Whether a process has it open is known of those that the caller may look into: of all, for root.
 * @param root the folder above `sys` and `proc`; another than `/` is for tests
 */
export function hostUses(address: PciAddress, root = "/"): string[] {
  const folder = new FunctionFolder(address, root);
  const devices = deviceFilesOf(folder);
  return [
    ...diskUses(devices, root),
    ...displayUses(folder),
    ...networkUses(folder),
    ...holdersOf(devices, root).map(({ pid, name, device }) => `process ${pid} (${name}) has /dev/${device.name} open`),
  ];
}

/** The processes that have the function's VFIO group or device open, `345 (qemu)`; each opening and closing resets it. */
export function vfioHolders(address: PciAddress, root = "/"): string[] {
  const folder = new FunctionFolder(address, root);
  if (folder.link("driver") !== "vfio-pci") return [];
  const holders = holdersOf(deviceFilesOf(folder), root);
  return [...new Set(holders.map(({ pid, name }) => `${pid} (${name})`))];
}

function diskUses(devices: readonly DeviceFile[], root: string): string[] {
  const disks = devices.filter(({ kind }) => kind === "block");
  if (disks.length === 0) return [];
  const mounts = mountsOf(root);
  const swaps = swapsOf(root);
  return disks.flatMap(({ name, numbers, folder }) => {
    const mounted = mounts.filter((mount) => mount.numbers === numbers || mount.source === `/dev/${name}`);
    const places = [...new Set(mounted.map(({ place }) => place))];
    const holders = folder === undefined ? [] : namesIn(join(folder, "holders"));
    return [
      ...places.map((place) => `disk ${name} is mounted at ${place}`),
      ...(swaps.has(`/dev/${name}`) ? [`the host swaps to ${name}`] : []),
      ...holders.map((holder) => `disk ${name} is part of ${printable(holder)}`),
    ];
  });
}

/** What is mounted from a device (proc(5), mountinfo): a file system of several names one in its source only. */
function mountsOf(root: string): { numbers: string; source: string; place: string }[] {
  return linesOf(join(root, "proc/self/mountinfo")).flatMap((line) => {
    const [fixed = "", rest = ""] = line.split(" - ");
    const [, , numbers = "", , place = ""] = fixed.split(" ");
    return [{ numbers, source: rest.split(" ")[1] ?? "", place: printable(place) }];
  });
}

function swapsOf(root: string): Set<string> {
  return new Set(linesOf(join(root, "proc/swaps")).map((line) => line.split(/\s/)[0] ?? ""));
}

function displayUses(folder: FunctionFolder): string[] {
  const framebuffers = folder.list("graphics").filter((name) => /^fb\d+$/.test(name));
  return [
    ...framebuffers.map((name) => `the host's console may be on ${name}`),
    ...(folder.read("boot_vga") === "1" ? ["it is the display that the host booted with"] : []),
  ];
}

function networkUses(folder: FunctionFolder): string[] {
  return interfacesOf(folder).flatMap(({ name, path }) => {
    const above = folder.list(path).filter((entry) => entry.startsWith("upper_"));
    return [
      ...(hasAddress(name, folder.root) ? [`network interface ${name} has an address`] : []),
      ...above.map((upper) => `network interface ${name} is part of ${upper.slice("upper_".length)}`),
    ];
  });
}

/** Those of a virtio function lie one folder deeper. */
function interfacesOf(folder: FunctionFolder): { name: string; path: string }[] {
  const places = ["net", ...folder.list(".").flatMap((name) => (/^virtio\d+$/.test(name) ? [`${name}/net`] : []))];
  return places.flatMap((place) => folder.list(place).map((name) => ({ name, path: `${place}/${name}` })));
}

/** An interface with an address has a route to its own network, also while its cable is out. */
function hasAddress(name: string, root: string): boolean {
  const routes = linesOf(join(root, "proc/net/route")).map((line) => line.split("\t")[0]);
  const addresses = linesOf(join(root, "proc/net/if_inet6")).map((line) => line.split(" ").at(-1));
  if (routes.includes(name) || addresses.includes(name)) return true;
  return root === "/" && networkInterfaces()[name] !== undefined;
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
  } catch {
    return [];
  }
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
