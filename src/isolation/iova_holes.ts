import type { Assignment, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { DisjointSets } from "./disjoint_sets.js";
import type { JoinedPair } from "./isolation.js";

/** An address range (end exclusive) that DMA of an assignment cannot use: a peer's BAR answers there. */
export interface IovaHole {
  start: bigint;
  end: bigint;
  functions: PciAddress[];
}

/**
 * The holes in each assignment's IO address space: memory BARs of functions that can reach each other without the
 * IOMMU, merged and sorted. A function alone has none, since its own BARs are not reached by its own DMA.
 */
export function iovaHoles(
  machine: Machine,
  assignments: readonly Assignment[],
  ownerOf: (address: string) => string,
  joins: readonly JoinedPair[],
): { assignment: string; holes: IovaHole[] }[] {
  const sets = new DisjointSets<string>();
  for (const { a, b } of joins) sets.join(a, b);
  const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
  const ranges = new Map<string, IovaHole[]>();
  for (const set of sets.sets()) {
    const members = set.flatMap((address) => functions.get(address) ?? []);
    if (members.length < 2) continue;
    const bars = members.flatMap((fn) =>
      fn.bars.flatMap(({ kind, address, size }) =>
        kind === "memory" && address !== 0n && size !== undefined && size > 0n
          ? [{ start: address, end: address + size, functions: [fn.address] }]
          : [],
      ),
    );
    for (const owner of new Set(members.map((fn) => ownerOf(fn.address)))) {
      const own = ranges.get(owner);
      if (own === undefined) ranges.set(owner, [...bars]);
      else own.push(...bars);
    }
  }
  return assignments.map(({ name }) => ({ assignment: name, holes: merge(ranges.get(name) ?? []) }));
}

/** Sorts ranges and merges those that touch or overlap. */
function merge(ranges: readonly IovaHole[]): IovaHole[] {
  const merged: IovaHole[] = [];
  for (const range of [...ranges].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))) {
    const last = merged.at(-1);
    if (last !== undefined && range.start <= last.end) {
      if (range.end > last.end) last.end = range.end;
      last.functions.push(...range.functions);
    } else {
      merged.push({ ...range, functions: [...range.functions] });
    }
  }
  return merged.map((hole) => ({ ...hole, functions: [...new Set(hole.functions)] }));
}
