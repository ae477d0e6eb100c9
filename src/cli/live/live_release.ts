import { carryOutPlan, type FenceResult } from "../../fence/carry_out_plan.js";
import { vfioHolders } from "../../host/in_use.js";
import { keepPowered } from "../../host/power.js";
import { makePlan, type Plan } from "../../isolation/plan.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { refuseUnlessIsolated } from "../refuse_unless_isolated.js";
import { withoutAssignment } from "../serve/assignment_change.js";
import { isOf, ledgerOf, loadLedger, lockLedger, saveLedger } from "../serve/ledger_file.js";
import { withLiveEvidence } from "./live_evidence.js";
import { type LiveFenceTold, refuseResets, returnHostGpus } from "./live_fence.js";
import { LivePorts } from "./live_ports.js";
import { requireRoot } from "./require_root.js";
import { uninterrupted } from "./uninterrupted.js";

/** Drivers that a function may have while it is reset: nobody's but those that hand it out. */
const VFIO_PCI = "vfio-pci";

/** What is to be undone. */
export interface LiveRelease {
  machine: Machine;
  /** Of what is left, with a reset of what is released, as far as can be told before registers are read. */
  plan: Plan;
  /** Plans anew, on the machine with what its registers say. */
  replan: (machine: Machine) => Plan;
  left: readonly Assignment[];
  name: string;
  stateDir: string;
}

/**
 * Plans for the assignments that are left when one of the ledger's is gone: its GPUs are reset, so that their links come back,
 * each behind its far ends, and what leads to other owners is cut again. A GPU that its driver has back already is left alone.
 * @throws UsageError when there is no such assignment on this host, or it cannot be released safely
 */
export function planRelease(
  machine: Machine,
  stateDir: string,
  name: string,
  options: { isolateNvlink?: boolean },
): Pick<LiveRelease, "plan" | "replan" | "left"> {
  const ledger = loadLedger(stateDir);
  if (ledger === undefined)
    throw new UsageError(`there is no ledger in ${stateDir}, so nothing is assigned; name its --state-dir`);
  if (ledger.virtual || !isOf(ledger, machine)) {
    throw new UsageError(
      `the ledger in ${stateDir} is of another machine, ${ledger.machine}, or a function in it is gone`,
    );
  }
  const left = withoutAssignment(ledger.assignments, name);
  const members = ledger.assignments.find((each) => each.name === name)?.members ?? [];
  const free = new Set(members.filter((member) => driverOf(machine, member) === VFIO_PCI));
  // vfio-pci leaves a function alone that nobody opens.
  const functions = machine.functions.map((fn) => {
    const { driver, ...rest } = fn;
    return driver !== undefined && !free.has(fn.address) ? fn : rest;
  });
  const resetToo = members.filter((member) => [undefined, VFIO_PCI].includes(driverOf(machine, member)));
  const replan = (known: Machine) => {
    const plan = makePlan({ ...known, functions }, left, { ...options, resetToo });
    refuseUnlessIsolated(plan);
    return plan;
  };
  return { plan: replan(machine), replan, left };
}

/**
 * Carries it out: resets and cuts, gives functions back to their drivers, and clears the ledger's entry. When a GPU is not as
 * planned afterwards, drivers and ledger stay as they are.
 * @throws UsageError, HostError with nothing touched
 */
export async function releaseLive(
  release: LiveRelease,
  told: LiveFenceTold,
): Promise<{ result: FenceResult; failures: string[] }> {
  const { machine, replan, left, stateDir, name } = release;
  requireRoot("release");
  const lock = lockLedger(stateDir, `uses ${stateDir}; name its --socket-dir`);
  const ledger = loadLedger(stateDir);
  const members = new Set<PciAddress>(ledger?.assignments.find((each) => each.name === name)?.members);
  const mayHit = (gpu: PciAddress) => (members.has(gpu) ? members : new Set<PciAddress>());
  const ports = new LivePorts({
    write: true,
    mayHit,
    ...(told.onWait && { onProgress: told.onWait }),
  });
  try {
    refuseOpen(members);
    const touched = release.plan.gpus.filter(({ untouched }) => !untouched);
    // vfio-pci suspends a function that nobody has open, and then its registers do not answer.
    for (const { address } of touched) keepPowered(address);
    const plan = replan(withLiveEvidence(machine, touched, ports.port));
    refuseResets(plan, mayHit);
    return await uninterrupted(async () => {
      const result = await carryOutPlan(plan, ports.port, told.onProgress ? { onProgress: told.onProgress } : {});
      if (!result.verified) return { result, failures: [] };
      const after = ledgerOf(machine, left, ledger, new Date().toISOString());
      await saveLedger(stateDir, after);
      return { result, failures: await returnHostGpus(machine, after, stateDir) };
    });
  } finally {
    ports.close();
    lock.release();
  }
}

function refuseOpen(members: ReadonlySet<PciAddress>): void {
  for (const member of members) {
    const [holder] = vfioHolders(member);
    if (holder === undefined) continue;
    throw new UsageError(`process ${holder} has ${member} open by VFIO; end it first; nothing was touched`);
  }
}

function driverOf(machine: Machine, address: PciAddress): string | undefined {
  return machine.functions.find((fn) => fn.address === address)?.driver;
}
