import type { GpuPlan, Plan, PlanStep } from "../isolation/plan.js";
import type { Evidence } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { runSteps } from "../vfio/steps.js";
import { FenceError, hex32, reasonOf } from "./error.js";
import type { GpuPort } from "./gpu_port.js";
import { invariant, openedByReset } from "./invariants.js";
import type { FenceEvent, FenceStep } from "./progress.js";
import { resetAndCut } from "./reset_and_cut.js";
import { type FenceStrategy, strategyFor } from "./strategy.js";
import { type GpuVerification, type LinkSnapshot, readBack, readGpu } from "./verify.js";

/** What became of one GPU. */
export interface GpuFenceResult {
  name: string;
  address: PciAddress;
  before: LinkSnapshot;
  after: LinkSnapshot;
  /** The registers of the last read-back; null when nothing could be read, or nothing was to be touched. */
  evidence: Evidence | null;
  /**
   * The GPU is as planned: everything asked of it was done, and a read-back after the last step proves each link cut
   * that the plan cuts. Of a GPU that is not to be touched: the other ends of its links prove it.
   */
  verified: boolean;
  /** Its registers were open to the plan; of one that was not, nothing was read or written. */
  touched: boolean;
  /** It was reset. */
  reset: boolean;
  /** Why it is not verified, or how it was verified without being touched. */
  reason?: string;
}

/** What became of a plan. */
export interface FenceResult {
  machine: string;
  virtual: boolean;
  /** All GPUs are. */
  verified: boolean;
  gpus: GpuFenceResult[];
}

/** One GPU while its plan is carried out. */
interface Run {
  plan: GpuPlan;
  strategy: FenceStrategy;
  before: LinkSnapshot;
  reset: boolean;
  /** What went wrong in the last step that was tried. */
  failure?: string;
}

type Report = (gpu: GpuPlan, step: FenceStep, detail?: string) => void;

/**
 * Carries a plan out: all cuts, then the resets one after the other, each only behind a read-back of its far ends, and at
 * last a read-back of everything. `ports` is asked for a GPU each time it is needed and should give the same port. A step that fails stops no cut of another GPU, for each cut closes something; it does
 * stop the resets that rely on it. What went wrong is in the result, GPU by GPU.
 * @throws FenceError `EFENCE_PLAN` for a plan that does not isolate or names GPUs that it does not plan for, `EFENCE_PART`
 * for a step on a part that cannot be fenced; nothing has been touched then.
 */
export async function carryOutPlan(
  plan: Plan,
  ports: (address: PciAddress) => GpuPort,
  options: { onProgress?: (event: FenceEvent) => void } = {},
): Promise<FenceResult> {
  const report: Report = (gpu, step, detail) => {
    try {
      options.onProgress?.({ gpu: gpu.name, step, ...(detail === undefined ? {} : { detail }) });
    } catch {
      // Whoever watches cannot stop a fence between a reset and the cut.
    }
  };
  const runs = prepare(plan);
  for (const run of runs.values()) {
    report(run.plan, "read");
    const reading = readGpu(run.plan, () => ports(run.plan.address));
    if (reading.readable) run.before = reading.snapshot;
  }
  for (const step of plan.steps) await carryOutStep(plan, step, runs, ports, report);
  for (const run of runs.values()) report(run.plan, "read back");
  const gpus = readBack(plan, ports).map((verdict) => conclude(verdict, runs.get(verdict.address)));
  plan.gpus.forEach((gpu, i) => {
    const result = gpus[i];
    report(gpu, result?.verified === true ? "done" : "failed", result?.reason);
  });
  return { machine: plan.machine, virtual: plan.virtual, verified: gpus.every((gpu) => gpu.verified), gpus };
}

/** Refuses what must not be begun. */
function prepare(plan: Plan): Map<PciAddress, Run> {
  if (!plan.isolated) {
    const problem = plan.problems.find((each) => each.severity === "error")?.message ?? "links stay up between owners";
    throw new FenceError("EFENCE_PLAN", `the plan does not isolate: ${problem}; nothing was touched`);
  }
  const runs = new Map<PciAddress, Run>();
  for (const gpu of plan.gpus) {
    if (gpu.untouched) continue;
    const strategy = strategyFor(gpu.part);
    if (strategy === undefined) {
      throw new FenceError("EFENCE_PART", `${gpu.name} is no part that can be fenced; nothing was touched`);
    }
    const before = { disableMask: null, cut: null, linksUp: null };
    runs.set(gpu.address, { plan: gpu, strategy, before, reset: false });
  }
  const stray = plan.steps.find((step) => !runs.has(step.gpu));
  if (stray === undefined) return runs;
  throw new FenceError("EFENCE_PLAN", `a step is for ${stray.gpu}, which is not to be touched; nothing was touched`);
}

