import { carryOutPlan, type FenceResult } from "../../fence/carry_out_plan.js";
import { reasonOf } from "../../fence/error.js";
import type { GpuPort } from "../../fence/gpu_port.js";
import type { Ledger } from "../../fence/ledger.js";
import type { FenceEvent } from "../../fence/progress.js";
import { strategyFor } from "../../fence/strategy.js";
import { withEvidence } from "../../fence/with_evidence.js";
import { refuseBusReset } from "../../host/function_reset.js";
import { HOST, ownersOf } from "../../isolation/assignment.js";
import type { Plan } from "../../isolation/plan.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { refuseUnlessIsolated } from "../refuse_unless_isolated.js";
import { ledgerFor, ledgerOf, lockLedger, saveLedger, withoutDrivers } from "../serve/ledger_file.js";
import { PrivateDirectory } from "../serve/private_directory.js";
import { keepWiring } from "./kept_wiring.js";
import { withLiveEvidence } from "./live_evidence.js";
import { LivePorts } from "./live_ports.js";
import { requireRoot } from "./require_root.js";
import { mustBeTaken, refuseUsed, returnGpus, type TouchedGpu, takeGpus, touchedGpus } from "./taken_gpus.js";
import { uninterrupted } from "./uninterrupted.js";

/** What is to be done to a live host. */
export interface LiveFenceWish {
  machine: Machine;
  assignments: readonly Assignment[];
  /** It isolates, as far as can be told before registers are read. */
  plan: Plan;
  /** Plans anew, on the machine with what its registers say. */
  replan: (machine: Machine) => Plan;
  stateDir: string;
  allowInUse: boolean;
}

/** Who hears of it while it is done. */
export interface LiveFenceTold {
  onProgress?: (event: FenceEvent) => void;
  /** A line of what takes long. */
  onWait?: (line: string) => void;
}

/** What came of it. */
export interface LiveFenceOutcome {
  /** The plan that was carried out. */
  plan: Plan;
  result: FenceResult;
  /** The machine with what was read back. */
  after: Machine;
  /** What else went wrong, a line each: drivers that did not take GPUs back. */
  failures: string[];
}

/**
 * Fences the GPUs of this host. Whatever can be checked is checked first; the ledger, with who had which GPU, is written
 * before the first is touched. GPUs of assignments stay with nobody (or vfio-pci, which had them), those of the host go back
 * to their drivers.
 * @throws UsageError, HostError, LedgerError with nothing changed
 */
export async function fenceLive(wish: LiveFenceWish, told: LiveFenceTold): Promise<LiveFenceOutcome> {
  const { machine, stateDir } = wish;
  requireRoot("fence");
  const touched = touchedGpus(wish.plan);
  refuseUsed(touched, wish.allowInUse);
  const ownerOf = ownersOf(machine, wish.assignments);
  const mayHit = (gpu: PciAddress) => sameOwner(machine, ownerOf, gpu);
  new PrivateDirectory(stateDir, "--state-dir");
  const lock = lockLedger(stateDir, `uses ${stateDir}: change a server's fences with linkfence assign`);
  const ports = new LivePorts({ write: true, mayHit, ...(told.onWait && { onProgress: told.onWait }) });
  const plan = (machine: Machine) => {
    const known = wish.replan(machine);
    refuseUnlessIsolated(known);
    refuseResets(known, mayHit);
    return known;
  };
  try {
    return await uninterrupted(() => carryOut({ ...wish, replan: plan }, touched, ports.port, told));
  } finally {
    ports.close();
    lock.release();
  }
}

async function carryOut(
  { machine, assignments, replan, stateDir }: LiveFenceWish,
  touched: readonly TouchedGpu[],
  ports: (address: PciAddress) => GpuPort,
  { onProgress }: LiveFenceTold,
): Promise<LiveFenceOutcome> {
  // A driver that has got a GPU back since is who has it.
  const rebound = touched.filter(mustBeTaken).map(({ former }) => former.address);
  const old = withoutDrivers(ledgerFor(machine, stateDir), rebound);
  const formers = touched.map(({ former }) => former);
  const ledger = ledgerOf(machine, assignments, old, new Date().toISOString(), formers);
  await saveLedger(stateDir, ledger);
  await keepWiring(stateDir, machine);
  let plan: Plan;
  try {
    takeGpus(touched);
    requireRegisters(touched, ports);
    const gpus = touched.map(({ gpu }) => gpu);
    plan = replan(withLiveEvidence(machine, gpus, ports));
  } catch (error) {
    // What was taken earlier stays taken.
    const taken = formers.filter(({ address }) => !old.drivers?.some((each) => each.address === address));
    const { back } = returnGpus(taken);
    const untaken = { ...ledger, assignments: old.assignments };
    await saveLedger(
      stateDir,
      withoutDrivers(
        untaken,
        back.map(({ address }) => address),
      ),
    );
    throw error;
  }
  const result = await carryOutPlan(plan, ports, onProgress === undefined ? {} : { onProgress });
  const failures = await returnHostGpus(machine, ledger, stateDir);
  return { plan, result, after: withEvidence(machine, result.gpus), failures };
}

/** @throws HostError for a reset that would hit what somebody else works with */
export function refuseResets(plan: Plan, mayHit: (gpu: PciAddress) => ReadonlySet<PciAddress>): void {
  for (const { action, gpu } of plan.steps) if (action === "reset-and-cut") refuseBusReset(gpu, mayHit(gpu));
}

/** Every GPU must say which chip it is before the first is written to. */
function requireRegisters(touched: readonly TouchedGpu[], ports: (address: PciAddress) => GpuPort): void {
  for (const { gpu } of touched) {
    try {
      strategyFor(gpu.part)?.identify(ports(gpu.address));
    } catch (error) {
      throw new UsageError(`${gpu.name} (${gpu.address}) cannot be fenced, so nothing was: ${reasonOf(error)}`);
    }
  }
}

/**
 * Gives back what no assignment has any more. While there are any, a GPU that was cut must not lose its power: it is not
 * suspended again.
 * @returns a line for each that its driver does not take
 */
export async function returnHostGpus(machine: Machine, ledger: Ledger, stateDir: string): Promise<string[]> {
  const ownerOf = ownersOf(machine, ledger.assignments);
  const formers = (ledger.drivers ?? []).filter(({ address }) => ownerOf(address) === HOST);
  const isLast = ledger.assignments.length === 0;
  const { back, failures } = returnGpus(
    isLast ? formers : formers.map((former) => ({ ...former, powerControl: null })),
  );
  const addresses = back.map(({ address }) => address);
  if (addresses.length > 0) await saveLedger(stateDir, withoutDrivers(ledger, addresses));
  return failures;
}

/** Functions of a GPU's owner, which its reset may hit although a driver has them. */
function sameOwner(machine: Machine, ownerOf: (address: PciAddress) => string, gpu: PciAddress): Set<PciAddress> {
  const owner = ownerOf(gpu);
  if (owner === HOST) return new Set();
  return new Set(machine.functions.map(({ address }) => address).filter((address) => ownerOf(address) === owner));
}
