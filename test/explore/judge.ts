import { UsageError } from "../../src/cli/failure.js";
import { FenceError } from "../../src/fence/error.js";
import type { Fences } from "../../src/fence/fences.js";
import { brokenInvariants, type GpuMoment, openedByReset } from "../../src/fence/invariants.js";
import type { PciAddress } from "../../src/pci/address.js";
import { VfioError } from "../../src/vfio/error.js";
import type { ExploredHardware } from "./explored_hardware.js";
import type { Operation } from "./explored_server.js";

const RULE = /a rule of the fence does not hold/;

/** What must hold at every moment, whatever the server believes. */
export class Judge {
  /** What was found broken, each once. */
  readonly findings: string[] = [];
  /** Moments looked at. */
  moments = 0;
  /** Nothing has gone wrong so far, so nothing may fail. */
  calm = true;
  /** Nothing new is to be seen: these moments were looked at before. */
  muted = false;
  readonly #hardware: ExploredHardware;

  constructor(hardware: ExploredHardware) {
    this.#hardware = hardware;
  }

  /** The rules of the fence, by what the hardware really has. */
  look(fences: Fences | undefined): void {
    if (this.muted) return;
    this.moments++;
    if (fences !== undefined && !this.#hardware.dead) {
      // While another plan is gone over to, each fence has its own already.
      const plan = { ...fences.plan, gpus: fences.all.map((fence) => fence.plan) };
      for (const line of brokenInvariants(plan, (at) => this.#momentOf(fences, at))) this.#find(line);
    }
    this.#lookAtOwners();
  }

  /** A reset of the server's is about to begin: no link may open by it that anybody could use. */
  resetting(fences: Fences | undefined, gpu: PciAddress): void {
    if (fences === undefined || this.muted) return;
    const truth = this.#hardware.of(gpu);
    const cut = (at: PciAddress) => {
      const isReached = truth.touchedBy !== undefined || this.#hardware.of(at).touchedBy !== undefined;
      return isReached ? this.#hardware.cutAt(at) : undefined;
    };
    for (const line of openedByReset(fences.plan, gpu, cut)) this.#find(line);
  }

  /** A reset by the server, or a look, has ended: what it says of the GPU is what is. */
  ended(operation: Operation, error: unknown, fences: Fences): void {
    const { kind, name, endpoint, resetsBefore } = operation;
    if (error instanceof Error && RULE.test(error.message)) this.#find(`${name}: ${error.message}`);
    if (error !== undefined && !isExpected(error)) this.#find(`${name}: threw ${String(error)}`);
    if (error !== undefined && this.calm && !(error instanceof UsageError)) {
      this.#find(`${name}: failed although nothing went wrong: ${String(error)}`);
    }
    if (error !== undefined || endpoint === undefined) return;
    const { gpu } = endpoint;
    const truth = this.#hardware.of(gpu);
    if (kind === "leave" && truth.touchedBy !== undefined && !truth.open) {
      this.#find(`${gpu}: its client is gone and counts as gone, but what it left running was not ended by a reset`);
    }
    if (kind === "open" && endpoint.session !== "open") return;
    if (kind !== "leave" && truth.resets === resetsBefore) this.#find(`${name}: answered without a reset`);
    const { state, plan } = fences.of(gpu);
    if (state.kind !== "in force" && endpoint.session !== "none") {
      this.#find(`${name}: answered without error, but its fence is ${state.kind}`);
    }
    if (truth.resetOutside || state.kind !== "in force") return;
    const cut = this.#hardware.cutAt(gpu);
    const open = plan.cutLinks.filter((link) => !cut.has(link));
    if (open.length > 0) this.#find(`${name}: answered, but link ${open.join(", ")} is not cut`);
  }

  /** Said by the fences themselves. */
  told(gpu: string, step: string, detail: string | undefined): void {
    if (detail !== undefined && RULE.test(detail)) this.#find(`${gpu}: ${detail}`);
    if (step === "failed" && this.calm) this.#find(`${gpu} failed although nothing went wrong: ${detail}`);
  }

  /** Something that must never be. */
  find(line: string): void {
    this.#find(line);
  }

  #momentOf(fences: Fences, at: PciAddress): GpuMoment | undefined {
    const truth = this.#hardware.truth.get(at);
    if (truth === undefined) return undefined;
    const { kind } = fences.of(at).state;
    // What somebody else has done a moment ago the fence cannot know before it looks again.
    const state = kind === "in force" && truth.resetOutside ? "unfenced" : kind;
    return { state, attached: truth.touchedBy !== undefined, cut: this.#hardware.cutAt(at) };
  }

  /** No plan asked: two owners who both touch GPUs have no link between them. */
  #lookAtOwners(): void {
    for (const gpu of this.#hardware.machine.gpus) {
      const owner = this.#hardware.of(gpu.address).touchedBy;
      if (owner === undefined) continue;
      for (const { number, far } of gpu.links) {
        if (far.kind !== "gpu" || far.link === undefined) continue;
        const other = this.#hardware.of(far.gpu).touchedBy;
        if (other === undefined || other === owner) continue;
        if (this.#hardware.cutAt(gpu.address).has(number) || this.#hardware.cutAt(far.gpu).has(far.link)) continue;
        this.#find(`${owner} and ${other} are joined by link ${number} of ${gpu.address} to ${far.gpu}`);
      }
    }
  }

  #find(line: string): void {
    if (!this.findings.includes(line)) this.findings.push(line);
  }
}

function isExpected(error: unknown): boolean {
  const kinds = [VfioError, FenceError, UsageError];
  return (
    kinds.some((kind) => error instanceof kind) || (error instanceof Error && /within its time/.test(error.message))
  );
}
