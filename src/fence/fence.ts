import type { GpuPlan } from "../isolation/plan.js";
import type { Evidence } from "../machine/machine.js";
import type { Steps } from "../vfio/steps.js";
import { PCI_COMMAND } from "./config_offsets.js";
import { FenceError, hex32, reasonOf } from "./error.js";
import type { GpuPort } from "./gpu_port.js";
import { invariant } from "./invariants.js";
import type { FenceStep } from "./progress.js";
import { identifyAndSave, resetAndCut } from "./reset_and_cut.js";
import { hasItsAddresses, restoreConfig, type SavedConfig } from "./saved_config.js";
import { type FenceStrategy, strategyFor } from "./strategy.js";
import { type GpuReading, judgeTouched, type LinkSnapshot, readGpu } from "./verify.js";

/**
 * Where a GPU's fence stands. Only `in force` lets anybody in: every link that the plan cuts was read back as cut.
 */
export type FenceState =
  | { kind: "unfenced" }
  /** Between the beginning of a reset and the read-back after it. */
  | { kind: "renewing" }
  | {
      kind: "in force";
      /** Since when without interruption, in milliseconds as `Date.now()` gives them. */
      since: number;
      /** What was read last. */
      snapshot: LinkSnapshot;
      evidence: Evidence;
      /** Links that are to be up and are still cut, ascending: only the GPU's next reset brings them back. */
      stillCut: readonly number[];
    }
  | { kind: "failed"; reason: string };

/** Links at another owner's GPU that a reset might join. */
export interface FarEnds {
  fence: Fence;
  links: readonly number[];
}

/** What a fence has around it: those at the far ends of its GPU's links. */
export interface Neighbourhood {
  /** @throws FenceError `EFENCE_PLAN` for a GPU whose reset is not planned: its far ends are not known to be all */
  farEndsOf(fence: Fence): readonly FarEnds[];
  /** Waits until nobody at the far ends is being reset, and keeps them from it while the work is done. */
  inTurn(fence: Fence, work: () => Steps): Steps;
  report(fence: Fence, step: FenceStep, detail?: string): void;
  /**
   * The rule, by what was read, for a client that is at this GPU or is about to be.
   * @throws FenceError `EFENCE_INVARIANT`
   */
  requireRule(fence: Fence): void;
  /**
   * The rule for this GPU's reset, which is about to begin.
   * @param proven the links that were just read as cut, by GPU at the far ends
   * @param besides GPUs that nobody can reach
   * @throws FenceError `EFENCE_INVARIANT`
   */
  requireFarEnds(fence: Fence, proven: ReadonlyMap<Fence, ReadonlySet<number>>, besides: ReadonlySet<Fence>): void;
}

/** One GPU's fence: what keeps its plan's links cut, and what is known about that. */
export class Fence {
  /** A client is or may be there, or has left something running that no reset has ended yet. */
  attached = false;
  readonly #open: () => GpuPort;
  readonly #around: Neighbourhood;
  #plan: GpuPlan;
  #state: FenceState = { kind: "unfenced" };
  #port: GpuPort | undefined;
  /** Config space as it was before anybody else had the GPU. */
  #saved: SavedConfig | undefined;

  /** @param open called once, when the GPU is first touched */
  constructor(plan: GpuPlan, open: () => GpuPort, around: Neighbourhood) {
    this.#plan = plan;
    this.#open = open;
    this.#around = around;
  }

  get plan(): GpuPlan {
    return this.#plan;
  }

  get state(): FenceState {
    return this.#state;
  }

  /** @throws what opening it throws */
  get port(): GpuPort {
    this.#port ??= this.#open();
    return this.#port;
  }

  /**
   * Resets the GPU and fences it again: waits for its turn, proves its far ends (cutting them again when needed), then
   * resets, restores, cuts and reads back. When it is cancelled or fails once the reset has begun, config space is restored
   * and the links are cut at once all the same; the state is `failed` then.
   * @throws FenceError and whatever the reset throws; the state is `failed` then. `EFENCE_FAR_END`: the reset was not
   * carried out. `EFENCE_PLAN`: nor was it, since none is planned; the state stays what it was
   */
  *renew(): Steps {
    this.#around.farEndsOf(this);
    yield* this.#around.inTurn(this, () => this.renewNow());
  }

