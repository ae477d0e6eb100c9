import type { CrossLink, GpuPlan, Plan } from "../isolation/plan.js";
import type { Evidence, Machine } from "../machine/machine.js";
import { disableMask, partFacts } from "../machine/part.js";
import type { PciAddress } from "../pci/address.js";
import { FenceError, reasonOf } from "./error.js";
import type { GpuPort } from "./gpu_port.js";
import { provenCut, strategyFor } from "./strategy.js";

/** What is known of a GPU's links at one moment; null is "could not be read". Link numbers ascend. */
export interface LinkSnapshot {
  /** The link bits of the disable mask (unsigned 32 bits); null also on a part that has none. */
  disableMask: number | null;
  /** The links proven cut at this end. */
  cut: number[] | null;
  /** The links that are trained; null where the device does not tell. */
  linksUp: number[] | null;
}

/** One GPU held against the plan. */
export interface GpuVerification {
  name: string;
  address: PciAddress;
  expected: { disableMask: number | null; cut: number[] };
  actual: LinkSnapshot;
  /** The registers that were read, null when they could not be. */
  evidence: Evidence | null;
  /** Whether this GPU's own registers could be read; never of a GPU that is not to be touched. */
  readable: boolean;
  /**
   * A link that the plan cuts is not proven cut, or is up. A GPU that is not to be touched is judged at the other ends of
   * its links.
   */
  open: boolean;
  /** Why it is open, or how a GPU that was not touched was judged. */
  reason?: string;
}

/** One GPU as it was read, or why it could not be. */
export type GpuReading =
  | { readable: true; evidence: Evidence; snapshot: LinkSnapshot }
  | { readable: false; reason: string };

/** Reads every GPU that may be touched and compares with the plan. Writes to no register. */
export function readBack(plan: Plan, ports: (address: PciAddress) => GpuPort): GpuVerification[] {
  const readings = plan.gpus.map((gpu): [PciAddress, GpuReading] => [
    gpu.address,
    gpu.untouched ? { readable: false, reason: "not to be touched" } : readGpu(gpu, () => ports(gpu.address)),
  ]);
  return judge(plan, new Map(readings));
}

/** Compares the plan with the evidence that the machine carries, as a capture does; nothing else counts. */
export function recordedState(plan: Plan, machine: Machine): GpuVerification[] {
  const evidence = new Map<PciAddress, Evidence>();
  for (const gpu of machine.gpus) {
    const registers = gpu.links.flatMap((link) => link.evidence?.registers ?? []);
    if (registers.length > 0) evidence.set(gpu.address, { registers });
  }
  const readings = plan.gpus.map((gpu): [PciAddress, GpuReading] => {
    const recorded = evidence.get(gpu.address);
    return [
      gpu.address,
      recorded === undefined
        ? { readable: false, reason: "no registers are recorded" }
        : { readable: true, evidence: recorded, snapshot: snapshotOf(gpu, recorded, null) },
    ];
  });
  return judge(plan, new Map(readings));
}

/** Reads one GPU; whatever goes wrong becomes the reason. */
export function readGpu(gpu: GpuPlan, open: () => GpuPort): GpuReading {
  try {
    const strategy = strategyFor(gpu.part);
    if (strategy === undefined) throw new FenceError("EFENCE_PART", `${gpu.name} is no part that can be fenced`);
    const port = open();
    const evidence = strategy.read(port, linksOf(gpu));
    return { readable: true, evidence, snapshot: snapshotOf(gpu, evidence, port.linksUp?.() ?? null) };
  } catch (error) {
    return { readable: false, reason: reasonOf(error) };
  }
}

function snapshotOf(gpu: GpuPlan, evidence: Evidence, linksUp: number[] | null): LinkSnapshot {
  const cut = provenCut(gpu.part, evidence, linksOf(gpu));
  return { disableMask: partFacts(gpu.part)?.interface === "mask" ? disableMask(cut) : null, cut, linksUp };
}

