import { rmSync } from "node:fs";
import { MessageChannel, type MessagePort, receiveMessageOnPort, type Worker } from "node:worker_threads";
import { createEventfd, type Fd, sharedSpareQueues, signalEventfd, startWorker } from "../os/index.js";
import type { ServerEvent } from "./endpoint.js";
import { type Call, type Notice, type WorkerInput, WorkerState } from "./worker_protocol.js";

/** How a server in a worker is started. */
export interface StartOptions {
  /** A module that exports `createDevices` (see `CreateDevices`), loaded in the worker. */
  module: URL | string;
  /** Handed to `createDevices`, structured-cloned. */
  data?: unknown;
  /** As in `ServerOptions`. */
  spin?: number;
  /** As in `ServerOptions`. */
  group?: number | undefined;
  /** How long a worker that is to stop gets for that before it is terminated, in milliseconds; 5000 unless given. */
  stopPatience?: number;
  onEvent?: (event: ServerEvent) => void;
  /** Told what the module tells, see `CreateDevices`. */
  onNews?: (news: unknown) => void;
}

/** How long a worker gets to end in good order when the process exits, in milliseconds. */
const EXIT_PATIENCE = 40;
/** See {@link StartOptions.stopPatience}. */
const STOP_PATIENCE = 5000;
/** Serving makes next to no garbage: a small young generation saves each worker 1.4 of 11.8 MB. */
const LIMITS = { maxYoungGenerationSizeMb: 2 };
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const running = new Set<RunningServer>();

/** A server in a worker: this thread stays free. */
export class RunningServer {
  /** Settled when the server has ended: rejected when its worker failed. */
  readonly done: Promise<void>;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #wake: Fd;
  readonly #state: Int32Array;
  readonly #calls = new Map<number, { resolve: (result: unknown) => void; reject: (error: unknown) => void }>();
  #sockets: string[] = [];
  readonly #stopPatience: number;
  #nextCall = 0;
  #onReady: () => void = () => {};

  /** @internal Use {@link startServer}. */
  constructor(options: StartOptions) {
    const { port1, port2 } = new MessageChannel();
    const state = new SharedArrayBuffer(4);
    this.#wake = createEventfd();
    this.#port = port1;
    this.#state = new Int32Array(state);
    const { module, data, spin = 0, group, stopPatience = STOP_PATIENCE } = options;
    this.#stopPatience = stopPatience;
    const input: WorkerInput = {
      module: String(module),
      data,
      spin,
      group,
      port: port2,
      wake: this.#wake.number,
      state,
      spareQueues: sharedSpareQueues(),
    };
    port1.on("message", (notice: Notice) => this.#onNotice(notice, options));
    const worker = { workerData: input, transferList: [port2], resourceLimits: LIMITS };
    this.#worker = startWorker(import.meta.url, "server_worker", worker);
    watchExit(this);
    this.done = new Promise((resolve, reject) => {
      this.#worker.once("error", reject);
      this.#worker.once("exit", () => {
        this.#onExit();
        resolve();
      });
    });
    // Whoever does not ask how it ended is not to be killed by it; stop() and startServer() do ask.
    this.done.catch(() => {});
  }

  /** Absolute paths of the sockets that are served. */
  get sockets(): readonly string[] {
    return this.#sockets;
  }

  /** Resolves when the sockets can be connected to. */
  ready(): Promise<void> {
    const listening = new Promise<void>((resolve) => {
      this.#onReady = resolve;
    });
    const ended = this.done.then(() => {
      throw new Error("the server ended before it listened");
    });
    return Promise.race([listening, ended]);
  }

  /**
   * Sends a message to the module's `onMessage`. The promise has its result, or what it threw: at once, or when the steps
   * have ended that it returned. It is rejected when the server stops before.
   */
  call(message: unknown): Promise<unknown> {
    if (!running.has(this)) return Promise.reject(new Error("the server has ended"));
    const id = this.#nextCall++;
    const result = new Promise<unknown>((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    this.#port.postMessage({ id, message } satisfies Call);
    signalEventfd(this.#wake);
    return result;
  }

  /** Disconnects all clients, removes the sockets and ends the worker. */
  async stop(): Promise<void> {
    this.requestStop();
    const timer = setTimeout(() => void this.#worker.terminate(), this.#stopPatience);
    try {
      await this.done;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @internal Asks the worker to stop. */
  requestStop(): void {
    Atomics.compareExchange(this.#state, 0, WorkerState.RUNNING, WorkerState.STOPPING);
    if (this.#wake.isOpen) signalEventfd(this.#wake);
  }

  /** @internal Stops without the event loop, while the process exits. */
  stopNow(): void {
    this.requestStop();
    Atomics.wait(this.#state, 0, WorkerState.STOPPING, EXIT_PATIENCE);
    // One that did not make it leaves its socket files, which nobody serves any more.
    if (Atomics.load(this.#state, 0) === WorkerState.CLOSED) return;
    for (let last = receiveMessageOnPort(this.#port); last !== undefined; last = receiveMessageOnPort(this.#port)) {
      const notice = last.message as Notice;
      if (notice.kind === "sockets") this.#sockets = notice.sockets;
    }
    for (const path of this.#sockets) rmSync(path, { force: true });
  }

  #onNotice(notice: Notice, { onEvent, onNews }: StartOptions): void {
    if (notice.kind === "event") {
      onEvent?.(notice.event as ServerEvent);
    } else if (notice.kind === "news") {
      onNews?.(notice.news);
    } else if (notice.kind === "sockets") {
      this.#sockets = notice.sockets;
    } else if (notice.kind === "ready") {
      this.#onReady();
    } else {
      const call = this.#calls.get(notice.id);
      this.#calls.delete(notice.id);
      if ("error" in notice) call?.reject(withCode(notice.error, notice.code));
      else call?.resolve(notice.result);
    }
  }

  #onExit(): void {
    unwatchExit(this);
    this.#port.close();
    this.#wake.close();
    for (const { reject } of this.#calls.values()) reject(new Error("the server has ended"));
    this.#calls.clear();
  }
}

/**
 * Serves devices in a worker of its own. All devices of one virtual machine belong into one worker: a worker costs 5 to
 * 10 MB, and a client that is idle costs the others nothing.
 * @throws what loading the module or `createDevices` throws, and `OsError` when a socket cannot be made
 */
export async function startServer(options: StartOptions): Promise<RunningServer> {
  const server = new RunningServer(options);
  await server.ready();
  return server;
}

function withCode(error: unknown, code: unknown): unknown {
  return error instanceof Error && code !== undefined ? Object.assign(error, { code }) : error;
}

function onExit(): void {
  for (const server of running) server.requestStop();
  for (const server of running) server.stopNow();
}

/** A signal that nobody else handles ends the process as it would have, but with the sockets removed. */
function onSignal(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  onExit();
  for (const name of SIGNALS) process.off(name, onSignal);
  process.kill(process.pid, signal);
}

function watchExit(server: RunningServer): void {
  if (running.size === 0) {
    process.on("exit", onExit);
    for (const signal of SIGNALS) process.on(signal, onSignal);
  }
  running.add(server);
}

function unwatchExit(server: RunningServer): void {
  running.delete(server);
  if (running.size > 0) return;
  process.off("exit", onExit);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}
