import { identifyGpu } from "../machine/gpu_part.js";
import type { Gpu, Link } from "../machine/machine.js";
import type { PciFunction } from "../pci/function.js";
import type { HostRoot } from "./host_root.js";
import type { PciListing } from "./pci_sysfs.js";
import { readSlotLabels } from "./slots.js";

/** A name that `--assign` takes for the GPUs of no assignment. */
const RESERVED = "host";

/**
 * The GPUs among a host's functions, by slot label where each has one of its own. sysfs does not tell where NVLinks go:
 * a part that has them has all of them, far ends unknown.
 */
export function readGpus(root: HostRoot, { functions }: PciListing): Gpu[] {
  // SR-IOV virtual functions are parts of a GPU: their physical function has the links.
  const gpus = functions.filter((fn) => fn.physicalFunction === undefined).flatMap((fn) => gpuOf(fn) ?? []);
  if (gpus.length === 0) return gpus;
  const labels = readSlotLabels(root);
  const names = gpus.map(({ address }) => labels.get(address.slice(0, -2)));
  const uses = new Map<string | undefined, number>();
  for (const name of names) uses.set(name, (uses.get(name) ?? 0) + 1);
  return gpus.map((gpu, i) => {
    const name = names[i];
    return name !== undefined && name !== RESERVED && uses.get(name) === 1 ? { ...gpu, name } : gpu;
  });
}

function gpuOf(fn: PciFunction): Gpu | undefined {
  const identity = identifyGpu(fn);
  if (identity === undefined) return undefined;
  const { part, nvlink, linkCount = 0 } = identity;
  const links = Array.from(
    { length: nvlink === "present" ? linkCount : 0 },
    (_, number): Link => ({ number, far: { kind: "unknown" }, state: "unknown", origin: "sysfs" }),
  );
  return { address: fn.address, name: fn.address, part, nvlink, links, bridges: [], origin: "sysfs" };
}
