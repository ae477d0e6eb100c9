import type { MessagePort } from "node:worker_threads";
import type { ServedDevice, VfioUserServer } from "./server.js";

/** What a module makes that a server worker loads. */
export interface Serving {
  devices: readonly ServedDevice[];
  /**
   * Answers what `RunningServer.call` sends: at once, or by steps that it returns (see `Steps`), which run beside the
   * serving and beside each other and are cancelled when the server stops. No promises, for the thread serves. What it or
   * they return or throw is structured-cloned, an error with its `code`. The server may be told to add or remove devices.
   */
  onMessage?(message: unknown, server: VfioUserServer): unknown;
  /** Called once, before the first client: for devices that watch descriptors of their own, or have work beside clients. */
  onServer?(server: VfioUserServer): void;
  /** Called after the last client has gone. */
  close?(): void;
}

/**
 * The function `createDevices` that such a module exports; it runs in the worker, with structured-cloned data.
 * @param tell sends the main thread something that can be cloned, for `StartOptions.onNews`, in order with what calls
 * result in; it may be called at any time until the end of `Serving.close`
 */
export type CreateDevices = (data: unknown, tell: (news: unknown) => void) => Serving | Promise<Serving>;

/** What the main thread hands over. `state`: see {@link WorkerState}. */
export interface WorkerInput {
  module: string;
  data: unknown;
  spin: number;
  group: number | undefined;
  port: MessagePort;
  /** Number of an eventfd of the main thread's that is signalled when there is something to do. */
  wake: number;
  state: SharedArrayBuffer;
  /** See `sharedSpareQueues`. */
  spareQueues: BigUint64Array;
}

/** Values of the one word that both threads share, for when no messages can be handled: while the process exits. */
export const WorkerState = { RUNNING: 0, STOPPING: 1, CLOSED: 2 } as const;

/** From the main thread. */
export interface Call {
  id: number;
  message: unknown;
}

/** To the main thread. */
export type Notice =
  | { kind: "ready" }
  | { kind: "sockets"; sockets: string[] }
  | { kind: "event"; event: unknown }
  | { kind: "news"; news: unknown }
  /** `code` is that of an error, which cloning would lose. */
  | { kind: "result"; id: number; result?: unknown; error?: unknown; code?: unknown };
