import type { GpuPlan, Plan } from "../isolation/plan.js";
import type { Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import type { Steps } from "../vfio/steps.js";
import { FenceError } from "./error.js";
import { type FarEnds, Fence, type Neighbourhood } from "./fence.js";
import type { GpuPort } from "./gpu_port.js";
import { brokenInvariants, invariant, openedByReset } from "./invariants.js";
import type { FenceEvent, FenceStep } from "./progress.js";
import { sideBySide } from "./side_by_side.js";
import { Turns } from "./turns.js";
import { type GpuSeen, withEvidence } from "./with_evidence.js";

export interface FencesOptions {
  /** Told what happens; what it throws is ignored, for nobody who watches may stop a fence half way. */
  onEvent?: (event: FenceEvent) => void;
}

/** The fences of a machine's GPUs, which rely on each other: a link has two ends. */
export class Fences {
  readonly #fences: ReadonlyMap<PciAddress, Fence>;
  readonly #turns = new Turns<Fence>((a, b) => a === b || this.#isLinked(a, b));
  readonly #onEvent: (event: FenceEvent) => void;
  #plan: Plan;
  /** By GPU whose reset is planned. */
  #farEnds: ReadonlyMap<Fence, readonly FarEnds[]> = new Map();

  /**
   * Touches nothing yet. Plan for serving with `resetAll`: a GPU whose reset is not planned cannot be renewed.
   * @param ports asked once for each GPU, when it is first touched; never for one that is not to be touched
   * @throws FenceError `EFENCE_PLAN` for a plan that does not isolate
   */
  constructor(plan: Plan, ports: (address: PciAddress) => GpuPort, options: FencesOptions = {}) {
    this.#plan = isolating(plan);
    this.#onEvent = options.onEvent ?? (() => {});
    const around: Neighbourhood = {
      farEndsOf: (fence) => this.#farEndsOf(fence),
      inTurn: (fence, work) => this.#turns.inTurn([fence], work),
      report: (fence, step, detail) => this.#report(fence.plan, step, detail),
      requireRule: (fence) => this.#requireRule(fence),
      requireFarEnds: (fence, proven, besides) => this.#requireFarEnds(fence, proven, besides),
    };
    this.#fences = new Map(
      plan.gpus.map((gpu) => [gpu.address, new Fence(gpu, () => ports(gpu.address), around)] as const),
    );
    this.#farEnds = this.#collectFarEnds();
  }

  get plan(): Plan {
    return this.#plan;
  }

  /** One for each GPU of the machine, in its order, also for those that are not to be touched: they stay `unfenced`. */
  get all(): Fence[] {
    return [...this.#fences.values()];
  }

  /** @throws FenceError `EFENCE_PLAN` when the machine has no GPU there */
  of(address: PciAddress): Fence {
    const fence = this.#fences.get(address);
    if (fence === undefined) throw new FenceError("EFENCE_PLAN", `no GPU at ${address} is planned for`);
    return fence;
  }

  /**
   * Cuts everything that may be touched, then resets side by side whatever the plan resets. A GPU that fails keeps no
   * other from being fenced: look at the states.
   * @throws FenceError `EFENCE_PLAN` when a client is attached, for one GPU's links are open while two are reset at once
   */
  *renewAll(): Steps {
    yield* this.#turns.inTurn(this.all, () => this.#renewAllNow());
  }

  /**
   * Follows another plan: what it cuts in addition is cut at once on every GPU that may be touched, without a reset. What
   * it no longer cuts comes back with the GPU's next reset; until then the state says `stillCut`. A GPU that cannot be
   * cut has failed, and keeps no other from being cut: look at the states.
   * @throws FenceError `EFENCE_PLAN` for a plan that does not isolate or is for other GPUs; nothing has changed then
   */
  replan(plan: Plan): void {
    isolating(plan);
    const plans = new Map(plan.gpus.map((gpu) => [gpu.address, gpu]));
    const strange = [...this.#fences.keys()].find((address) => !plans.has(address));
    if (strange !== undefined || plans.size !== this.#fences.size) {
      throw new FenceError("EFENCE_PLAN", "the plan is for other GPUs than are fenced; nothing was touched");
    }
    // Cuts only add up, so what the former plan keeps apart stays apart until the new one is in force everywhere.
    for (const [address, gpu] of plans) this.of(address).follow(gpu);
    this.#plan = plan;
    this.#farEnds = this.#collectFarEnds();
  }

  /** The machine with what its registers say now, for a plan that knows which GPUs need a reset. */
  seen(machine: Machine): Machine {
    return withEvidence(
      machine,
      this.all.map((fence): GpuSeen => {
        fence.readBack();
        const { state, plan } = fence;
        const unknown = { disableMask: null, cut: null, linksUp: null };
        const base = { address: plan.address, touched: !plan.untouched, reset: true };
        if (state.kind !== "in force") return { ...base, after: unknown, evidence: null };
        return { ...base, after: state.snapshot, evidence: state.evidence };
      }),
    );
  }

  *#renewAllNow(): Steps {
    const client = this.all.find((fence) => fence.attached);
    if (client !== undefined) {
      throw new FenceError("EFENCE_PLAN", `${client.plan.name} has a client: GPUs are reset one after the other now`);
    }
    this.#cutAll();
    const together = new Set(this.#farEnds.keys());
    yield* sideBySide([...together].map((fence) => settled(fence.renewNow(together))));
  }

  #cutAll(): void {
    for (const fence of this.all) {
      if (fence.plan.untouched) continue;
      try {
        fence.cut();
      } catch {
        // Its state says so; each other cut closes something all the same.
      }
    }
  }

  #farEndsOf(fence: Fence): readonly FarEnds[] {
    const farEnds = this.#farEnds.get(fence);
    if (farEnds !== undefined) return farEnds;
    throw new FenceError(
      "EFENCE_PLAN",
      `no reset of ${fence.plan.name} is planned: its far ends are not known to be all`,
    );
  }

  #collectFarEnds(): Map<Fence, FarEnds[]> {
    const collected = new Map<Fence, FarEnds[]>();
    for (const { action, gpu, farEndsFirst } of this.#plan.steps) {
      if (action !== "reset-and-cut") continue;
      const linksAt = new Map<Fence, number[]>();
      for (const end of farEndsFirst) {
        const fence = this.of(end.gpu);
        const links = linksAt.get(fence);
        if (links === undefined) linksAt.set(fence, [end.link]);
        else links.push(end.link);
      }
      collected.set(
        this.of(gpu),
        [...linksAt].map(([fence, links]) => ({ fence, links })),
      );
    }
    return collected;
  }

  /** Whether the reset of one relies on the other's being cut. */
  #isLinked(a: Fence, b: Fence): boolean {
    const relies = (on: Fence, by: Fence) => this.#farEnds.get(by)?.some(({ fence }) => fence === on) === true;
    return relies(a, b) || relies(b, a);
  }

  #requireRule(about: Fence): void {
    const { address } = about.plan;
    const broken = brokenInvariants(
      this.#plan,
      (at) => {
        const { state, attached } = this.of(at);
        const cut = new Set(state.kind === "in force" ? state.snapshot.cut : []);
        return { state: state.kind, attached: attached || at === address, cut };
      },
      address,
    );
    invariant(broken.length === 0, broken.join("; "));
  }

  #requireFarEnds(fence: Fence, proven: ReadonlyMap<Fence, ReadonlySet<number>>, besides: ReadonlySet<Fence>): void {
    const opened = openedByReset(this.#plan, fence.plan.address, (at) => {
      const far = this.#fences.get(at);
      return far === undefined || besides.has(far) ? undefined : (proven.get(far) ?? new Set());
    });
    invariant(opened.length === 0, opened.join("; "));
  }

  #report({ name }: GpuPlan, step: FenceStep, detail: string | undefined): void {
    try {
      this.#onEvent({ gpu: name, step, ...(detail === undefined ? {} : { detail }) });
    } catch {
      // See FencesOptions.onEvent.
    }
  }
}

/** @throws FenceError `EFENCE_PLAN` */
function isolating(plan: Plan): Plan {
  if (plan.isolated) return plan;
  const problem = plan.problems.find((each) => each.severity === "error")?.message ?? "links stay up between owners";
  throw new FenceError("EFENCE_PLAN", `the plan does not isolate: ${problem}; nothing was touched`);
}

/** The steps of one fence, whose state tells how they ended. */
function* settled(steps: Steps): Steps {
  try {
    yield* steps;
  } catch {
    // Said by the fence's state and its event.
  }
}
