import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { ControlRequest } from "../../src/cli/serve/control_protocol.js";
import { FencedServing, type ServingParts } from "../../src/cli/serve/fenced_serving.js";
import { ownedFunctions } from "../../src/cli/serve/hardware.js";
import { loadLedger } from "../../src/cli/serve/ledger_file.js";
import type { VirtualServingData } from "../../src/cli/serve/messages.js";
import type { WorkerEvent } from "../../src/cli/serve/server_status.js";
import { socketPath } from "../../src/cli/serve/socket_names.js";
import { reasonOf } from "../../src/fence/error.js";
import type { Fences } from "../../src/fence/fences.js";
import type { Assignment, Machine } from "../../src/machine/machine.js";
import type { PciAddress } from "../../src/pci/address.js";
import type { Random } from "../fuzz/random.js";
import type { ServedPath } from "./client.js";
import type { Disk } from "./disk.js";
import { assignmentsIn, ExpectedLedger } from "./expected_ledger.js";
import { Finding } from "./finding.js";
import { SimulatedMachine } from "./hardware.js";
import { Judge } from "./judge.js";
import { firstAssignments } from "./machines.js";
import type { SystemCalls } from "./system_calls.js";
import type { Trace } from "./trace.js";
import { SimulatedWorker } from "./worker.js";

const GPU_MEMORY = 1 << 16;
/** Turns of the event loop in which whatever is not waiting for the scheduler has come to an end. */
const MOST_TURNS = 1000;

/** What there is of a simulation apart from one life: it is made once for a process. */
export interface Ground {
  readonly calls: SystemCalls;
  readonly disk: Disk;
  /** A directory for real files and sockets, whose name is short. */
  readonly root: string;
}

type Handle = Parameters<ServingParts["listen"]>[1];

/** One machine, its disk, and the server that runs on it, or does not. */
export class World {
  readonly judge = new Judge();
  readonly machine: Machine;
  hardware: SimulatedMachine;
  worker: SimulatedWorker | undefined;
  /** An attempt to start has begun and not failed, and nothing has ended the server since. */
  isUp = false;
  /** Faults of the hardware, the disk and system calls so far: a failure needs one of them for an excuse. */
  faults = 0;
  readonly #ground: Ground;
  readonly #trace: Trace;
  readonly #data: Omit<VirtualServingData, "assignments">;
  readonly #first: Assignment[];
  readonly #home: string;
  #incarnation = 0;
  #serving: FencedServing | undefined;
  #handle: Handle | undefined;
  /** Calls of the server's main part that have not ended: changes, of which one goes on at a time, starts and stops, the rest. */
  #changes = 0;
  #moves = 0;
  #questions = 0;
  readonly #expected: ExpectedLedger;

  constructor(ground: Ground, trace: Trace, machine: Machine, random: Random) {
    this.#ground = ground;
    this.#home = mkdtempSync(join(ground.root, "life-"));
    this.#trace = trace;
    this.machine = machine;
    const [resetClearsMemory, ramAsBar] = [random.once(2), random.once(2)];
    const socketDir = join(this.#home, "s");
    mkdirSync(socketDir, { mode: 0o700 });
    this.#data = {
      machine,
      socketDir,
      includeHost: false,
      pageSize: 4096,
      gpuMemory: GPU_MEMORY,
      ramAsBar,
      resetClearsMemory,
    };
    this.paths = this.#everyPath();
    this.hardware = this.#newHardware();
    this.#first = firstAssignments(random, machine);
    this.#expected = new ExpectedLedger(machine);
    ground.disk.use(this.#home, this.#stateDir);
    mkdirSync(this.#stateDir, { mode: 0o700 });
  }

  get fences(): Fences | undefined {
    return this.worker?.hardware?.fences;
  }

  /** Whether it can be asked for anything. */
  get listens(): boolean {
    return this.#handle !== undefined && this.#moves === 0;
  }

  /** A change of assignments, a start or a stop is under way. */
  get isChanging(): boolean {
    return this.#changes + this.#moves > 0;
  }

  /** Everything that may be served, whether it is at this moment or not. */
  readonly paths: readonly ServedPath[];

  /** Whose a function is by what is in force now. */
  ownerOf(address: PciAddress): string {
    const gpu = this.machine.bridges.find((bridge) => bridge.address === address)?.gpu ?? address;
    return this.fences?.plan.gpus.find((each) => each.address === gpu)?.assignment ?? "nobody";
  }

  /** What the ledger says. */
  get assignments(): readonly Assignment[] {
    return assignmentsIn(this.#ground.disk.ledger());
  }

  /** Begins to start a server with what the ledger says. */
  start(): void {
    this.#trace.add("a server starts");
    this.isUp = true;
    const before = this.faults;
    const assignments = this.#ledgerNow() ?? this.#first;
    this.#expected.begin(assignments);
    this.#track("move", this.#start(assignments), (failure) => {
      this.#trace.add(`the server ${failure === undefined ? "serves" : `does not start: ${this.#clean(failure)}`}`);
      if (failure === undefined) {
        this.#expected.settle(assignments);
        return;
      }
      this.isUp = false;
      this.#ended();
      requireKnown(failure);
      if (this.faults > before) return;
      throw new Finding(`the server does not start, and nothing was broken: ${reasonOf(failure)}`);
    });
  }

  /** Sends a request that changes the assignments. */
  change(texts: string[]): void {
    const request: ControlRequest =
      texts.length === 1 && texts[0]?.endsWith("=")
        ? { command: "release", name: texts[0].slice(0, -1) }
        : { command: "assign", assign: texts };
    const { disk } = this.#ground;
    const before = disk.faults;
    const alone = this.#changes === 0;
    const end = this.#expected.change(texts);
    const name = `${request.command} ${texts.join(" ")}`;
    this.#trace.add(`asks for ${name}`);
    this.#track("change", this.#ask(request), (failure) => {
      this.#trace.add(`${name}: ${failure === undefined ? "done" : this.#clean(failure)}`);
      if (failure !== undefined) requireKnown(failure);
      if (this.#changes === 0 && alone) end({ failed: failure !== undefined, broken: disk.faults > before });
      this.checkLedger();
    });
  }

