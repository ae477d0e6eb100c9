import { VfioError } from "./error.js";

/**
 * What running steps wait for: until `done` says so, or the deadline has passed, whichever comes first. Without `done`
 * it is a pause. `deadline` is in milliseconds of `performance.now()`.
 */
export interface Wait {
  readonly deadline: number;
  readonly done?: () => boolean;
}

/**
 * Work that takes longer than a register access may: a generator that yields whenever it waits, so that the loop that
 * runs it goes on serving everybody else. Cancelled with `return()`, so `finally` blocks run.
 */
export type Steps<T = void> = Generator<Wait, T, void>;

/** Waits for some milliseconds. */
export function* pause(milliseconds: number): Steps {
  yield { deadline: performance.now() + milliseconds };
}

/**
 * Waits until `done` says so. It is asked after every event and at least every `interval` milliseconds.
 * @returns false when the time is over and it still does not
 */
export function* waitUntil(done: () => boolean, milliseconds: number, interval = milliseconds): Steps<boolean> {
  const end = performance.now() + milliseconds;
  while (!done()) {
    const now = performance.now();
    if (now >= end) return false;
    yield { deadline: Math.min(end, now + interval), done };
  }
  return true;
}

/** Runs steps to their end on this thread, sleeping where they wait: for tools and tests that serve nobody meanwhile. */
export function runToEnd<T>(steps: Steps<T>): T {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    const result = steps.next();
    if (result.done === true) return result.value;
    while (!(result.value.done?.() ?? false)) {
      const left = result.value.deadline - performance.now();
      if (left <= 0) break;
      Atomics.wait(cell, 0, 0, Math.min(left, 1));
    }
  }
}

/** Runs steps to their end on the event loop, which stays free while they wait. */
export async function runSteps<T>(steps: Steps<T>): Promise<T> {
  for (;;) {
    const result = steps.next();
    if (result.done === true) return result.value;
    const { deadline, done } = result.value;
    while (!(done?.() ?? false)) {
      const left = deadline - performance.now();
      if (left <= 0) break;
      await new Promise((resolve) => setTimeout(resolve, done === undefined ? left : Math.min(left, 1)));
    }
  }
}

/**
 * The same steps with a limit on the whole.
 * @throws {VfioError} ETIMEDOUT, after cancelling them, when they take longer
 */
export function* withinTime<T>(steps: Steps<T>, milliseconds: number): Steps<T> {
  const end = performance.now() + milliseconds;
  try {
    for (;;) {
      const result = steps.next();
      if (result.done === true) return result.value;
      const { deadline, done } = result.value;
      const isReady = () => done?.() === true || performance.now() >= deadline;
      while (!isReady()) {
        if (performance.now() >= end) throw new VfioError("ETIMEDOUT", `not done within ${milliseconds} ms`);
        yield done === undefined ? { deadline: Math.min(deadline, end) } : { deadline: Math.min(deadline, end), done };
      }
    }
  } finally {
    steps.return(undefined as T);
  }
}
