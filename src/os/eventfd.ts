import { readlinkSync } from "node:fs";
import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";
import { NativeMemory } from "./native_memory.js";
import { POLLIN, POLLOUT, pollOne } from "./poll.js";

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
 * Adds one to the counter and wakes whoever waits for it. Never waits itself: a counter that is full is signalled
 * already, and a peer may have filled it on purpose.
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
