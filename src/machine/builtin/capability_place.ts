import { capabilityName } from "../../pci/capability_name.js";
import type { Capability } from "../../pci/function.js";

/** Where a capability is and which: offset and id in the standard list, or both in the extended one. */
export type CapabilityPlace = readonly [offset: number, id: number] | readonly [offset: number, "extended", id: number];

/** The capabilities at the given places, named. */
export function capabilitiesAt(places: readonly CapabilityPlace[]): Capability[] {
  return places.map((place) => {
    const extended = place[1] === "extended";
    const id = place[1] === "extended" ? place[2] : place[1];
    return { offset: place[0], id, extended, name: capabilityName(id, extended) };
  });
}
