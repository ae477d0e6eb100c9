import type { FarEnd, Gpu, Link, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { append } from "./append.js";

/** The far link of every link whose source names only the far GPU, by {@link endKey}. */
export type Pairing = ReadonlyMap<string, number>;

/** Names one end of a link. */
export function endKey(gpu: PciAddress, link: number): string {
  return `${gpu}/${link}`;
}

/**
 * Pairs links of which only the far GPU is known: between two GPUs the first such link of one meets the first of the
 * other, in ascending order. A real pair of GPUs may be wired otherwise; a virtual one has to be wired somehow.
 */
export function pairLinks(machine: Machine): Pairing {
  const waiting = new Map<string, number[]>();
  for (const gpu of machine.gpus)
    for (const link of byNumber(gpu)) {
      const far = unnumbered(link.far);
      if (far !== undefined) append(waiting, endsKey(gpu.address, far), link.number);
    }
  const paired = new Map<string, number>();
  for (const gpu of machine.gpus) {
    const taken = new Map<PciAddress, number>();
    for (const link of byNumber(gpu)) {
      const far = unnumbered(link.far);
      if (far === undefined) continue;
      const index = taken.get(far) ?? 0;
      taken.set(far, index + 1);
      const farLink = waiting.get(endsKey(far, gpu.address))?.[index];
      if (farLink !== undefined) paired.set(endKey(gpu.address, link.number), farLink);
    }
  }
  return paired;
}

function byNumber(gpu: Gpu): Link[] {
  return [...gpu.links].sort((a, b) => a.number - b.number);
}

function unnumbered(far: FarEnd): PciAddress | undefined {
  return far.kind === "gpu" && far.link === undefined ? far.gpu : undefined;
}

function endsKey(from: PciAddress, to: PciAddress): string {
  return `${from}>${to}`;
}
