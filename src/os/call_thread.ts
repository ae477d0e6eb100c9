import { constants } from "node:os";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import {
  CALL_RESULT,
  CALL_SIZE,
  type CallRequest,
  CallState,
  CallWord,
  type CallWorkerInput,
  type LongCall,
  ThreadWord,
} from "./call_protocol.js";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { NativeMemory } from "./native_memory.js";
import { startWorker } from "./start_worker.js";

export type { LongCall } from "./call_protocol.js";

/** What a call takes: memory goes by its address, a descriptor by its number, and neither goes away before it has ended. */
export type CallArgument = number | string | NativeMemory | Fd;

/** A call that another thread makes. */
export class PendingCall {
  readonly #words: Int32Array;
  readonly #view: DataView;

  /** @internal Use {@link CallThread.start}. */
  constructor(
    private readonly name: LongCall,
    shared: SharedArrayBuffer,
    /** Kept from being freed while the kernel may use it. */
    readonly args: readonly CallArgument[],
  ) {
    this.#words = new Int32Array(shared);
    this.#view = new DataView(shared);
  }

  /** Whether the kernel has it, or had: it cannot be cancelled any more. */
  get hasBegun(): boolean {
    const state = Atomics.load(this.#words, CallWord.STATE);
    return state !== CallState.WAITING && state !== CallState.CANCELLED;
  }

  /** Whether {@link result} is there. */
  get isDone(): boolean {
    const state = Atomics.load(this.#words, CallWord.STATE);
    return state === CallState.DONE || state === CallState.CANCELLED;
  }

  /**
   * What the call has returned, not negative.
   * @throws {OsError} when it failed; ECANCELED when the thread was closed before it began; EAGAIN before {@link isDone}
   */
  result(): number {
    const state = Atomics.load(this.#words, CallWord.STATE);
    if (state === CallState.CANCELLED) throw new OsError(this.name, constants.errno.ECANCELED);
    if (state !== CallState.DONE) throw new OsError(this.name, constants.errno.EAGAIN, "it has not ended");
    const errno = Atomics.load(this.#words, CallWord.ERRNO);
    if (errno !== 0) throw new OsError(this.name, errno);
    return this.#view.getFloat64(CALL_RESULT);
  }

  /** Has it not begin any more. @returns false when it has begun, and will end by itself */
  cancel(): boolean {
    const { STATE } = CallWord;
    const { WAITING, CANCELLED } = CallState;
    return Atomics.compareExchange(this.#words, STATE, WAITING, CANCELLED) === WAITING;
  }

  /** Gives up a call whose result is a descriptor, which is closed, now or when it comes. Nothing may be asked afterwards. */
  abandon(): void {
    const { STATE } = CallWord;
    const { RUNNING, DONE, ABANDONED } = CallState;
    if (this.cancel()) return;
    if (Atomics.compareExchange(this.#words, STATE, RUNNING, ABANDONED) === RUNNING) return;
    const state = Atomics.compareExchange(this.#words, STATE, DONE, ABANDONED);
    const failed = Atomics.load(this.#words, CallWord.ERRNO) !== 0;
    if (state === DONE && !failed) new Fd(this.#view.getFloat64(CALL_RESULT)).close();
  }

  /** @internal The kernel may still use what it was given. */
  get holdsMemory(): boolean {
    const state = Atomics.load(this.#words, CallWord.STATE);
    return state === CallState.WAITING || state === CallState.RUNNING || state === CallState.ABANDONED;
  }
}

/** Making calls takes next to no memory of JavaScript's. */
const LIMITS = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 };

/**
 * A thread that makes calls of the C library which may take seconds, one after the other, for one that must not wait. Results
 * come through shared memory, so whoever starts them need never return to its event loop, not even for the first.
 *
 * A call that has begun ends when the kernel lets it: nothing can take it back, and the process ends no earlier than that
 * in any case, because the kernel does not let go of a thread that waits for hardware.
 */
export class CallThread {
  /** Where calls are told, once the thread runs: it does from the first call on. */
  #port: MessagePort | undefined;
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * ThreadWord.COUNT));
  #calls: PendingCall[] = [];
  #isClosed = false;

  /** Whether a call would begin at once. */
  get isIdle(): boolean {
    return this.#calls.every((call) => !call.holdsMemory);
  }

  /**
   * Begins a call when all earlier ones have ended. Descriptors must stay open until it has.
   * @throws {OsError} ECANCELED after {@link close}, EBADF for a descriptor that is closed
   */
  start(name: LongCall, ...args: CallArgument[]): PendingCall {
    if (this.#isClosed) throw new OsError(name, constants.errno.ECANCELED, "the thread is closed");
    const shared = new SharedArrayBuffer(CALL_SIZE);
    const request: CallRequest = { name, args: args.map(plain), shared };
    const call = new PendingCall(name, shared, args);
    this.#calls = this.#calls.filter((each) => each.holdsMemory);
    this.#calls.push(call);
    this.#port ??= this.#run();
    this.#port.postMessage(request);
    Atomics.add(this.#words, ThreadWord.REQUESTS, 1);
    Atomics.notify(this.#words, ThreadWord.REQUESTS);
    return call;
  }

  /**
   * Has no further call begin, and the thread end with the one it is at. Does not wait, and does nothing the second time.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const call of this.#calls) call.cancel();
    this.#end();
  }

  /** Has the thread end when all calls that were started have ended. Otherwise as {@link close}. */
  closeAfterCalls(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#end();
  }

  #run(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    const input: CallWorkerInput = { port: port2, shared: this.#words.buffer };
    const options = { workerData: input, transferList: [port2], resourceLimits: LIMITS };
    // Neither keeps the process alive.
    startWorker(import.meta.url, "call_worker", options).unref();
    port1.unref();
    return port1;
  }

  #end(): void {
    Atomics.store(this.#words, ThreadWord.CLOSING, 1);
    Atomics.add(this.#words, ThreadWord.REQUESTS, 1);
    Atomics.notify(this.#words, ThreadWord.REQUESTS);
  }
}

function plain(argument: CallArgument): number | string {
  if (argument instanceof NativeMemory) return argument.address;
  return argument instanceof Fd ? argument.number : argument;
}
