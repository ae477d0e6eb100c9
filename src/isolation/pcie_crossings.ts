import type { Machine } from "../machine/machine.js";
import { HOST } from "./assignment.js";
import { DisjointSets } from "./disjoint_sets.js";
import type { JoinedPair } from "./isolation.js";

/** Functions of several owners that PCIe itself does not keep apart. */
export interface PcieCrossing {
  owners: string[];
  /** The endpoints; ports belong to nobody. */
  members: string[];
  reason: string;
  action: string;
}

/** Every set of endpoints that PCIe joins and that has more than one owner. */
export function pcieCrossings(
  machine: Machine,
  pcie: readonly JoinedPair[],
  ownerOf: (address: string) => string,
): PcieCrossing[] {
  const sets = new DisjointSets<string>();
  const joinOf = new Map<string, JoinedPair>();
  for (const join of pcie) {
    sets.join(join.a, join.b);
    for (const end of [join.a, join.b]) if (!joinOf.has(end)) joinOf.set(end, join);
  }
  const ports = new Set(machine.functions.filter((fn) => fn.headerType === 1).map((fn) => fn.address));
  return sets.sets().flatMap((set): PcieCrossing[] => {
    const members = set.filter((address) => !ports.has(address));
    const owners = [...new Set(members.map(ownerOf))];
    if (owners.length < 2) return [];
    const why = joinOf.get(members.find((address) => ownerOf(address) !== HOST) ?? "");
    const action = why?.action ?? "give all of them to one owner, or move a card to another slot";
    return [{ owners, members, reason: why?.reason ?? "one IOMMU group", action }];
  });
}
