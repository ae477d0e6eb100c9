import type { Assignment, Machine } from "../../src/machine/machine.js";
import { partFacts } from "../../src/machine/part.js";
import type { PciAddress } from "../../src/pci/address.js";

/** What a GPU is expected to be, from the wiring and its owners alone: no plan is asked. */
export interface Expected {
  /** Links that must be cut at this end. */
  cut: ReadonlySet<number>;
  /** Links that must not be, once the GPU has been reset for its present owners. */
  kept: ReadonlySet<number>;
}

/** A link stays only between GPUs of one owner, or between a GPU and a bridge of its own. */
export function expectedOf(machine: Machine, assignments: readonly Assignment[], gpu: PciAddress): Expected {
  const ownerOf = (address: PciAddress) => assignments.find(({ members }) => members.includes(address))?.name;
  const found = machine.gpus.find(({ address }) => address === gpu);
  if (found === undefined) throw new Error(`no GPU ${gpu}`);
  const all = Array.from({ length: partFacts(found.part)?.links ?? 0 }, (_, link) => link);
  const stays = (link: number): boolean => {
    const far = found.links.find(({ number }) => number === link)?.far;
    if (far?.kind === "bridge") return found.bridges.includes(far.bridge);
    return far?.kind === "gpu" && ownerOf(far.gpu) === ownerOf(gpu);
  };
  return { kept: new Set(all.filter(stays)), cut: new Set(all.filter((link) => !stays(link))) };
}

/** Whom each GPU belongs to in one of the ways to share a machine that are tried. */
export function sharings(machine: Machine): Assignment[][] {
  const gpus = machine.gpus.map(({ address }) => address);
  const groups = (size: number) => {
    return Array.from({ length: Math.ceil(gpus.length / size) }, (_, at) => gpus.slice(at * size, (at + 1) * size));
  };
  const named = (members: PciAddress[][]) =>
    members.map((each, at): Assignment => ({ name: `vm${at}`, members: each }));
  return [
    named(groups(1)),
    named(groups(2)),
    named(groups(Math.ceil(gpus.length / 2))),
    // Half of them stay the host's.
    named(groups(1).slice(0, gpus.length >> 1)),
    // Neighbours belong to different owners.
    named([gpus.filter((_, at) => at % 2 === 0), gpus.filter((_, at) => at % 2 === 1)]),
  ];
}
