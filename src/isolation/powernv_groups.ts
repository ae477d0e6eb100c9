import type { Gpu, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";

/** Kernels from 5.1 to 5.12 know NPU bridges; 5.13 removed them. An unknown release is taken for one that does. */
export function kernelHasNpu(machine: Machine): boolean {
  const match = /^(\d+)\.(\d+)/.exec(machine.kernel?.release ?? "");
  if (match === null) return true;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  return major < 5 || (major === 5 && minor < 13);
}

/**
 * IOMMU groups as powernv forms them (Linux 5.1 to 5.12, arch/powerpc/platforms/powernv/npu-dma.c and pci-ioda.c):
 * one partitionable endpoint per bus, ports in none; a GPU with NPU bridges brings them along, its own PE first. On
 * POWER9 all GPUs of an NPU share a compound group unless `isolateNvlink`; on POWER8 every GPU has a group of its own.
 * Beside groups that the kernel did form, ours are by those rules whatever its release; where there are none to stand,
 * a later kernel's GPUs are alone.
 */
export function powernvGroups(machine: Machine, isolateNvlink: boolean): PciAddress[][] {
  const npu = machine.groups !== undefined || kernelHasNpu(machine);
  const bridges = new Map(machine.bridges.map((bridge) => [bridge.address, bridge]));
  const groups = new Map<string, PciAddress[]>();
  const grouped = new Set<PciAddress>();
  const attach = (key: string, address: PciAddress) => {
    if (grouped.has(address)) return;
    grouped.add(address);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [address]);
    else group.push(address);
  };
  for (const gpu of machine.gpus) {
    const [first] = gpu.bridges;
    if (!npu || first === undefined) continue;
    const compound = !isolateNvlink && !onPower8(gpu);
    const key = compound ? `npu ${bridges.get(first)?.npu ?? gpu.address}` : `gpu ${gpu.address}`;
    attach(key, gpu.address);
    for (const bridge of gpu.bridges) attach(key, bridge);
  }
  for (const fn of machine.functions) {
    if (fn.headerType === 1 || fn.headerType === 2 || grouped.has(fn.address)) continue;
    if (bridges.has(fn.address)) {
      if (npu) attach(`bridge ${fn.address}`, fn.address);
    } else {
      attach(`bus ${fn.address.slice(0, -5)}`, fn.address);
    }
  }
  return [...groups.values()];
}

/** NVLink1 is POWER8's: every GP100 on powernv sits on one. */
function onPower8(gpu: Gpu): boolean {
  return gpu.part === "GP100";
}
