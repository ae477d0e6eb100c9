import type { Assignment, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";
import { DisjointSets } from "./disjoint_sets.js";

/** An address range (end exclusive) that DMA of an assignment cannot use: a peer's BAR answers there. */
export interface IovaHole {
  start: bigint;
  end: bigint;
  functions: PciAddress[];
}

/** So many functions are told of with the holes of one set, anew for each assignment that shares it. */
const MOST_TOLD = 1 << 18;

/**
 * The holes in each assignment's IO address space: memory BARs of functions that can reach each other without the
 * IOMMU, merged and sorted. A function alone has none, since its own BARs are not reached by its own DMA. Of a set that
 * very many assignments share none are told, for that would grow with the square of it, and such a plan is refused anyway.
 */
export function iovaHoles(
  machine: Machine,
  assignments: readonly Assignment[],
  ownerOf: (address: string) => string,
  joins: Iterable<{ a: string; b: string }>,
): { assignment: string; holes: IovaHole[] }[] {
  const sets = new DisjointSets<string>();
  for (const { a, b } of joins) sets.join(a, b);
  const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
  const names = new Set(assignments.map(({ name }) => name));
  const holesOf = new Map<string, IovaHole[]>();
  for (const set of sets.sets()) {
    const members = set.flatMap((address) => functions.get(address) ?? []);
    const owners = [...new Set(members.map((fn) => ownerOf(fn.address)))].filter((owner) => names.has(owner));
    if (members.length < 2 || owners.length === 0) continue;
    const holes = merge(members.flatMap(memoryRanges));
    const told = holes.reduce((sum, hole) => sum + hole.functions.length, 0);
    if (owners.length > 1 && owners.length * told > MOST_TOLD) continue;
    for (const owner of owners) {
      const own = holesOf.get(owner);
      if (own === undefined) holesOf.set(owner, [...holes]);
      else for (const hole of holes) own.push(hole);
    }
  }
  return assignments.map(({ name }) => ({ assignment: name, holes: merge(holesOf.get(name) ?? []) }));
}

function memoryRanges(fn: PciFunction): IovaHole[] {
  return fn.bars.flatMap(({ kind, address, size }) =>
    kind === "memory" && address !== 0n && size !== undefined && size > 0n
      ? [{ start: address, end: address + size, functions: [fn.address] }]
      : [],
  );
}

/** Sorts ranges and merges those that touch or overlap. */
function merge(ranges: readonly IovaHole[]): IovaHole[] {
  const merged: IovaHole[] = [];
  for (const range of [...ranges].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))) {
    const last = merged.at(-1);
    if (last !== undefined && range.start <= last.end) {
      if (range.end > last.end) last.end = range.end;
      for (const fn of range.functions) last.functions.push(fn);
    } else {
      merged.push({ ...range, functions: [...range.functions] });
    }
  }
  return merged.map((hole) => ({ ...hole, functions: [...new Set(hole.functions)] }));
}
