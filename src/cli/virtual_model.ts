import type { Machine } from "../machine/machine.js";

/** Whatever the source, what is fenced and served here is a model of it, and says so. */
export function virtualModel(machine: Machine): Machine {
  return machine.virtual ? machine : { ...machine, virtual: true, source: `virtual model of ${machine.source}` };
}
