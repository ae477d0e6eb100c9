import { AssignedFunctions } from "../../src/cli/serve/assigned_functions.js";
import type { Request, ServingEvent, VirtualServingData } from "../../src/cli/serve/messages.js";
import { VirtualHardware } from "../../src/cli/serve/virtual_hardware.js";
import type { Fences } from "../../src/fence/fences.js";
import type { Steps } from "../../src/vfio/index.js";
import type { Serving, StartOptions } from "../../src/vfio-user/index.js";
import { VfioUserServer } from "../../src/vfio-user/server.js";
import { TaskRunner } from "../../src/vfio-user/task_runner.js";
import { clock } from "./clock.js";
import type { SimulatedMachine } from "./hardware.js";

interface Call {
  message: unknown;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/**
 * What `startServer` runs in a worker, on this thread instead: the same functions, fences and server, whose turn comes when
 * the scheduler says so. Messages between it and its starter are on their way until they are delivered.
 */
export class SimulatedWorker {
  /** Resolved when everything is fenced and the sockets can be connected to. */
  readonly ready: Promise<void>;
  readonly done: Promise<void>;
  hardware: VirtualHardware | undefined;
  server: VfioUserServer | undefined;
  readonly #data: VirtualServingData;
  readonly #options: StartOptions;
  readonly #machine: SimulatedMachine;
  readonly #boot = new TaskRunner();
  #serving: Serving | undefined;
  /** What the starter has sent, and what is to happen at the starter's. */
  readonly #inbox: (() => void)[] = [];
  readonly #outbox: (() => void)[] = [];
  /** What the worker is at, and what becomes of it when the worker ends before. */
  readonly #running = new Set<() => void>();
  readonly #calls = {};
  #resolveReady: () => void = () => {};
  #rejectReady: (error: unknown) => void = () => {};
  #resolveDone: () => void = () => {};

  /** @param onFences told of the fences when they are there, before anything is done by them */
  constructor(
    options: StartOptions,
    machine: SimulatedMachine,
    private readonly onFences: (fences: Fences) => void,
  ) {
    this.#options = options;
    this.#machine = machine;
    this.#data = structuredClone(options.data) as VirtualServingData;
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
    this.#inbox.push(() => this.#begin());
  }

  /** How much the starter waits for: each thing that it has asked for and not been told the end of. */
  get held(): number {
    return this.#inbox.length + this.#running.size + this.#outbox.length;
  }

  get hasMail(): boolean {
    return this.#inbox.length + this.#outbox.length > 0;
  }

  /** Delivers the next message of one direction, if there is one, else of the other. */
  deliver(toWorker: boolean): void {
    const box = (toWorker && this.#inbox.length > 0) || this.#outbox.length === 0 ? this.#inbox : this.#outbox;
    box.shift()?.();
  }

  /** When it has to go on by itself, whatever comes; infinite when it only waits for others. */
  get deadline(): number {
    const tasks = this.server?.tasks ?? this.#boot;
    const timeout = tasks.timeout();
    return timeout < 0 ? Number.POSITIVE_INFINITY : clock.now + timeout;
  }

  /** Does what is to be done at this moment. */
  turn(): void {
    if (this.server !== undefined) this.server.step(0);
    else if (!this.#boot.isIdle) this.#boot.run();
  }

  call(message: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = { message: structuredClone(message), resolve, reject };
      this.#inbox.push(() => this.#answer(call));
    });
  }

  stop(): Promise<void> {
    this.#inbox.push(() => this.#end());
    return this.done;
  }

  #begin(): void {
    const tell = (news: ServingEvent) => this.#options.onNews?.(structuredClone(news));
    const beginning = () => {};
    this.#running.add(beginning);
    let functions: AssignedFunctions | undefined;
    const end = (error?: unknown) => {
      this.#running.delete(beginning);
      if (error !== undefined) functions?.close();
      this.#outbox.push(() => (error === undefined ? this.#resolveReady() : this.#rejectReady(error)));
    };
    try {
      functions = new AssignedFunctions(
        this.#data,
        (plan) => {
          this.hardware = new VirtualHardware(plan, this.#data, tell, this.#machine);
          this.onFences(this.hardware.fences);
          return this.hardware;
        },
        tell,
      );
      const begun = functions;
      const fence = function* (): Steps {
        yield { deadline: 0 };
        yield* begun.fenceAll();
      };
      this.#boot.start(this, fence(), (error) => {
        try {
          if (error !== undefined) throw error;
          this.#listen(begun);
          end();
        } catch (failure) {
          end(failure);
        }
      });
    } catch (error) {
      end(error);
    }
  }

  #listen(functions: AssignedFunctions): void {
    this.#serving = functions.serve();
    this.server = new VfioUserServer(this.#serving.devices, {
      group: this.#options.group,
      onEvent: (event) => this.#options.onEvent?.(event),
    });
    this.#serving.onServer?.(this.server);
  }

  /** As `server_worker.ts` does. */
  #answer({ message, resolve, reject }: Call): void {
    const { server, hardware } = this;
    const cancelled = () => reject(new Error("the server has ended"));
    this.#running.add(cancelled);
    const end = (send: () => void) => {
      if (this.#running.delete(cancelled)) this.#outbox.push(send);
    };
    try {
      if (server === undefined || hardware === undefined) throw new Error("the server has ended");
      const result = this.#serving?.onMessage?.(message as Request, server);
      if (Object.prototype.toString.call(result) !== "[object Generator]") {
        end(() => resolve(structuredClone(result)));
        return;
      }
      let value: unknown;
      const keep = function* (): Steps {
        value = yield* result as Steps<unknown>;
      };
      server.tasks.start(this.#calls, keep(), (error) => {
        end(error === undefined ? () => resolve(structuredClone(value)) : () => reject(error));
      });
    } catch (error) {
      end(() => reject(error));
    }
  }

  #end(): void {
    this.server?.tasks.cancel(this.#calls);
    this.server?.close();
    this.#serving?.close?.();
    this.server = undefined;
    this.hardware = undefined;
    this.#outbox.push(...this.#running);
    this.#running.clear();
    this.#outbox.push(() => this.#resolveDone());
  }
}
