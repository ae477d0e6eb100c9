import { basename, resolve } from "node:path";
import type { Kernel, Machine, Unknown } from "../machine/machine.js";
import { HostError } from "./error.js";
import { addDeviceTree, deviceTreeFolder, isPlatform } from "./host_device_tree.js";
import { readGpus } from "./host_gpus.js";
import { Failure, HostRoot } from "./host_root.js";
import { readIommuGroups } from "./iommu_groups.js";
import { readPciFunctions } from "./pci_sysfs.js";
import { printable } from "./printable.js";

/**
 * Reads a Linux host from its `/sys` and `/proc`: the running one (`/`), or a copy or imitation below a directory, out of
 * which no link is followed. Reads only. Whatever cannot be read is an entry of the machine's `unknown`.
 * @throws HostError `EHOST` when the directory is not there, or has no `sys` in it (`/` without one is an empty machine).
 */
export function readHost(directory: string): Machine {
  const root = new HostRoot(directory);
  const noSys = root.list("sys") instanceof Failure;
  if (noSys && !root.live) {
    const where = printable(directory);
    throw new HostError(
      "EHOST",
      `${where} is no root of a Linux host: it holds no readable directory sys (give the folder above sys)`,
    );
  }
  const pci = readPciFunctions(root);
  const groups = readIommuGroups(root, pci.folders);
  const kernel = readKernel(root);
  const tree = deviceTreeFolder(root);
  const platform = platformOf(root, tree);
  const machine: Machine = {
    name: nameOf(root, directory),
    virtual: false,
    platform,
    source: root.live ? "live host" : `sysfs ${printable(directory)}`,
    ...(kernel.kernel === undefined ? {} : { kernel: kernel.kernel }),
    functions: pci.functions,
    ...(groups.groups === undefined ? {} : { groups: groups.groups }),
    gpus: readGpus(root, pci),
    bridges: [],
    memory: [],
    unknown: [...pci.unknown, ...groups.unknown, ...kernel.unknown],
  };
  return tree !== undefined && platform === "powernv" ? addDeviceTree(machine, root, tree) : machine;
}

/** The host's own name for the running one, the directory's for another. */
function nameOf(root: HostRoot, directory: string): string {
  if (!root.live) return printable(basename(resolve(directory)));
  for (const path of ["proc/sys/kernel/hostname", "etc/hostname"]) {
    const name = root.text(path);
    if (!(name instanceof Failure) && name !== "") return printable(name);
  }
  return "localhost";
}

/** x86 has ACPI or DMI tables and no device tree; of the running host its own programs know the architecture. */
function platformOf(root: HostRoot, tree: string | undefined): Machine["platform"] {
  if (tree !== undefined) return isPlatform(root, tree, "ibm,powernv") ? "powernv" : "unknown";
  if (root.live && process.arch === "x64") return "pc";
  return root.has("sys/firmware/acpi") || root.has("sys/firmware/dmi") ? "pc" : "unknown";
}

function readKernel(root: HostRoot): { kernel?: Kernel; unknown: Unknown[] } {
  const kernel: Kernel = {};
  const release = readRelease(root);
  if (release !== undefined) kernel.release = release;
  const commandLine = root.text("proc/cmdline");
  if (!(commandLine instanceof Failure)) kernel.commandLine = printable(commandLine);
  const unknown = commandLine instanceof Failure ? [noCommandLine(root, commandLine)] : [];
  return Object.keys(kernel).length > 0 ? { kernel, unknown } : { unknown };
}

function readRelease(root: HostRoot): string | undefined {
  const release = root.text("proc/sys/kernel/osrelease");
  if (!(release instanceof Failure) && release !== "") return printable(release);
  const version = root.text("proc/version");
  if (version instanceof Failure) return undefined;
  const [, named] = /^Linux version (\S+)/.exec(version) ?? [];
  return named === undefined ? undefined : printable(named);
}

function noCommandLine(root: HostRoot, { errno }: Failure): Unknown {
  return {
    what: `kernel parameters that change groups (isolate_nvlink, pcie_acs_override): /proc/cmdline cannot be read (${errno})`,
    functions: [],
    action: root.live ? "mount /proc" : "copy /proc/cmdline too",
  };
}
