import type { GpuPort } from "../../fence/gpu_port.js";
import { readGpu } from "../../fence/verify.js";
import { type GpuSeen, withEvidence } from "../../fence/with_evidence.js";
import type { GpuPlan } from "../../isolation/plan.js";
import type { Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";

/**
 * The machine with what the registers of these GPUs say of their links, where they say anything: what is cut now and should
 * not be needs a reset, and only registers tell.
 */
export function withLiveEvidence(
  machine: Machine,
  gpus: readonly GpuPlan[],
  ports: (address: PciAddress) => GpuPort,
): Machine {
  const seen = gpus.flatMap((gpu): GpuSeen[] => {
    const reading = readGpu(gpu, () => ports(gpu.address));
    if (!reading.readable) return [];
    const { address } = gpu;
    return [{ address, after: reading.snapshot, evidence: reading.evidence, touched: true, reset: false }];
  });
  return withEvidence(machine, seen);
}