  /**
   * As {@link renew}, for whoever has the turn already.
   * @param besides far ends that need no proof: nobody can reach them, and they are being reset themselves
   */
  *renewNow(besides: ReadonlySet<Fence> = new Set()): Steps {
    let why = "the reset was cancelled before it was over";
    let begun = false;
    try {
      const { strategy, saved } = this.#prepareReset(besides);
      begun = true;
      this.#state = { kind: "renewing" };
      const onStep = (step: FenceStep) =>
        this.#around.report(this, step, step === "sequence" ? cutsOf(this.#plan) : undefined);
      yield* resetAndCut(this.port, strategy, () => this.#plan.cutLinks, onStep, saved);
      this.#confirm();
      why = "";
    } catch (error) {
      why = reasonOf(error);
      throw error;
    } finally {
      if (why !== "") this.#fail(why, begun);
    }
    this.#around.report(this, "done", cutsOf(this.#plan));
  }

  /**
   * Sets the plan's bits without a reset, and reads back; config space that somebody else's reset took is restored first.
   * While the GPU is being renewed there is nothing to do: that ends with the plan of the moment. A fence that has failed
   * under a client stays failed, for only a reset gives that client a GPU to rely on.
   * @throws FenceError the state is `failed` then
   */
  cut(): void {
    if (this.#state.kind === "renewing") return;
    try {
      this.#cutBy(this.#plan);
    } catch (error) {
      this.#fail(reasonOf(error), false);
      throw error;
    }
  }

  /**
   * Reads the GPU now: a fence that is in force and found open, or unreadable, has failed. Changes no link; registers that
   * do not answer because a client's driver has switched their engine off are switched on again.
   */
  readBack(): void {
    if (this.#state.kind !== "in force") return;
    const reading = this.#readAwake();
    const open = this.#openIn(reading);
    if (open !== undefined) this.#fail(open, false);
    else if (reading.readable) this.#keep(reading);
  }

  /**
   * Looks whether somebody else has reset the GPU, which a fence that is in force can not keep from happening, and cuts
   * its links at once if so. Its client, if there is one, goes on with a reset of its own: until then the fence counts as
   * failed, though its links are cut again.
   * @returns whether it was found open
   */
  lookAfter(): boolean {
    if (this.#state.kind !== "in force" || this.#isAsRead(this.#state.evidence)) return false;
    const reading = this.#readAwake();
    const open = this.#openIn(reading);
    if (open === undefined) {
      if (reading.readable) this.#keep(reading);
      return false;
    }
    this.#around.report(this, "found open", `somebody else has reset it, or it is broken: ${open}`);
    try {
      this.#cutBy(this.#plan);
      if (this.attached)
        this.#fail("somebody else has reset it; its links are cut again, its client has to reset it", false);
    } catch (error) {
      this.#fail(`it was found open (${open}) and cannot be cut again: ${reasonOf(error)}`, false);
    }
    return true;
  }

  /**
   * Proves that these links are cut at this end, by a reading made now; cuts again when they are not.
   * @returns all links that were read as cut
   * @throws FenceError `EFENCE_FAR_END` when it cannot be proven
   */
  proveCut(links: readonly number[]): ReadonlySet<number> {
    invariant(this.#state.kind !== "renewing", `${this.#plan.name} is not being reset while another relies on it`);
    const reading = this.#readCut(links);
    if (reading.cut !== undefined) return reading.cut;
    this.#around.report(this, "far ends", `${reading.why}: cut again for another GPU's reset`);
    let why: string;
    try {
      this.cut();
      const again = this.#readCut(links);
      if (again.cut !== undefined) return again.cut;
      why = again.why;
    } catch (error) {
      why = reasonOf(error);
    }
    throw new FenceError("EFENCE_FAR_END", `the far end, ${linksOf(this.#plan, links)}, is not proven cut: ${why}`);
  }

  /**
   * What has to hold before a client is let in or told that a reset is done.
   * @throws FenceError `EFENCE_INVARIANT`
   */
  requireClosed(): void {
    invariant(this.#state.kind === "in force", `nobody is let in to ${this.#plan.name} before its fence is in force`);
    this.#around.requireRule(this);
  }

  /**
   * Follows another plan for this GPU. What it cuts is cut first, as by {@link cut}; only then it is the plan. A GPU that
   * is no longer to be touched is `unfenced`; one that cannot be cut has `failed`.
   */
  follow(plan: GpuPlan): void {
    invariant(plan.address === this.#plan.address, `${plan.address} is planned for by its own fence`);
    const renewing = this.#state.kind === "renewing";
    try {
      if (!renewing && !plan.untouched) this.#cutBy(plan);
    } catch (error) {
      this.#fail(reasonOf(error), false);
    }
    this.#plan = plan;
    if (!renewing && plan.untouched) this.#state = { kind: "unfenced" };
  }

  /** Everything that has to hold before a reset may begin; nothing has been done to this GPU when it throws. */
  #prepareReset(besides: ReadonlySet<Fence>): { strategy: FenceStrategy; saved: SavedConfig } {
    const strategy = strategyOf(this.#plan);
    this.#saved ??= identifyAndSave(this.port, strategy);
    this.#around.report(this, "far ends");
    const farEnds = this.#around.farEndsOf(this).filter(({ fence }) => !besides.has(fence));
    const proven = new Map(farEnds.map(({ fence, links }) => [fence, proveFarEnd(fence, links)]));
    this.#around.requireFarEnds(this, proven, besides);
    return { strategy, saved: this.#saved };
  }

  /** Cuts what the plan cuts, which from then on is the fence's plan. */
  #cutBy(plan: GpuPlan): void {
    const strategy = strategyOf(plan);
    const { port } = this;
    this.#saved ??= identifyAndSave(port, strategy);
    // Found open: nobody may take the fence for closed while it is being mended.
    if (this.#state.kind === "in force" && this.#openIn(this.#read()) !== undefined) this.#state = { kind: "unfenced" };
    if (!hasItsAddresses(port, this.#saved)) restoreConfig(port, this.#saved);
    this.#around.report(this, "sequence", cutsOf(plan));
    strategy.cut(port, plan.cutLinks);
    this.#plan = plan;
    this.#confirm();
  }

  /** @throws FenceError `EFENCE_READBACK` when what was cut does not read as cut */
  #confirm(): void {
    this.#around.report(this, "read back");
    const reading = this.#read();
    const open = this.#openIn(reading);
    if (open !== undefined) throw new FenceError("EFENCE_READBACK", open);
    if (reading.readable) this.#keep(reading);
  }

  /** Why the fence is open by this reading. */
  #openIn(reading: GpuReading): string | undefined {
    const { open, reason } = judgeTouched(this.#plan, reading);
    return open ? (reason ?? "a link is not proven cut") : undefined;
  }

  /** Takes over what was read as cut. */
  #keep({ snapshot, evidence }: Extract<GpuReading, { readable: true }>): void {
    const { kind } = this.#state;
    if (kind === "failed" && this.attached) return;
    const since = this.#state.kind === "in force" ? this.#state.since : Date.now();
    const cut = new Set(snapshot.cut);
    const stillCut = this.#plan.keptLinks.filter((link) => cut.has(link));
    const known = this.#state.kind === "in force" ? this.#state.stillCut.join() : "";
    this.#state = { kind: "in force", since, snapshot, evidence, stillCut };
    if (stillCut.length === 0 || stillCut.join() === known) return;
    this.#around.report(this, "awaits reset", `its next reset brings back ${linksOf(this.#plan, stillCut)}`);
  }

  /** @param begun a reset has left the GPU in the middle */
  #fail(reason: string, begun: boolean): void {
    this.#state = { kind: "failed", reason };
    if (begun) this.#silence();
    this.#around.report(this, "failed", reason);
  }

  /** Nobody is to reach a GPU that was left in the middle of a reset, from whichever side. */
  #silence(): void {
    try {
      this.port.holdNpuLinks?.();
      this.port.writeConfig(PCI_COMMAND, 2, 0);
    } catch {
      // It does not even answer.
    }
  }

  /** Whether the registers that cut links read as they did, at a glance: nothing is switched on for it. */
  #isAsRead({ registers }: Evidence): boolean {
    const guarded = new Set(strategyOf(this.#plan).guarded.map(({ offset }) => offset));
    try {
      return registers.every(({ offset, value }) => !guarded.has(offset) || this.port.readBar0(offset) === value);
    } catch {
      return false;
    }
  }

  #read(): GpuReading {
    return readGpu(this.#plan, () => this.port);
  }

  /** Reads, and again with the link unit on when it did not answer. No link is cut for it: what is open is to be seen. */
  #readAwake(): GpuReading {
    const reading = this.#read();
    if (reading.readable) return reading;
    try {
      strategyOf(this.#plan).cut(this.port, []);
    } catch {
      return reading;
    }
    return this.#read();
  }

  /** All links that are cut at this moment, or why these are not proven to be. */
  #readCut(links: readonly number[]): { cut: ReadonlySet<number> } | { cut?: never; why: string } {
    if (this.#plan.untouched) return { why: `${this.#plan.name} is not to be touched` };
    const reading = this.#read();
    if (!reading.readable) return { why: reading.reason };
    const cut = new Set(reading.snapshot.cut);
    const up = new Set(reading.snapshot.linksUp);
    const open = links.filter((link) => !cut.has(link) || up.has(link));
    return open.length === 0 ? { cut } : { why: `not read as cut: ${linksOf(this.#plan, open)}` };
  }
}

function cutsOf(plan: GpuPlan): string {
  const { cutLinks, disableMask } = plan;
  if (cutLinks.length === 0) return "no link to cut";
  const mask = disableMask === null ? "" : ` (mask ${hex32(disableMask)})`;
  return `cut ${linksOf(plan, cutLinks)}${mask}`;
}

/** @throws FenceError for a GPU that cannot be fenced, or is not to be touched */
function strategyOf({ name, part, untouched }: GpuPlan): FenceStrategy {
  const strategy = strategyFor(part);
  if (strategy === undefined) throw new FenceError("EFENCE_PART", `${name} is no part that can be fenced`);
  if (untouched) throw new FenceError("EFENCE_PLAN", `${name} is not to be touched`);
  return strategy;
}

/** @throws FenceError `EFENCE_FAR_END`: the reset that relies on it is not carried out */
function proveFarEnd(fence: Fence, links: readonly number[]): ReadonlySet<number> {
  try {
    return fence.proveCut(links);
  } catch (error) {
    if (error instanceof FenceError && error.code === "EFENCE_INVARIANT") throw error;
    throw new FenceError("EFENCE_FAR_END", `not reset: ${reasonOf(error)}`);
  }
}

function linksOf({ name }: GpuPlan, links: readonly number[]): string {
  return `${links.length === 1 ? "link" : "links"} ${links.join(", ")} of ${name}`;
}
