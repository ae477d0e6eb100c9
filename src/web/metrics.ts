import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { RejectedChange, ServerStatus, WorkerEvent } from "../cli/serve/server_status.js";
import { VERSION } from "../cli/version.js";
import type { FenceStep } from "../fence/progress.js";
import type { Machine } from "../machine/machine.js";
import type { Look } from "./looks.js";

/** In seconds: a virtual reset takes 0.1, a real one up to a few seconds. */
const BUCKETS = [0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10];
const STATES = ["unfenced", "renewing", "in force", "failed"] as const;
const GPU = ["gpu", "address"] as const;

type GpuLabels = Record<(typeof GPU)[number], string>;
type GpuCounter = Counter<(typeof GPU)[number]>;

/**
 * A serving in numbers, for Prometheus. Counters count every event from the first one on; what is now is read when it is
 * asked for. Series of GPUs are as many as the machine has, and there from the beginning, at 0.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #gpus: ReadonlyMap<string, GpuLabels>;
  /** When the reset of a GPU that is under way began, by the clock of its events. */
  readonly #began = new Map<string, number>();
  readonly #steps: ReadonlyMap<FenceStep, GpuCounter>;
  readonly #duration: Histogram<(typeof GPU)[number]>;
  readonly #connections = this.#counter("connections", "Clients that have connected to a function's socket.");
  readonly #refused = this.#counter("refused_connections", "Clients turned away, for a function has one at a time.");
  readonly #rejected = this.#counter("http_rejected_changes", "Changes of assignments that were refused over HTTP.");
  readonly #inForce = this.#gauge("fence_in_force", "Whether every link that is to be cut reads as cut.", [
    ...GPU,
    "assignment",
  ]);
  readonly #state = this.#gauge("fence_state", "Which state the GPU's fence is in: 1 for that one, 0 for the others.", [
    ...GPU,
    "state",
  ]);
  readonly #clients = this.#gauge("clients_connected", "Functions that have a client.", ["assignment"]);
  readonly #served = this.#gauge("functions_served", "Functions with a socket.", ["assignment"]);
  readonly #watchers = this.#gauge("http_watchers", "Pages, and others, that follow /api/events.", []);

  constructor({ name, virtual, gpus }: Pick<Machine, "name" | "virtual" | "gpus">) {
    this.#gpus = new Map(gpus.map(({ name: gpu, address }) => [gpu, { gpu, address }]));
    const steps: [FenceStep, string, string][] = [
      ["sbr", "resets", "Resets of the GPU, each of which opens its links until it is fenced again."],
      ["guarded write", "trapped_writes", "Writes of clients to registers that cut links."],
      ["failed", "fence_failures", "Times that the fence has failed; the GPU serves nobody then."],
      ["found open", "fences_found_open", "Times that the fence was found open: somebody else has reset the GPU."],
    ];
    this.#steps = new Map(steps.map(([step, counter, help]) => [step, this.#gpuCounter(counter, help)]));
    this.#duration = new Histogram({
      name: "linkfence_refence_duration_seconds",
      help: "From the beginning of a reset until the GPU's links read as cut again.",
      labelNames: GPU,
      buckets: BUCKETS,
      registers: [this.#registry],
    });
    for (const labels of this.#gpus.values()) this.#duration.zero(labels);
    const build = this.#gauge("build_info", "What runs, and what it serves.", ["version", "machine", "virtual"]);
    build.set({ version: VERSION, machine: name, virtual: String(virtual) }, 1);
    const start = { name: "process_start_time_seconds", help: "When the server was started.", labelNames: [] };
    new Gauge({ ...start, registers: [this.#registry] }).set(performance.timeOrigin / 1000);
  }

  /** What the text is to be called. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  count(event: WorkerEvent | RejectedChange): void {
    if (event.kind === "connect") this.#connections.inc();
    else if (event.kind === "refuse") this.#refused.inc();
    else if (event.kind === "rejected") this.#rejected.inc();
    else if (event.kind === "fence") this.#countStep(event.event.gpu, event.event.step, event.at);
  }

  /** All of it in the text format of Prometheus. */
  text({ status }: Look, watchers: number): Promise<string> {
    // All gauges are set before anything is waited for, so nobody ever reads half of them.
    this.#read(status);
    this.#watchers.set(watchers);
    return this.#registry.metrics();
  }

  #countStep(gpu: string, step: FenceStep, at: number | undefined): void {
    const labels = this.#gpus.get(gpu);
    if (labels === undefined) return;
    this.#steps.get(step)?.inc(labels);
    if (at === undefined) return;
    if (step === "sbr") this.#began.set(gpu, at);
    if (step !== "done" && step !== "failed") return;
    const began = this.#began.get(gpu);
    this.#began.delete(gpu);
    if (step === "done" && began !== undefined) this.#duration.observe(labels, (at - began) / 1000);
  }

  #read({ assignments, functions }: ServerStatus): void {
    for (const gauge of [this.#inForce, this.#state, this.#clients, this.#served]) gauge.reset();
    for (const { name } of assignments) {
      const own = functions.filter(({ assignment }) => assignment === name);
      this.#served.set({ assignment: name }, own.filter(({ socket }) => socket !== null).length);
      this.#clients.set({ assignment: name }, own.filter(({ client }) => client !== null).length);
    }
    for (const { name, address, assignment, fence } of functions) {
      if (fence === undefined) continue;
      const labels = { gpu: name, address };
      this.#inForce.set({ ...labels, assignment }, fence.state === "in force" ? 1 : 0);
      for (const state of STATES) this.#state.set({ ...labels, state }, fence.state === state ? 1 : 0);
    }
  }

  #gpuCounter(name: string, help: string): GpuCounter {
    const registers = [this.#registry];
    const counter = new Counter({ name: `linkfence_${name}_total`, help, labelNames: GPU, registers });
    for (const labels of this.#gpus.values()) counter.inc(labels, 0);
    return counter;
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name: `linkfence_${name}_total`, help, registers: [this.#registry] });
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> {
    return new Gauge({ name: `linkfence_${name}`, help, labelNames: [...labelNames], registers: [this.#registry] });
  }
}
