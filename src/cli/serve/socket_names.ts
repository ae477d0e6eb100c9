import { join } from "node:path";
import type { Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";

/** A slot label comes from a description of any origin, and is to be part of a file name. */
const STRANGE = /[^\w.+-]/g;
/** A socket's path has 107 bytes at most. */
const LONGEST_LABEL = 32;

/**
 * Where a function's socket is: `GPU0-0004:04:00.0.sock` for a GPU with a slot label, `GPU-0004:04:00.0.sock` for one
 * without, `NPU-0006:00:00.0.sock` for an NPU bridge, `PCI-0000:03:00.0.sock` for anything else.
 */
export function socketPath(machine: Machine, directory: string, address: PciAddress): string {
  const gpu = machine.gpus.find((each) => each.address === address);
  const isBridge = machine.bridges.some((each) => each.address === address);
  const label =
    gpu === undefined ? (isBridge ? "NPU" : "PCI") : gpu.name === gpu.address ? "GPU" : fileNamePart(gpu.name);
  return join(directory, `${label}-${address}.sock`);
}

/** The label, beginning with no dot, so that it is neither hidden nor a way out of the directory. */
function fileNamePart(label: string): string {
  return label.slice(0, LONGEST_LABEL).replace(STRANGE, "_").replace(/^\./, "_");
}
