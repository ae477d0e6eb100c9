import { DeviceTreeError } from "../devicetree/error.js";
import { MachineError } from "../machine/error.js";
import { machineFromDeviceTree } from "../machine/from_device_tree.js";
import type { Gpu, Machine, Unknown } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { readDeviceTreeDirectory } from "./device_tree_directory.js";
import { Failure, type HostRoot } from "./host_root.js";

/** `/proc/device-tree` is a link to the first on every kernel since 3.18. */
const PLACES = ["sys/firmware/devicetree/base", "proc/device-tree"];

/** Where the host has its device tree, as a resolved path; undefined when it has none. */
export function deviceTreeFolder(root: HostRoot): string | undefined {
  for (const place of PLACES) {
    const folder = root.resolve(place);
    if (!(folder instanceof Failure) && root.has(`${folder}/compatible`)) return folder;
  }
  return undefined;
}

/** Whether the root of the device tree is compatible with a platform. */
export function isPlatform(root: HostRoot, folder: string, platform: string): boolean {
  const compatible = root.text(`${folder}/compatible`);
  return !(compatible instanceof Failure) && compatible.split("\0").includes(platform);
}

/**
 * Adds to a machine read from sysfs what the powernv device tree says of its GPUs: labels, links, NPU bridges, coherent
 * memory. What the tree has and Linux does not show is noted; a tree that cannot be read leaves the machine as it was.
 */
export function addDeviceTree(machine: Machine, root: HostRoot, folder: string): Machine {
  let tree: Machine;
  const unreadable: Unknown[] = [];
  try {
    const directory = readDeviceTreeDirectory(root.outside(folder));
    tree = machineFromDeviceTree(directory, "device tree");
    if (directory.unreadable.length > 0) {
      const what = `${directory.unreadable.length} entries of the device tree, the first ${directory.unreadable[0]}`;
      unreadable.push({ what, functions: [], action: "run as root" });
    }
  } catch (error) {
    if (!(error instanceof DeviceTreeError || error instanceof MachineError)) throw error;
    const what = `links, NPU bridges and GPU memory from the device tree: ${error.message}`;
    return { ...machine, unknown: [...machine.unknown, { what, functions: [] }] };
  }
  return merge(machine, tree, unreadable);
}

/** Takes links, bridges and memory of one machine into another by the addresses of its functions. */
export function merge(machine: Machine, tree: Machine, notes: readonly Unknown[]): Machine {
  const shown = new Set(machine.functions.map((fn) => fn.address));
  const fromTree = new Map(tree.gpus.map((gpu) => [gpu.address, gpu]));
  const labels = new Set(tree.gpus.map((gpu) => gpu.name));
  const gpus = machine.gpus.map((gpu) => mergeGpu(gpu, fromTree.get(gpu.address), labels));
  const known = new Set(gpus.map((gpu) => gpu.address));
  gpus.push(...tree.gpus.filter(({ address }) => shown.has(address) && !known.has(address)));
  return {
    ...machine,
    gpus,
    bridges: tree.bridges,
    memory: tree.memory.filter(({ gpu }) => shown.has(gpu)),
    unknown: [...machine.unknown, ...notes, ...tree.unknown, ...notShown(tree, shown)],
    ...(tree.disagreements === undefined ? {} : { disagreements: tree.disagreements }),
  };
}

function mergeGpu(own: Gpu, tree: Gpu | undefined, labels: ReadonlySet<string>): Gpu {
  // A label of the tree's names that GPU and no other.
  if (tree === undefined) return labels.has(own.name) ? { ...own, name: own.address } : own;
  return {
    ...tree,
    part: own.part === "unknown" ? tree.part : own.part,
    nvlink: tree.links.length > 0 ? "present" : own.nvlink,
    links: tree.links.length > 0 ? tree.links : own.links,
  };
}

function notShown(tree: Machine, shown: ReadonlySet<PciAddress>): Unknown[] {
  const gpus = tree.gpus.filter(({ address }) => !shown.has(address));
  const bridges = tree.bridges.filter(({ address }) => !shown.has(address));
  const notes: Unknown[] = gpus.map(({ name, address }) => ({
    what: `state of ${name === address ? "the GPU" : name} at ${address}: the device tree has it, Linux shows no such function`,
    functions: [],
    action: "rescan the bus, or read the log for why it is gone",
  }));
  if (bridges.length > 0) {
    notes.push({
      what: `the CPU's ends of ${bridges.length} links: the device tree has NPU bridges that Linux does not show (NPU support was removed in Linux 5.13)`,
      functions: [],
    });
  }
  return notes;
}
