import { receiveMessageOnPort, workerData } from "node:worker_threads";
import {
  CALL_RESULT,
  type CallRequest,
  CallState,
  CallWord,
  type CallWorkerInput,
  type LongCall,
  ThreadWord,
} from "./call_protocol.js";
import { libc } from "./libc.js";

type Call = (...args: (number | string)[]) => number;

/** The C library's functions by their names; those with variable arguments have their types put in. */
function callOf(name: LongCall): Call {
  const c = libc();
  if (name === "ioctl") return (fd, request, argument) => c.ioctl(+fd, +request, "uintptr_t", +(argument ?? 0));
  if (name === "open") return (path, flags) => c.open(String(path), +(flags ?? 0), "unsigned int", 0);
  return c[name] as Call;
}

function run({ name, args, shared }: CallRequest): void {
  const words = new Int32Array(shared);
  const { STATE, ERRNO } = CallWord;
  const { WAITING, RUNNING, DONE } = CallState;
  if (Atomics.compareExchange(words, STATE, WAITING, RUNNING) !== WAITING) return;
  const result = callOf(name)(...args);
  Atomics.store(words, ERRNO, result < 0 ? libc().errno() : 0);
  new DataView(shared).setFloat64(CALL_RESULT, result);
  // Nobody waits any more for the descriptor that this has opened.
  if (Atomics.compareExchange(words, STATE, RUNNING, DONE) !== RUNNING && result >= 0) libc().close(result);
}

const { port, shared } = workerData as CallWorkerInput;
const words = new Int32Array(shared);
for (let seen = 0; ; seen = Atomics.load(words, ThreadWord.REQUESTS)) {
  for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
    run(next.message as CallRequest);
  }
  if (Atomics.load(words, ThreadWord.CLOSING) !== 0) break;
  Atomics.wait(words, ThreadWord.REQUESTS, seen);
}
port.close();
