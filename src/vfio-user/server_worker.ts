import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { drainEventfd, duplicateFd, POLLIN } from "../os/index.js";
import { VfioUserServer } from "./server.js";
import {
  type Call,
  type CreateDevices,
  type Notice,
  type Serving,
  type WorkerInput,
  WorkerState,
} from "./worker_protocol.js";

function answerCall(serving: Serving, server: VfioUserServer, port: MessagePort, { id, message }: Call): void {
  const notice: Notice = { kind: "result", id };
  try {
    notice.result = serving.onMessage?.(message, server);
  } catch (error) {
    notice.error = error;
  }
  try {
    port.postMessage(notice);
  } catch (error) {
    // A promise, for example. What says so is no Error any more when it has been cloned.
    port.postMessage({ kind: "result", id, error: new TypeError(`onMessage: ${String(error)}`) } satisfies Notice);
  }
}

async function main({ module, data, spin, port, wake, state }: WorkerInput): Promise<void> {
  const word = new Int32Array(state);
  const { createDevices } = (await import(module)) as { createDevices: CreateDevices };
  const serving = await createDevices(data);
  const post = (notice: Notice) => port.postMessage(notice);
  const fd = duplicateFd(wake);
  let server: VfioUserServer | undefined;
  try {
    // Too late to listen: the process may end at any moment, and would leave the socket files behind.
    if (Atomics.load(word, 0) === WorkerState.STOPPING) return;
    const running = new VfioUserServer(serving.devices, { spin, onEvent: (event) => post({ kind: "event", event }) });
    server = running;
    const onReady = () => {
      drainEventfd(fd);
      if (Atomics.load(word, 0) === WorkerState.STOPPING) running.stop();
      for (let call = receiveMessageOnPort(port); call !== undefined; call = receiveMessageOnPort(port)) {
        answerCall(serving, running, port, call.message as Call);
      }
    };
    running.poller.add(fd, POLLIN, { onReady });
    post({ kind: "ready", sockets: serving.devices.map(({ socket }) => socket) });
    onReady();
    running.run();
  } finally {
    server?.close();
    fd.close();
    serving.close?.();
    Atomics.store(word, 0, WorkerState.CLOSED);
    Atomics.notify(word, 0);
    port.close();
  }
}

await main(workerData as WorkerInput);
