import type { Capability } from "../pci/function.js";

/** A capability and where it lies. */
export interface CapabilityPlace {
  offset: number;
  id: number;
  /** Bytes up to the next one by offset, or to the end of its space. */
  room: number;
}

const STANDARD_FROM = 0x40;
const EXTENDED_FROM = 0x100;
const EXTENDED_TO = 0x1000;

/** The standard capabilities in the order of their list, as far as they lie where they can, each place once. */
export function standardPlaces(capabilities: readonly Capability[]): CapabilityPlace[] {
  return withRoom(distinct(capabilities, false, STANDARD_FROM, EXTENDED_FROM), EXTENDED_FROM);
}

/**
 * The extended capabilities likewise. Their list has to begin at 0x100: what lies there comes first, and where nothing
 * does a null capability leads to the others.
 */
export function extendedPlaces(capabilities: readonly Capability[]): CapabilityPlace[] {
  const listed = distinct(capabilities, true, EXTENDED_FROM, EXTENDED_TO);
  if (listed.size === 0) return [];
  const id = listed.get(EXTENDED_FROM) ?? 0;
  listed.delete(EXTENDED_FROM);
  return withRoom(new Map([[EXTENDED_FROM, id], ...listed]), EXTENDED_TO);
}

/** Ids by offset, in the order of the list. */
function distinct(capabilities: readonly Capability[], extended: boolean, from: number, to: number) {
  const ids = new Map<number, number>();
  for (const { offset, id, extended: isExtended } of capabilities) {
    const possible = isExtended === extended && offset % 4 === 0 && offset >= from && offset < to;
    if (possible && !ids.has(offset)) ids.set(offset, id);
  }
  return ids;
}

function withRoom(ids: ReadonlyMap<number, number>, end: number): CapabilityPlace[] {
  const ascending = [...ids.keys(), end].sort((a, b) => a - b);
  const next = new Map(ascending.map((offset, i) => [offset, ascending[i + 1] ?? end]));
  return [...ids].map(([offset, id]) => ({ offset, id, room: (next.get(offset) ?? end) - offset }));
}
