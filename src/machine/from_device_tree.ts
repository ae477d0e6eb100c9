import { findNode, walk } from "../devicetree/path.js";
import { phandleIndex } from "../devicetree/phandle.js";
import { text, texts } from "../devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../devicetree/tree.js";
import { needsProbe, probeNvlink, witherspoonBoard } from "./firmware.js";
import { bridgeNodes, claimBridges, isBridge } from "./from_device_tree/bridges.js";
import { isCompatible } from "./from_device_tree/compatible.js";
import { readLinks } from "./from_device_tree/links.js";
import { coherentMemory, withoutOverlaps } from "./from_device_tree/memory.js";
import { nameGpus } from "./from_device_tree/names.js";
import { Notes } from "./from_device_tree/notes.js";
import { type PciNode, pciNodes } from "./from_device_tree/pci.js";
import type { BridgeNode, GpuNode, Scene } from "./from_device_tree/scene.js";
import { identifyGpu } from "./gpu_part.js";
import type { CoherentMemory, Kernel, Machine } from "./machine.js";
import { partFacts } from "./part.js";

/**
 * The machine that a device tree describes. An AC922's tree from before PCI was probed is completed first, as the
 * firmware would ({@link probeNvlink}); what is derived so has the origin `firmware`. Damage in the tree is listed among
 * the machine's unknowns, and what it hides is never taken for isolated. IOMMU groups are not in a device tree: `groups`
 * is absent. `virtual` is set: whoever reads the tree of the machine they run on clears it.
 * @param source what the tree is, for a person: `device tree op920.wsp.dtb`
 * @throws MachineError EMACHINE when a tree from before the probe cannot be completed.
 * @throws DeviceTreeError EFDT_DUPLICATE_PHANDLE or EFDT_PHANDLE when phandles are malformed, EFDT_VALUE when a property
 * that the completion needs is.
 */
export function machineFromDeviceTree(tree: DeviceTree, source: string): Machine {
  const notes = new Notes();
  const probed = needsProbe(tree);
  const full = probeNvlink(tree);
  const nodes = pciNodes(full, notes);
  const scene: Scene = {
    byPhandle: phandleIndex(full),
    functions: new Map(nodes.map((pci) => [pci.node, pci])),
    origin: probed ? "firmware" : "device-tree",
    notes,
  };
  const bridges = bridgeNodes(nodes, scene);
  const gpus = gpuNodes(nodes, scene);
  const gpuList = [...gpus.values()];
  claimBridges(gpuList, bridges, scene);
  nameGpus(gpuList, [...bridges.values()], notes);
  readLinks(gpus, bridges, scene);
  noteProbe(full, probed, bridges.size, notes);
  const kernel = readKernel(tree, notes);
  return {
    name: machineName(tree, notes),
    virtual: true,
    platform: isCompatible(tree.root, "ibm,powernv") || nodes.some(({ host }) => host.npu) ? "powernv" : "unknown",
    source,
    ...(kernel && { kernel }),
    functions: nodes.map(({ fn }) => fn),
    gpus: gpuList.map(({ gpu }) => gpu),
    bridges: [...bridges.values()].map(({ bridge }) => bridge),
    memory: readMemory(gpuList, bridges, scene),
    unknown: notes.unknown,
  };
}

/** The GPUs: functions known as such, and those that NVLink properties make one. */
function gpuNodes(nodes: readonly PciNode[], { origin, notes }: Scene): Map<DeviceTreeNode, GpuNode> {
  const gpus = new Map<DeviceTreeNode, GpuNode>();
  for (const pci of nodes) {
    const { node, fn } = pci;
    const linked = node.properties.has("ibm,npu") || node.properties.has("ibm,nvlink-peers");
    if (isBridge(pci)) continue;
    if (linked) nameByLinks(pci, notes);
    const known = identifyGpu(fn);
    if (known === undefined && !linked) continue;
    const part = known?.part ?? "unknown";
    const linkCount = known?.linkCount ?? partFacts(part)?.links;
    gpus.set(node, {
      pci,
      gpu: {
        address: fn.address,
        name: fn.address,
        part,
        nvlink: linked ? "present" : (known?.nvlink ?? "unknown"),
        links: [],
        bridges: [],
        origin,
      },
      ...(linkCount !== undefined && { linkCount }),
    });
  }
  return gpus;
}

/**
 * A GPU without any id is named by its links: `ibm,nvlink-peers` is of NVLink2 on POWER9, and the only GPU with six links
 * there is the V100. A fence checks the chip itself before it writes.
 */
function nameByLinks({ node, path, fn }: PciNode, notes: Notes): void {
  if (fn.vendorId !== undefined || fn.deviceId !== undefined) return;
  if (node.properties.get("ibm,nvlink-peers")?.length !== 4 * (partFacts("GV100")?.links ?? 0)) return;
  fn.name ??= "NVIDIA GV100";
  notes.add(
    `which part the GPU ${fn.address} is: ${path} has no vendor-id and no device-id; its six links make it a V100`,
    [fn.address],
  );
}

/** Each GPU's memory, by its first bridge. POWER8's GPUs have bridges and no memory that the CPU could address. */
function readMemory(
  gpus: readonly GpuNode[],
  bridges: ReadonlyMap<DeviceTreeNode, BridgeNode>,
  scene: Scene,
): CoherentMemory[] {
  const byAddress = new Map([...bridges.values()].map((bridge) => [bridge.bridge.address, bridge]));
  const windows = gpus.flatMap(({ gpu }) => {
    const [first] = gpu.bridges;
    const bridge = first === undefined ? undefined : byAddress.get(first);
    if (bridge === undefined || gpu.part === "GP100") return [];
    return coherentMemory(gpu.address, bridge, scene) ?? [];
  });
  return withoutOverlaps(windows, scene);
}

/** Says what a tree from before the probe cannot tell. */
function noteProbe(tree: DeviceTree, probed: boolean, bridges: number, notes: Notes): void {
  if (probed) {
    notes.add(
      "which GPUs are in the slots: the tree is from before PCI was probed, and a V100 in each labelled slot is assumed",
      [],
      "Give the tree of the running machine (/proc/device-tree) to see its own.",
    );
    return;
  }
  if (bridges > 0) return;
  for (const { node, path } of walk(tree.root)) {
    if (!isCompatible(node, "ibm,npu-link")) continue;
    notes.add(
      `what hangs at the NPU links (${path} and others): the tree is from before PCI was probed, on an unknown board`,
    );
    return;
  }
}

function readKernel(tree: DeviceTree, notes: Notes): Kernel | undefined {
  const chosen = findNode(tree.root, "/chosen");
  const commandLine = chosen && notes.read("/chosen", () => text(chosen, "bootargs"));
  return commandLine === undefined ? undefined : { commandLine };
}

function machineName(tree: DeviceTree, notes: Notes): string {
  const { root } = tree;
  const model = notes.read("/", () => text(root, "model"));
  const compatible = notes.read("/", () => texts(root, "compatible"))?.[0];
  return witherspoonBoard(tree) ?? (model || compatible || "device tree");
}
