import { reasonOf } from "../../fence/error.js";
import type { LedgerDriver } from "../../fence/ledger.js";
import { giveBack, readBinding, unbind } from "../../host/driver_binding.js";
import { hostUses, vfioHolders } from "../../host/in_use.js";
import { keepPowered } from "../../host/power.js";
import { HOST } from "../../isolation/assignment.js";
import type { GpuPlan, Plan } from "../../isolation/plan.js";
import { UsageError } from "../failure.js";

/** Has a function without changing it while nobody opens its group. */
const VFIO_PCI = "vfio-pci";

/** A GPU that a plan touches, and who has it now. */
export interface TouchedGpu {
  gpu: GpuPlan;
  former: LedgerDriver;
}

/** The GPUs that a plan touches, with who has them. @throws HostError `EGONE` */
export function touchedGpus(plan: Plan): TouchedGpu[] {
  return plan.gpus.filter(({ untouched }) => !untouched).map((gpu) => ({ gpu, former: readBinding(gpu.address) }));
}

/** Whether a driver must let go of it before it is fenced: one that works with a GPU has claimed its registers. */
export function mustBeTaken({ former: { driver } }: TouchedGpu): boolean {
  return driver !== null && driver !== VFIO_PCI;
}

/**
 * Refuses GPUs that somebody uses. A VFIO group that is open is no matter of asking twice: its GPU is somebody's, who may
 * reset it at any moment.
 * @throws UsageError with the first GPU, its use, and what to do
 */
export function refuseUsed(touched: readonly TouchedGpu[], allowInUse: boolean): void {
  for (const each of touched) {
    const { name, address } = each.gpu;
    const [opener] = vfioHolders(address);
    if (opener !== undefined) {
      throw new UsageError(
        `process ${opener} has ${name} (${address}) open by VFIO and may reset it at any moment, which opens every fence; ` +
          "end it, and hand the GPU out with linkfence serve --live; nothing was touched",
      );
    }
    const [use] = allowInUse || !mustBeTaken(each) ? [] : hostUses(address);
    if (use === undefined) continue;
    throw new UsageError(
      `${name} (${address}) is in use by this host: ${use}; nothing was touched. Free it, or give --allow-in-use`,
    );
  }
}

/** Has the GPUs powered, and those of assignments and those that are driven with nobody. @throws HostError as `unbind` */
export function takeGpus(touched: readonly TouchedGpu[]): void {
  for (const each of touched) {
    const { gpu, former } = each;
    const isHosts = gpu.assignment === HOST && former.driver === null;
    if (former.driver !== VFIO_PCI && !isHosts) unbind(former.address);
    keepPowered(former.address);
  }
}

/**
 * Gives functions back to the drivers that they had.
 * @returns those that are back, and a line for each that is not
 */
export function returnGpus(formers: readonly LedgerDriver[]): { back: LedgerDriver[]; failures: string[] } {
  const back: LedgerDriver[] = [];
  const failures: string[] = [];
  for (const former of formers) {
    try {
      giveBack(former);
      back.push(former);
    } catch (error) {
      failures.push(`${former.address} is not back with ${former.driver ?? "nobody"}: ${reasonOf(error)}`);
    }
  }
  return { back, failures };
}