function linksOf(gpu: GpuPlan): number[] {
  return [...gpu.keptLinks, ...gpu.cutLinks].sort((a, b) => a - b);
}

/** Holds each reading against the plan; GPUs that are not touched last, by what was found at the others. */
export function judge(plan: Plan, readings: ReadonlyMap<PciAddress, GpuReading>): GpuVerification[] {
  const verdicts = new Map<PciAddress, GpuVerification>();
  for (const gpu of plan.gpus)
    if (!gpu.untouched) verdicts.set(gpu.address, judgeTouched(gpu, readings.get(gpu.address)));
  const crossing = crossLinksByGpu(plan.crossLinks);
  return plan.gpus.map(
    (gpu) => verdicts.get(gpu.address) ?? judgeUntouched(gpu, crossing.get(gpu.address) ?? [], verdicts),
  );
}

/** Holds the reading of one GPU that may be touched against its plan. */
export function judgeTouched(gpu: GpuPlan, reading: GpuReading | undefined): GpuVerification {
  const base = { name: gpu.name, address: gpu.address, expected: { disableMask: gpu.disableMask, cut: gpu.cutLinks } };
  const unknown = { disableMask: null, cut: null, linksUp: null };
  if (reading === undefined || !reading.readable) {
    const reason = reading?.reason ?? "not read";
    return { ...base, actual: unknown, evidence: null, readable: false, open: true, reason };
  }
  const actual = reading.snapshot;
  const read = { ...base, actual, evidence: reading.evidence, readable: true };
  const proven = new Set(actual.cut);
  const uncut = gpu.cutLinks.filter((link) => !proven.has(link));
  if (uncut.length > 0) return { ...read, open: true, reason: `${linkList(uncut)} not proven cut` };
  const cut = new Set(gpu.cutLinks);
  const up = (actual.linksUp ?? []).filter((link) => cut.has(link));
  if (up.length > 0) return { ...read, open: true, reason: `${linkList(up)} up although cut` };
  return { ...read, open: false };
}

/**
 * The plan cuts every link into another assignment at each end that may be touched, so a GPU that may not is closed when
 * all that is read of the GPUs at its links' other ends is as planned.
 */
function judgeUntouched(
  gpu: GpuPlan,
  crossing: readonly CrossLink[],
  verdicts: ReadonlyMap<PciAddress, GpuVerification>,
): GpuVerification {
  const uncut = crossing.filter((link) => {
    const other = link.gpu === gpu.address ? link.far : link.gpu;
    return link.cutAt === "none" || other === null || verdicts.get(other)?.open !== false;
  });
  const names = new Set(uncut.map((link) => (link.gpu === gpu.address ? link.link : link.farLink)));
  const numbers = [...names].filter((link) => link !== null);
  const open = uncut.length > 0;
  const which = numbers.length > 0 ? linkList(numbers) : "a link is";
  const closed = crossing.length > 0 ? "its links are cut at the other end" : "no link of it leads to another owner";
  return {
    name: gpu.name,
    address: gpu.address,
    expected: { disableMask: gpu.disableMask, cut: gpu.cutLinks },
    actual: { disableMask: null, cut: null, linksUp: null },
    evidence: null,
    readable: false,
    open,
    reason: open ? `not touched, and ${which} not proven cut at the other end` : `not touched; ${closed}`,
  };
}

function crossLinksByGpu(crossLinks: readonly CrossLink[]): Map<PciAddress, CrossLink[]> {
  const byGpu = new Map<PciAddress, CrossLink[]>();
  for (const link of crossLinks) {
    for (const end of new Set([link.gpu, link.far])) {
      if (end === null) continue;
      const links = byGpu.get(end);
      if (links === undefined) byGpu.set(end, [link]);
      else links.push(link);
    }
  }
  return byGpu;
}

/** `link 3 is`, `links 0, 4 are`. */
function linkList(links: readonly number[]): string {
  return links.length === 1 ? `link ${links[0]} is` : `links ${[...links].sort((a, b) => a - b).join(", ")} are`;
}