async function carryOutStep(
  plan: Plan,
  step: PlanStep,
  runs: ReadonlyMap<PciAddress, Run>,
  ports: (address: PciAddress) => GpuPort,
  report: Report,
): Promise<void> {
  const run = runs.get(step.gpu);
  if (run === undefined) return;
  delete run.failure;
  try {
    const port = ports(step.gpu);
    if (step.action === "cut") {
      report(run.plan, "sequence", cutDetail(run.plan));
      run.strategy.cut(port, run.plan.cutLinks);
    } else {
      report(run.plan, "far ends");
      requireFarEndsCut(plan, step, runs, ports);
      const onStep = (at: FenceStep) => {
        run.reset ||= at === "sbr";
        report(run.plan, at, at === "sequence" ? cutDetail(run.plan) : undefined);
      };
      await runSteps(resetAndCut(port, run.strategy, () => run.plan.cutLinks, onStep));
    }
  } catch (error) {
    run.failure = reasonOf(error);
    report(run.plan, "failed", run.failure);
  }
}

/** Between reset and fence all links of the GPU may come up, so nothing may answer at their far ends. */
function requireFarEndsCut(
  plan: Plan,
  step: PlanStep,
  runs: ReadonlyMap<PciAddress, Run>,
  ports: (address: PciAddress) => GpuPort,
): void {
  const linksOf = new Map<PciAddress, number[]>();
  for (const { gpu, link } of step.farEndsFirst) {
    const links = linksOf.get(gpu) ?? [];
    links.push(link);
    linksOf.set(gpu, links);
  }
  const cutAt = new Map<PciAddress, ReadonlySet<number>>();
  for (const [address, links] of linksOf) {
    const far = runs.get(address);
    const reading = far && readGpu(far.plan, () => ports(address));
    const cut = new Set(reading?.readable === true ? reading.snapshot.cut : []);
    cutAt.set(address, cut);
    const open = links.filter((link) => !cut.has(link));
    if (open.length === 0) continue;
    const why = reading?.readable === false ? ` (${reading.reason})` : "";
    const end = `link ${open.join(", ")} of ${far?.plan.name ?? address}`;
    throw new FenceError("EFENCE_FAR_END", `not reset: the far end, ${end}, is not proven cut${why}`);
  }
  // What may not be touched is cut at this end alone.
  const opened = openedByReset(plan, step.gpu, (at) => (runs.has(at) ? (cutAt.get(at) ?? new Set()) : undefined));
  invariant(opened.length === 0, opened.join("; "));
}

function conclude(verdict: GpuVerification, run: Run | undefined): GpuFenceResult {
  const wrong = run?.failure ?? (verdict.open ? verdict.reason : keptButCut(verdict, run));
  const reason = wrong ?? verdict.reason;
  return {
    name: verdict.name,
    address: verdict.address,
    before: run?.before ?? { disableMask: null, cut: null, linksUp: null },
    after: verdict.actual,
    evidence: verdict.evidence,
    verified: !verdict.open && wrong === undefined,
    touched: run !== undefined,
    reset: run?.reset ?? false,
    ...(reason === undefined ? {} : { reason }),
  };
}

/** The fence holds, but somebody goes without a link that was to stay. */
function keptButCut(verdict: GpuVerification, run: Run | undefined): string | undefined {
  const cut = new Set(verdict.actual.cut);
  const lost = run?.plan.keptLinks.filter((link) => cut.has(link)) ?? [];
  if (lost.length === 0) return undefined;
  return `link ${lost.join(", ")} is cut although it is to stay up; only a reset clears it`;
}

function cutDetail(gpu: GpuPlan): string {
  if (gpu.cutLinks.length === 0) return "no link to cut";
  const mask = gpu.disableMask === null ? "" : ` (mask ${hex32(gpu.disableMask)})`;
  return `cut ${gpu.cutLinks.length === 1 ? "link" : "links"} ${gpu.cutLinks.join(", ")}${mask}`;
}
