import { u64s } from "../../devicetree/property.js";
import type { PciAddress } from "../../pci/address.js";
import type { CoherentMemory } from "../machine.js";
import { compressTgt } from "../witherspoon.js";
import { isCompatible } from "./compatible.js";
import { type BridgeNode, follow, type Scene } from "./scene.js";

/**
 * A GPU's memory, by the first of its bridges, which is the one Linux looks at (arch/powerpc and
 * drivers/vfio/pci/vfio_pci_nvlink2.c, 5.12). Undefined, and noted, when the bridge leads to none or to a malformed one.
 */
export function coherentMemory(gpu: PciAddress, bridge: BridgeNode, scene: Scene): CoherentMemory | undefined {
  const { notes, origin } = scene;
  const { path } = bridge.pci;
  const missing = (why: string) => {
    notes.add(`the memory of the GPU ${gpu}: ${why}`, [gpu], "The GPU can be passed on without its coherent memory.");
    return undefined;
  };
  const region = follow(bridge.pci, "memory-region", scene);
  if (region === undefined) return missing(`its bridge ${path} leads to no memory-region`);
  if (!isCompatible(region.node, "ibm,coherent-device-memory")) return missing(`${region.path} is no GPU's memory`);
  const [base, size, ...more] = notes.read(region.path, () => u64s(region.node, "reg")) ?? [];
  if (base === undefined || size === undefined || more.length > 0) {
    return missing(`reg of ${region.path} is not one base and one size of 64 bits`);
  }
  if (size === 0n || base + size > 1n << 64n) return missing(`reg of ${region.path} is no address range`);
  const { tgt } = bridge.bridge;
  if (tgt === undefined)
    notes.add(`the address by which DMA of the GPU ${gpu} reaches its memory (ibm,device-tgt-addr)`, [gpu]);
  else if (tgt !== compressTgt(base)) {
    const expected = compressTgt(base).toString(16);
    notes.add(`${path}: ibm,device-tgt-addr is 0x${tgt.toString(16)}, and the memory's base gives 0x${expected}`, [
      gpu,
    ]);
  }
  return { gpu, base, size, ...(tgt !== undefined && { tgt }), origin };
}

/** Two GPUs cannot have the same memory: windows that overlap are left out, and noted. */
export function withoutOverlaps(memory: readonly CoherentMemory[], { notes }: Scene): CoherentMemory[] {
  const overlapping = new Set<CoherentMemory>();
  let last: CoherentMemory | undefined;
  for (const window of [...memory].sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : 0))) {
    if (last !== undefined && window.base < last.base + last.size) {
      overlapping.add(last).add(window);
      notes.add(`whose memory 0x${window.base.toString(16)} is: two GPUs lead there`, [last.gpu, window.gpu]);
    }
    if (last === undefined || window.base + window.size > last.base + last.size) last = window;
  }
  return memory.filter((window) => !overlapping.has(window));
}
