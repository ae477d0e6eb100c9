import type { PciAddress } from "../pci/address.js";
import { FunctionFolder } from "./function_folder.js";

/**
 * Has the kernel not suspend a function, and wake it if it is: a suspended one answers nothing, and one that loses its power
 * (D3cold) loses its fence.
 * @throws HostError `EREGISTERS`, `EGONE`
 */
export function keepPowered(address: PciAddress): void {
  const folder = new FunctionFolder(address);
  folder.requireExists();
  // A kernel without runtime power management has no such file, and suspends nothing.
  if (folder.has("power/control")) folder.write("power/control", "on", "EREGISTERS");
}
