import { text } from "../../devicetree/property.js";
import { isAddress, type PciAddress } from "../../pci/address.js";
import type { Notes } from "./notes.js";
import type { PciNode } from "./pci.js";
import type { BridgeNode, GpuNode } from "./scene.js";

/** What a GPU can be called on a command line that separates names by commas and owners by `=`. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Names GPUs by their slot labels; where a label is no name, or two GPUs share one, the address stands. */
export function nameGpus(gpus: readonly GpuNode[], bridges: readonly BridgeNode[], notes: Notes): void {
  const linkLabels = new Map(bridges.map(({ bridge }) => [bridge.address, bridge.slotLabel]));
  const labelled = new Map<string, GpuNode[]>();
  for (const entry of gpus) {
    const label = gpuLabel(entry, linkLabels, notes);
    if (label === undefined) continue;
    const others = labelled.get(label);
    if (others === undefined) labelled.set(label, [entry]);
    else others.push(entry);
  }
  for (const [label, entries] of labelled) {
    const [only, another] = entries;
    if (only !== undefined && another === undefined && isName(label)) {
      only.gpu.name = label;
      continue;
    }
    const why = another === undefined ? "is no name for a GPU" : `is on ${entries.length} GPUs`;
    const addresses = entries.map(({ gpu }) => gpu.address);
    notes.add(`the slot label ${JSON.stringify(label)} ${why}; addresses stand in its place`, addresses);
  }
}

function isName(label: string): boolean {
  return NAME.test(label) && !isAddress(label) && label !== "host";
}

/** The GPU's own label, else its links', else that of the port above it, which is where skiboot writes it. */
function gpuLabel(
  { pci, gpu }: GpuNode,
  linkLabels: ReadonlyMap<PciAddress, string | undefined>,
  notes: Notes,
): string | undefined {
  const ofLinks = gpu.bridges.map((bridge) => linkLabels.get(bridge)).find((label) => label !== undefined);
  return slotLabel(pci, notes) ?? ofLinks ?? (pci.parent === null ? undefined : slotLabel(pci.parent, notes));
}

function slotLabel({ node, path }: PciNode, notes: Notes): string | undefined {
  return notes.read(path, () => text(node, "ibm,slot-label"));
}
