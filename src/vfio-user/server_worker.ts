import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { drainEventfd, duplicateFd, POLLIN, useSpareQueues } from "../os/index.js";
import type { Steps } from "../vfio/index.js";
import { VfioUserServer } from "./server.js";
import {
  type Call,
  type CreateDevices,
  type Notice,
  type Serving,
  type WorkerInput,
  WorkerState,
} from "./worker_protocol.js";

type Result = Extract<Notice, { kind: "result" }>;

/** Answers the main thread's calls; its steps that still run belong to it. */
class Calls {
  constructor(
    private readonly serving: Serving,
    private readonly server: VfioUserServer,
    private readonly port: MessagePort,
  ) {}

  answer({ id, message }: Call): void {
    const notice: Result = { kind: "result", id };
    try {
      const result = this.serving.onMessage?.(message, this.server);
      if (isSteps(result)) {
        this.#run(result, notice);
        return;
      }
      notice.result = result;
    } catch (error) {
      refuse(notice, error);
    }
    this.#post(notice);
  }

  cancel(): void {
    this.server.tasks.cancel(this);
  }

  #run(steps: Steps<unknown>, notice: Result): void {
    const keepResult = function* (): Steps {
      notice.result = yield* steps;
    };
    this.server.tasks.start(this, keepResult(), (error) => {
      if (error !== undefined) refuse(notice, error);
      this.#post(notice);
    });
  }

  #post(notice: Result): void {
    try {
      this.port.postMessage(notice);
    } catch (error) {
      // A promise, for example. What says so is no Error any more when it has been cloned.
      const { kind, id } = notice;
      this.port.postMessage({ kind, id, error: new TypeError(`onMessage: ${String(error)}`) } satisfies Notice);
    }
  }
}

function refuse(notice: Result, error: unknown): void {
  notice.error = error;
  if (error instanceof Error && "code" in error) notice.code = error.code;
}

/** Generators cannot be cloned, so this is no result. */
function isSteps(result: unknown): result is Steps<unknown> {
  return Object.prototype.toString.call(result) === "[object Generator]";
}

async function main({ module, data, spin, group, port, wake, state, spareQueues }: WorkerInput): Promise<void> {
  const word = new Int32Array(state);
  useSpareQueues(spareQueues);
  const { createDevices } = (await import(module)) as { createDevices: CreateDevices };
  const post = (notice: Notice) => port.postMessage(notice);
  const serving = await createDevices(data, (news) => post({ kind: "news", news }));
  const fd = duplicateFd(wake);
  let server: VfioUserServer | undefined;
  let calls: Calls | undefined;
  try {
    // Too late to listen: the process may end at any moment, and would leave the socket files behind.
    if (Atomics.load(word, 0) === WorkerState.STOPPING) return;
    const running = new VfioUserServer(serving.devices, {
      spin,
      group,
      onEvent: (event) => post({ kind: "event", event }),
      onSockets: (sockets) => post({ kind: "sockets", sockets }),
    });
    server = running;
    const answering = new Calls(serving, running, port);
    calls = answering;
    const onReady = () => {
      drainEventfd(fd);
      if (Atomics.load(word, 0) === WorkerState.STOPPING) running.stop();
      for (let call = receiveMessageOnPort(port); call !== undefined; call = receiveMessageOnPort(port)) {
        answering.answer(call.message as Call);
      }
    };
    running.poller.add(fd, POLLIN, { onReady });
    serving.onServer?.(running);
    post({ kind: "ready" });
    onReady();
    running.run();
  } finally {
    calls?.cancel();
    server?.close();
    fd.close();
    serving.close?.();
    Atomics.store(word, 0, WorkerState.CLOSED);
    Atomics.notify(word, 0);
    port.close();
  }
}

await main(workerData as WorkerInput);
