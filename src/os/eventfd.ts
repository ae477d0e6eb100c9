import { readlinkSync } from "node:fs";
import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";
import { createMemfd } from "./memfd.js";
import { NativeMemory } from "./native_memory.js";
import { POLLIN, POLLOUT, pollOne } from "./poll.js";
import { keepSpareQueue, takeSpareQueue } from "./spare_queues.js";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

let counter: NativeMemory | undefined;

/** An event counter that does not block. */
export function createEventfd(): Fd {
  return new Fd(checked(libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
}

/** Whether a descriptor is an eventfd, and not some other file a peer passed for one. */
export function isEventfd(fd: Fd): boolean {
  return readlinkSync(`/proc/self/fd/${fd.number}`) === "anon_inode:[eventfd]";
}

/**
 * Adds one to the counter and wakes whoever waits for it. Does not wait itself: a counter that is full is signalled
 * already. For eventfds of one's own; a peer's, which may fill up between the look and the write, is for
 * {@link EventSignaller}.
 */
export function signalEventfd(fd: Fd): void {
  if ((pollOne(fd, POLLOUT, 0) & POLLOUT) === 0) return;
  counter ??= new NativeMemory(8);
  counter.view.setUint32(0, 1, true);
  counter.view.setUint32(4, 0, true);
  const written = libc().write(fd.number, counter.address, 8);
  if (written < 0 && libc().errno() !== constants.errno.EAGAIN) throw new OsError("write", libc().errno(), "eventfd");
}

/** Takes the counter's value and clears it; 0n when nothing was signalled. */
export function drainEventfd(fd: Fd): bigint {
  if ((pollOne(fd, POLLIN, 0) & POLLIN) === 0) return 0n;
  counter ??= new NativeMemory(8);
  const count = libc().read(fd.number, counter.address, 8);
  if (count === 8) return counter.view.getBigUint64(0, true);
  const errno = libc().errno();
  if (errno === constants.errno.EAGAIN) return 0n;
  throw new OsError("read", errno, "eventfd");
}

/** Numbers of the system calls of asynchronous input and output (asm/unistd.h); most architectures have these. */
const COMMON = { setup: 0, destroy: 1, submit: 2, getEvents: 4 };
const CALLS: Partial<Record<string, typeof COMMON>> = {
  x64: { setup: 206, destroy: 207, submit: 209, getEvents: 208 },
  ppc64: { setup: 227, destroy: 228, submit: 230, getEvents: 229 },
  arm64: COMMON,
  riscv64: COMMON,
  loong64: COMMON,
};
/** Operations whose results may lie uncollected. */
const RESULTS = 64;
const RESULT_SIZE = 32;
/** Offsets in struct iocb (linux/aio_abi.h); the rest is 0: a read of no bytes. */
const IOCB_FILE = 20;
const IOCB_FLAGS = 56;
const IOCB_EVENTFD = 60;
const IOCB_FLAG_RESFD = 1;
/** What the memory holds: a context's id, a pointer to the iocb, the iocb, results. */
const LIST = 8;
const IOCB = 16;
const RESULTS_AT = 80;

/**
 * Signals eventfds of peers that are not trusted, and never waits.
 *
 * A write to an eventfd waits while its counter is full, unless O_NONBLOCK is set, and a peer can clear that and fill the
 * counter at any moment: both belong to the open file, which it shares, and eventfds can neither be opened anew nor
 * written with RWF_NOWAIT. The kernel itself signals without waiting, for example when an asynchronous operation has
 * ended: so each signal is the end of an asynchronous read of an empty file. It takes as long as a poll and a write.
 * Where there is no asynchronous input and output it is those, and a peer that is quick and malicious can stop this
 * thread.
 */
export class EventSignaller {
  /** Made at the first signal: most servers' clients never listen. */
  #queue: SignalQueue | undefined;
  readonly #empty = createMemfd("signals", 0);

  /** Adds one to a counter, unless it is full, and wakes whoever waits for it. @throws {OsError} EINVAL for another file */
  signal(fd: Fd): void {
    this.#queue ??= new SignalQueue(this.#empty);
    this.#queue.signal(fd);
  }

  /** Does nothing the second time; nothing can be signalled afterwards. */
  close(): void {
    this.#queue?.close();
    this.#queue = undefined;
    this.#empty.close();
  }
}

class SignalQueue {
  readonly #calls: typeof COMMON | undefined;
  readonly #memory = new NativeMemory(RESULTS_AT + RESULTS * RESULT_SIZE);
  readonly #context: number;

  /** @throws {OsError} EBADF when the file is closed */
  constructor(empty: Fd) {
    const { address, view } = this.#memory;
    const file = empty.number;
    const calls = CALLS[process.arch];
    view.setBigUint64(0, takeSpareQueue(), true);
    const hasQueue = view.getBigUint64(0, true) !== 0n;
    if (calls !== undefined && (hasQueue || libc().syscall(calls.setup, RESULTS, address, 0, 0, 0) === 0)) {
      this.#calls = calls;
    }
    this.#context = Number(view.getBigUint64(0, true));
    view.setBigUint64(LIST, BigInt(address + IOCB), true);
    view.setUint32(IOCB + IOCB_FILE, file, true);
    view.setUint32(IOCB + IOCB_FLAGS, IOCB_FLAG_RESFD, true);
  }

  signal(fd: Fd): void {
    if (this.#calls === undefined) {
      signalEventfd(fd);
      return;
    }
    this.#memory.view.setInt32(IOCB + IOCB_EVENTFD, fd.number, true);
    if (this.#submit(this.#calls) === 1) return;
    if (libc().errno() === constants.errno.EAGAIN) {
      // The results of earlier ones fill the queue.
      libc().syscall(this.#calls.getEvents, this.#context, 0, RESULTS, this.#memory.address + RESULTS_AT, 0);
      if (this.#submit(this.#calls) === 1) return;
    }
    throw new OsError("io_submit", libc().errno(), "eventfd");
  }

  close(): void {
    if (this.#calls === undefined || keepSpareQueue(BigInt(this.#context))) return;
    libc().syscall(this.#calls.destroy, this.#context, 0, 0, 0, 0);
  }

  #submit(calls: typeof COMMON): number {
    return libc().syscall(calls.submit, this.#context, 1, this.#memory.address + LIST, 0, 0);
  }
}
