import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import type { FunctionFolder } from "./function_folder.js";

/** A character or block device that a driver made of a function, whoever has a file for it. */
export interface DeviceFile {
  kind: "block" | "character";
  /** The kernel's name: `nvme0n1p1`. */
  name: string;
  /** Major and minor number, `259:1`. */
  numbers: string;
  /** Its folder in sysfs; none of a device that sysfs does not show. */
  folder?: string;
}

/** `drivers/` and ports below are others' business; devices lie a few folders below their function. */
const MOST_DEPTH = 8;

/** The devices that a function's driver made, those of its VFIO group or VFIO device among them. */
export function deviceFilesOf(folder: FunctionFolder): DeviceFile[] {
  const found = devicesBelow(folder.path, MOST_DEPTH);
  const heads = found.flatMap(({ name }) => headOf(folder.root, name));
  return [...found, ...heads, ...nvidiaDevice(folder), ...vfioGroup(folder)];
}

/** Whether an entry is a PCI function: what is below a port is not the port's. */
function isFunction(name: string): boolean {
  return /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(name);
}

function devicesBelow(path: string, depth: number): DeviceFile[] {
  if (depth === 0) return [];
  const own = deviceAt(path);
  const folders = foldersIn(path).filter((name) => !isFunction(name));
  return [...(own === undefined ? [] : [own]), ...folders.flatMap((name) => devicesBelow(join(path, name), depth - 1))];
}

/** Links lead elsewhere, and back. */
function foldersIn(path: string): string[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return [];
  }
}

function deviceAt(path: string): DeviceFile | undefined {
  const numbers = textOf(join(path, "dev"));
  if (numbers === undefined || !/^\d+:\d+$/.test(numbers)) return undefined;
  const kind = subsystemOf(path) === "block" ? "block" : "character";
  return { kind, name: basename(path), numbers, folder: path };
}

function subsystemOf(path: string): string | undefined {
  try {
    return basename(readlinkSync(join(path, "subsystem")));
  } catch {
    return undefined;
  }
}

/** A path of an NVMe disk with several has its disk elsewhere (drivers/nvme/host/multipath.c). */
function headOf(root: string, name: string): DeviceFile[] {
  const [, subsystem, disk] = /^nvme(\d+)c\d+n(\d+)$/.exec(name) ?? [];
  if (subsystem === undefined) return [];
  return devicesBelow(join(root, "sys/class/block", `nvme${subsystem}n${disk}`), 2);
}

/** NVIDIA's driver makes device files that sysfs knows nothing of. */
function nvidiaDevice({ root, address }: FunctionFolder): DeviceFile[] {
  const text = textOf(join(root, "proc/driver/nvidia/gpus", address, "information"));
  const [, minor] = /^Device Minor:\s*(\d{1,3})\s*$/m.exec(text ?? "") ?? [];
  return minor === undefined
    ? []
    : [{ kind: "character", name: `nvidia${minor}`, numbers: `${NVIDIA_MAJOR}:${minor}` }];
}

const NVIDIA_MAJOR = 195;

/** Of a function that vfio-pci has, the group's file; that of a VFIO device (`vfio-dev/vfio0`) is found as any other. */
function vfioGroup(folder: FunctionFolder): DeviceFile[] {
  const group = folder.link("iommu_group");
  if (group === undefined || folder.link("driver") !== "vfio-pci") return [];
  const device = deviceAt(join(folder.root, "sys/class/vfio", group));
  return device === undefined ? [] : [{ ...device, kind: "character", name: `vfio/${group}` }];
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}
