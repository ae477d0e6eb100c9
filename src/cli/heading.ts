import type { Machine } from "../machine/machine.js";
import { brokenLine, isTerminal, paint, terminalColumns } from "./output.js";

/** What every text begins with: which machine this is, and that it is virtual where it is. In pieces on a narrow terminal. */
export function heading(machine: Machine): string {
  const gpus = `${machine.gpus.length} GPU${machine.gpus.length === 1 ? "" : "s"}`;
  const line = `${paint("bold", machine.name)}${machine.virtual ? " (virtual)" : ""}: ${machine.source}, ${machine.functions.length} PCI functions, ${gpus}`;
  return isTerminal() ? brokenLine(line, terminalColumns()).join("\n") : line;
}
