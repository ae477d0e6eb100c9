import { compareAddresses, type PciAddress } from "../../pci/address.js";
import type { Machine, Part } from "../machine.js";
import { partFacts } from "../part.js";
import type { NvlinkGpu } from "./nvlink.js";

/** Which of the machine's GPUs is meant by which number of nvidia-smi, or why nobody can tell. */
export type GpuNumbering =
  | { addresses: ReadonlyMap<number, PciAddress> }
  | { problem: string; functions: PciAddress[] };

/**
 * nvidia-smi numbers the GPUs that its driver drives in PCI bus order and does not print their addresses here. The
 * numbering is taken as certain when it lists as many GPUs as the driver has (where drivers are known), or else when the
 * far ends that it names are as many GPUs as it lists and each pair says the same from both ends. Either way it is
 * refused when a GPU would be linked to itself, has another product name or fewer links than its part.
 */
export function numberGpus(
  machine: Machine,
  nvlink: readonly NvlinkGpu[],
  matrixGpus: readonly number[],
): GpuNumbering {
  const listed = [...new Set([...nvlink.map(({ index }) => index), ...matrixGpus])].sort((a, b) => a - b);
  const driven = drivenGpus(machine);
  if (listed.every((index, position) => index === position)) {
    for (const candidate of [driven, namedGpus(machine, nvlink)]) {
      if (candidate.length !== listed.length) continue;
      const addresses = new Map(candidate.map((address, index) => [index, address]));
      if (candidate !== driven && !saysTheSameFromBothEnds(nvlink, addresses)) continue;
      if (nvlink.every((gpu) => isCredible(machine, gpu, addresses.get(gpu.index)))) return { addresses };
    }
  }
  const mismatch =
    listed.length === driven.length
      ? "what it says fits none of the machine's in PCI bus order"
      : `it lists ${listed.length}, and there are ${driven.length} that it can mean`;
  const problem = `which GPUs nvidia-smi means: ${mismatch}`;
  return { problem, functions: driven };
}

/** NVIDIA's GPUs bound to its driver; all of them when no driver is known. */
function drivenGpus(machine: Machine): PciAddress[] {
  const gpus = new Set(machine.gpus.map(({ address }) => address));
  const isDisplay = (classCode: number | undefined) => classCode !== undefined && classCode >>> 16 === 0x03;
  const functions = machine.functions.filter(
    ({ address, vendorId, classCode }) => gpus.has(address) || (vendorId === 0x10de && isDisplay(classCode)),
  );
  const driven = functions.filter(({ driver }) => driver === "nvidia");
  const chosen = (driven.length > 0 ? driven : functions).map(({ address }) => address);
  return chosen.sort(compareAddresses);
}

/** The machine's GPUs that are named as a far end. */
function namedGpus(machine: Machine, nvlink: readonly NvlinkGpu[]): PciAddress[] {
  const named = new Set(nvlink.flatMap(({ links }) => links.flatMap(({ remote }) => remote ?? [])));
  return machine.gpus.flatMap(({ address }) => (named.has(address) ? [address] : [])).sort(compareAddresses);
}

function saysTheSameFromBothEnds(nvlink: readonly NvlinkGpu[], addresses: ReadonlyMap<number, PciAddress>): boolean {
  const counts = new Map<string, number>();
  for (const { index, links } of nvlink) {
    for (const { remote } of links) {
      const key = `${addresses.get(index)} ${remote}`;
      if (remote !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  return [...counts].every(([key, links]) => counts.get(key.split(" ").reverse().join(" ")) === links);
}

function isCredible(machine: Machine, { product, links }: NvlinkGpu, address: PciAddress | undefined): boolean {
  const part = machine.gpus.find((gpu) => gpu.address === address)?.part;
  if (links.some(({ remote }) => remote !== undefined && remote === address)) return false;
  if (part === undefined || part === "unknown") return true;
  const printed = partOfProduct(product);
  if (printed !== undefined && printed !== part) return false;
  const facts = partFacts(part);
  return facts === undefined || links.every(({ number }) => number < facts.links);
}

function partOfProduct(product: string): Part | undefined {
  const model = /\b([PVA]100)\b/.exec(product)?.[1];
  const parts: Readonly<Record<string, Part>> = { P100: "GP100", V100: "GV100", A100: "GA100" };
  return model === undefined ? undefined : parts[model];
}
