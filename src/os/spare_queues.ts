import { isMainThread } from "node:worker_threads";

const MAX_SPARE_QUEUES = 16;

/**
 * Queues for signals (the kernel's names of them, 0 for none) whose signallers were closed, for those to come: ending
 * one keeps the kernel tens of milliseconds, which whoever stops a server would wait for. They belong to the process, so
 * a thread that ends leaves its own to others. Unset, there is no place for any: a thread that was told of none.
 */
let spareQueues = isMainThread ? createSpareQueues() : undefined;

function createSpareQueues(): BigUint64Array {
  return new BigUint64Array(new SharedArrayBuffer(8 * MAX_SPARE_QUEUES));
}

/** Where the `EventSignaller`s of this thread leave their queues, to be shared with other threads. */
export function sharedSpareQueues(): BigUint64Array {
  spareQueues ??= createSpareQueues();
  return spareQueues;
}

/** Has the signallers of this thread use what {@link sharedSpareQueues} gave in another. */
export function useSpareQueues(shared: BigUint64Array): void {
  spareQueues = shared;
}

/** A queue that nobody else has from now on; 0n when there is none. */
export function takeSpareQueue(): bigint {
  const queues = spareQueues ?? new BigUint64Array(0);
  for (let at = 0; at < queues.length; at++) {
    const queue = Atomics.exchange(queues, at, 0n);
    if (queue !== 0n) return queue;
  }
  return 0n;
}

/** @returns false when there are enough, or no place for any: the queue is still the caller's */
export function keepSpareQueue(queue: bigint): boolean {
  return spareQueues?.some((_, at, queues) => Atomics.compareExchange(queues, at, 0n, queue) === 0n) ?? false;
}
