import type { MessagePort } from "node:worker_threads";

/** Calls of the C library that may keep a thread for long. `path` is a string, all else numbers. */
export type LongCall = "open" | "close" | "ioctl" | "pread" | "pwrite" | "read" | "write" | "mmap" | "munmap";

/** What a `CallThread` hands to its worker. */
export interface CallWorkerInput {
  port: MessagePort;
  /** See {@link ThreadWord}. */
  shared: SharedArrayBuffer;
}

/** Words of the memory that a thread shares with its worker. */
export const ThreadWord = { REQUESTS: 0, CLOSING: 1, COUNT: 2 } as const;

/** One call, in a message to the worker. */
export interface CallRequest {
  name: LongCall;
  args: (number | string)[];
  /** See {@link CallWord}. */
  shared: SharedArrayBuffer;
}

/** What a call and its worker share: a state, an errno, and at {@link CALL_RESULT} the result as a float64. */
export const CallWord = { STATE: 0, ERRNO: 1 } as const;
export const CALL_RESULT = 8;
export const CALL_SIZE = 16;

/** A call's state. It is abandoned or cancelled by the starter, all else by the worker. */
export const CallState = { WAITING: 0, RUNNING: 1, DONE: 2, CANCELLED: 3, ABANDONED: 4 } as const;