  askStatus(): void {
    this.#trace.add("asks for status");
    this.#track("question", this.#ask({ command: "status" }), (failure) => {
      if (failure !== undefined) requireKnown(failure);
    });
  }

  /** Ends the server in good order. */
  stop(): void {
    this.#trace.add("the server is told to stop");
    const serving = this.#serving;
    this.#track("move", serving?.close() ?? Promise.resolve(), (failure) => {
      this.#trace.add(`the server has stopped${failure === undefined ? "" : `: ${this.#clean(failure)}`}`);
      this.isUp = false;
      this.#ended();
    });
  }

  /** Ends the server as the kernel does that kills it, or with the whole machine; hardware may be reset by the way. */
  async kill(random: Random, { power }: { power: boolean }): Promise<void> {
    this.#trace.add(power ? "the power fails" : "the server is killed");
    const { calls, disk } = this.#ground;
    calls.dead = true;
    for (let turn = 0; turn < 5; turn++) await nextTurn();
    calls.dead = false;
    this.hardware.forgetMemory();
    calls.endServer();
    this.#changes = 0;
    this.#moves = 0;
    this.#questions = 0;
    this.isUp = false;
    this.#incarnation++;
    this.#ended();
    // The kernel resets what a process has open, and puts config space back.
    if (!power && random.once(2)) for (const { address } of this.machine.gpus) this.hardware.resetFromOutside(address);
    this.hardware.restoreConfig();
    if (power) {
      disk.losePower(random);
      this.hardware = this.#newHardware();
    }
    disk.moveTo(this.#home, this.#stateDir);
    this.checkLedger();
  }

  /** Waits until nothing of the server's main part goes on without the scheduler. */
  async settled(): Promise<void> {
    if (this.#changes + this.#moves + this.#questions === 0 || this.#ground.calls.dead) return;
    for (let turns = 0; turns < MOST_TURNS; turns++) {
      await nextTurn();
      if (this.#ground.calls.dead) return;
      if ((this.worker?.held ?? 0) === this.#questions + this.#moves + Math.min(1, this.#changes)) return;
    }
    throw new Finding(
      `a call of the server neither ends nor waits for anything (${this.#changes} changes, ${this.#moves} starts and stops, ${this.#questions} questions, ${this.worker?.held} held)`,
    );
  }

  /** @throws Finding when the ledger is neither what it was nor what it is to become */
  checkLedger(): void {
    this.#expected.check(this.#ground.disk.ledger());
  }

  /** What is served has to be what the ledger says, when nothing changes. */
  checkServed(): void {
    if (!this.#expected.isCertain) return;
    const { assignments } = this;
    for (const { address, assignment } of this.fences?.plan.gpus ?? []) {
      const owner = assignments.find(({ members }) => members.includes(address))?.name ?? "host";
      if (owner === assignment) continue;
      throw new Finding(`${address} is served as ${assignment}'s, and the ledger says ${owner}'s`);
    }
  }

  remove(): void {
    this.#ground.disk.use("", "");
    rmSync(this.#home, { recursive: true, force: true });
  }

  get #stateDir(): string {
    return join(this.#home, `state-${this.#incarnation}`);
  }

  #everyPath(): ServedPath[] {
    const everything = [{ name: "everything", members: this.machine.gpus.map(({ address }) => address) }];
    return ownedFunctions(this.machine, everything, { others: false }).map(({ address, kind }) => ({
      path: socketPath(this.machine, this.#data.socketDir, address),
      address,
      kind: kind === "gpu" ? "gpu" : "bridge",
      name: this.machine.gpus.find((gpu) => gpu.address === address)?.name ?? `bridge ${address}`,
    }));
  }

  #newHardware(): SimulatedMachine {
    const { judge } = this;
    const watch = {
      touched: () => judge.look(),
      clientAccess: (gpu: PciAddress) => judge.clientAccess(gpu),
      resetBegins: (gpu: PciAddress) => judge.resetBegins(gpu),
    };
    const hardware = new SimulatedMachine(this.machine, watch, { resetClearsMemory: this.#data.resetClearsMemory });
    judge.hardware = hardware;
    return hardware;
  }

  async #start(assignments: Assignment[]): Promise<void> {
    const settings = {
      data: { ...this.#data, assignments },
      stateDir: this.#stateDir,
      group: undefined,
      form: "qemu" as const,
    };
    const parts: ServingParts = {
      startServer: async (options) => {
        this.worker = new SimulatedWorker(options, this.hardware, (fences) => {
          this.judge.fences = fences;
        });
        await this.worker.ready;
        return this.worker;
      },
      listen: (_, handle) => {
        this.#handle = handle;
        return { close: () => (this.#handle = undefined) };
      },
    };
    const serving = await FencedServing.prepare(settings, { onEvent: (event) => this.#onEvent(event) }, parts);
    this.#serving = serving;
    await serving.start();
  }

  async #ask(request: ControlRequest): Promise<void> {
    if (this.#handle === undefined) throw Object.assign(new Error("nobody listens"), { code: "ECONNREFUSED" });
    await this.#handle(request, () => {});
  }

  #track(kind: "change" | "move" | "question", call: Promise<unknown>, then: (failure?: unknown) => void): void {
    const incarnation = this.#incarnation;
    const count = (by: number) => {
      if (kind === "change") this.#changes += by;
      else if (kind === "move") this.#moves += by;
      else this.#questions += by;
    };
    count(1);
    const end = (failure?: unknown) => {
      if (incarnation !== this.#incarnation || this.#ground.calls.dead) return;
      count(-1);
      try {
        then(failure);
      } catch (finding) {
        this.judge.finding ??= reasonOf(finding);
      }
    };
    call.then(
      () => end(),
      (error) => end(error ?? new Error("nothing was thrown")),
    );
  }

  #ended(): void {
    this.worker = undefined;
    this.#serving = undefined;
    this.#handle = undefined;
    this.judge.serverEnded();
  }

  #onEvent(event: WorkerEvent): void {
    if (event.kind === "fence") {
      const { gpu, step, detail } = event.event;
      this.#trace.add(`fence of ${gpu}: ${step}${detail === undefined ? "" : `: ${detail}`}`);
      return;
    }
    if (event.kind === "unmodelled" || !("socket" in event)) return;
    const served = this.paths.find(({ path }) => path === event.socket);
    const words =
      event.kind === "disconnect"
        ? `: ${event.reason}`
        : event.kind === "error"
          ? `: ${event.message.split("\n")[0]}`
          : "";
    this.#trace.add(`server: ${event.kind} ${served?.name}${this.#clean(words)}`);
    if (served?.kind === "gpu" && event.kind === "connect") this.judge.clientCame(served.address);
    if (served?.kind === "gpu" && event.kind === "disconnect") this.judge.clientLeft(served.address);
    if (event.kind === "error" && event.message.includes("\n    at ") && !isFaultOf(event.message)) {
      this.judge.finding ??= `an error of an unexpected kind: ${event.message}`;
    }
  }

  #ledgerNow(): Assignment[] | undefined {
    this.checkLedger();
    const ledger = loadLedger(this.#stateDir);
    return ledger?.assignments.map(({ name, members }) => ({ name, members }));
  }

  #clean(words: unknown): string {
    return (words instanceof Error ? words.message : String(words))
      .replaceAll(this.#home, "")
      .replace(/process \d+/g, "process");
  }
}

/** @throws Finding for a failure that is a defect: others have a code */
function requireKnown(failure: unknown): void {
  if (failure instanceof Error && "code" in failure) return;
  throw new Finding(`a failure of an unexpected kind: ${failure instanceof Error ? failure.stack : failure}`);
}

/** System calls that were made to fail are told with where they were made. */
function isFaultOf(message: string): boolean {
  return /^(OsError: )?\w+.*: (EMFILE|ENOMEM|EAGAIN|EINTR|EPIPE|ECONNRESET)\n/.test(message);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
