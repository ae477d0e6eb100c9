import type { Steps, Wait } from "../vfio/steps.js";

/** One of several steps, and what it waits for. */
interface Strand {
  steps: Steps;
  wait: Wait | undefined;
}

/**
 * Runs steps side by side, so that their waits overlap; over when all are. Cancelled, it cancels all.
 * @throws what the first that failed threw, when all are over
 */
export function* sideBySide(all: readonly Steps[]): Steps {
  let running: Strand[] = all.map((steps) => ({ steps, wait: undefined }));
  let failure: { error: unknown } | undefined;
  try {
    while (running.length > 0) {
      const still: Strand[] = [];
      for (const strand of running) {
        try {
          if (!isReady(strand) || advance(strand)) still.push(strand);
        } catch (error) {
          failure ??= { error };
        }
      }
      running = still;
      // After every round, also when some could go on: whoever runs this has others to serve.
      if (running.length > 0) {
        const deadline = Math.min(...running.map(({ wait }) => wait?.deadline ?? 0));
        // Without anything to ask for, whoever runs this can sleep until then.
        const asks = running.some(({ wait }) => wait?.done !== undefined);
        yield asks ? { deadline, done: () => running.some(isReady) } : { deadline };
      }
    }
  } finally {
    for (const { steps } of running) cancel(steps);
  }
  if (failure !== undefined) throw failure.error;
}

function isReady({ wait }: Strand): boolean {
  return wait === undefined || wait.done?.() === true || performance.now() >= wait.deadline;
}

/** @returns whether it goes on */
function advance(strand: Strand): boolean {
  const result = strand.steps.next();
  if (result.done === true) return false;
  strand.wait = result.value;
  return true;
}

/** Each is cancelled, whatever another throws at its end. */
function cancel(steps: Steps): void {
  try {
    steps.return();
  } catch {
    // Whoever cancels does not want to know why cleaning up failed.
  }
}
