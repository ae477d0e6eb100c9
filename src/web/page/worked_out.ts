import { useEffect, useRef, useState } from "preact/hooks";

/** At least so many times as long as the last work has taken, the page is left to other things. */
const REST = 4;

/** What {@link useWorkedOut} has: the last result, or why there is none. */
export type WorkedOut<T> = { value: T; error?: never } | { value?: never; error: string };

/**
 * Works something out of inputs that may be large: at once the first time, afterwards a moment after they have changed, and
 * never more often than leaves the page most of its time.
 * @param work is called again when an input is another value
 */
export function useWorkedOut<T>(work: () => T, inputs: readonly unknown[]): WorkedOut<T> {
  const took = useRef(0);
  const [done, setDone] = useState<{ inputs: readonly unknown[]; result: WorkedOut<T> }>(() => ({
    inputs,
    result: timed(work, took),
  }));
  const isDone = inputs.every((input, index) => input === done.inputs[index]);
  const latest = useRef(work);
  latest.current = work;
  const next = useRef(inputs);
  next.current = inputs;
  useEffect(() => {
    if (isDone) return;
    // Not begun again by each change: what changes all the time would never be worked out.
    const timer = setTimeout(
      () => setDone({ inputs: next.current, result: timed(latest.current, took) }),
      took.current * REST,
    );
    return () => clearTimeout(timer);
  }, [isDone, done]);
  return done.result;
}

function timed<T>(work: () => T, took: { current: number }): WorkedOut<T> {
  const begin = performance.now();
  try {
    return { value: work() };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  } finally {
    took.current = performance.now() - begin;
  }
}
