import type { Machine } from "../machine/machine.js";
import { paint } from "./output.js";

/** The first line of every text: which machine this is, and that it is virtual where it is. */
export function heading(machine: Machine): string {
  const gpus = `${machine.gpus.length} GPU${machine.gpus.length === 1 ? "" : "s"}`;
  return `${paint("bold", machine.name)}${machine.virtual ? " (virtual)" : ""}: ${machine.source}, ${machine.functions.length} PCI functions, ${gpus}`;
}
