import { cells } from "../../devicetree/property.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";
import type { PciAddress } from "../../pci/address.js";
import type { FarEnd, Gpu, Link } from "../machine.js";
import type { BridgeNode, GpuNode, Scene } from "./scene.js";

/** Most links of any NVIDIA GPU to date is 18; more cells than this on a part of unknown size are not believed. */
const MAX_LINKS = 32;

/**
 * Reads the links of all GPUs from `ibm,nvlink-peers`, cell n for link n. What the tree does not say, or says
 * inconsistently, becomes a far end that is not known. Firmware leaves all links up.
 */
export function readLinks(
  gpus: ReadonlyMap<DeviceTreeNode, GpuNode>,
  bridges: ReadonlyMap<DeviceTreeNode, BridgeNode>,
  scene: Scene,
): void {
  const addresses = new Map([...gpus].map(([node, { gpu }]) => [node, gpu.address]));
  for (const entry of gpus.values()) entry.gpu.links = gpuLinks(entry, addresses, bridges, scene);
  pairLinks(
    [...gpus.values()].map(({ gpu }) => gpu),
    scene,
  );
}

function gpuLinks(
  { pci, gpu, linkCount }: GpuNode,
  addresses: ReadonlyMap<DeviceTreeNode, PciAddress>,
  bridges: ReadonlyMap<DeviceTreeNode, BridgeNode>,
  scene: Scene,
): Link[] {
  const { notes, origin } = scene;
  const peers = notes.read(pci.path, () => cells(pci.node, "ibm,nvlink-peers"));
  if (peers === undefined) return linksUntold(gpu, linkCount, scene);
  const count = linkCount ?? Math.min(peers.length, MAX_LINKS);
  if (peers.length !== count) {
    const reason = `ibm,nvlink-peers has ${peers.length} cells, and the GPU has ${linkCount ?? `at most ${count}`} links`;
    notes.add(
      `the links of ${gpu.name}: ${reason}`,
      [gpu.address],
      "Links without a cell are cut; surplus cells are ignored.",
    );
  }
  const lost: number[] = [];
  const links = Array.from({ length: count }, (_, number): Link => {
    const phandle = peers[number];
    const far = phandle === undefined ? UNKNOWN : farEnd(phandle, gpu, addresses, bridges, scene);
    if (phandle !== undefined && far.kind === "unknown") lost.push(number);
    return { number, far, state: stateOf(far), origin };
  });
  if (lost.length > 0) {
    const what = `where link${lost.length > 1 ? "s" : ""} ${lost.join(", ")} of ${gpu.name} lead: `;
    notes.add(`${what}ibm,nvlink-peers names no other GPU and no bridge of this one`, [gpu.address]);
  }
  return links;
}

const UNKNOWN: FarEnd = { kind: "unknown" };

function stateOf(far: FarEnd): Link["state"] {
  return far.kind === "none" ? "down" : far.kind === "unknown" ? "unknown" : "up";
}

function farEnd(
  phandle: number,
  gpu: Gpu,
  addresses: ReadonlyMap<DeviceTreeNode, PciAddress>,
  bridges: ReadonlyMap<DeviceTreeNode, BridgeNode>,
  { byPhandle }: Scene,
): FarEnd {
  if (phandle === 0) return { kind: "none" };
  const target = byPhandle.get(phandle)?.node;
  const peer = target && addresses.get(target);
  if (peer !== undefined) return peer === gpu.address ? UNKNOWN : { kind: "gpu", gpu: peer };
  const bridge = (target && bridges.get(target))?.bridge;
  if (bridge === undefined) return UNKNOWN;
  // A bridge that is not this GPU's own is not known to be its way to the CPU.
  return gpu.bridges.includes(bridge.address) ? { kind: "bridge", bridge: bridge.address } : UNKNOWN;
}

/** Links of a GPU without `ibm,nvlink-peers`, as older firmware leaves it. */
function linksUntold(gpu: Gpu, linkCount: number | undefined, { notes, origin }: Scene): Link[] {
  if (gpu.nvlink === "none") return [];
  const bridges = gpu.bridges.length;
  const known = bridges > 0 ? ` (${bridges} of them lead to NPU bridges, it is not told which)` : "";
  notes.add(
    `where the links of ${gpu.name} lead: it has no usable ibm,nvlink-peers${known}`,
    [gpu.address],
    "Update the firmware, or give the link table of nvidia-smi nvlink -p.",
  );
  return Array.from({ length: linkCount ?? 0 }, (_, number) => ({ number, far: UNKNOWN, state: "unknown", origin }));
}

/** Numbers the far ends between GPUs: in ascending order on both sides, since no tree says which two meet. */
function pairLinks(gpus: readonly Gpu[], { notes }: Scene): void {
  const byPair = new Map<string, Link[]>();
  for (const gpu of gpus) {
    for (const link of gpu.links) {
      if (link.far.kind !== "gpu") continue;
      const key = `${gpu.address} ${link.far.gpu}`;
      const ends = byPair.get(key);
      if (ends === undefined) byPair.set(key, [link]);
      else ends.push(link);
    }
  }
  const names = new Map(gpus.map(({ address, name }) => [address, name]));
  for (const [key, ends] of byPair) {
    const [from = "", to = ""] = key.split(" ");
    const back = byPair.get(`${to} ${from}`) ?? [];
    for (const [place, link] of ends.entries()) {
      const far = back[place];
      if (link.far.kind === "gpu" && far !== undefined) link.far = { ...link.far, link: far.number };
      if (ends.length > 1 || back.length !== ends.length) link.assumed = true;
    }
    if (ends.length > back.length) {
      const what = `which links of ${names.get(to)} meet those of ${names.get(from)}`;
      notes.add(`${what}: ${names.get(from)} lists ${ends.length}, ${names.get(to)} lists ${back.length}`, [from, to]);
    }
  }
}
