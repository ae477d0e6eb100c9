import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";
import { NativeMemory } from "./native_memory.js";

/** Events of `poll` and `epoll`, which share these values. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
export const POLLRDHUP = 0x2000;
/** Report each event once, when it comes (epoll only). */
export const EPOLLET = 2 ** 31;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** struct epoll_event is packed on x86-64 alone (linux/eventpoll.h). */
const EVENT_SIZE = process.arch === "x64" ? 12 : 16;
const DATA_OFFSET = EVENT_SIZE - 8;
const CAPACITY = 64;

let pollfd: NativeMemory | undefined;

/**
 * Waits for one descriptor.
 * @param timeout milliseconds, 0 to look only, -1 without a limit
 * @returns the events that are there; 0 when the time is over or a signal came
 */
export function pollOne(fd: Fd, events: number, timeout: number): number {
  pollfd ??= new NativeMemory(8);
  pollfd.view.setInt32(0, fd.number, true);
  pollfd.view.setUint32(4, events, true);
  const ready = libc().poll(pollfd.address, 1, timeout);
  if (ready < 0 && libc().errno() !== constants.errno.EINTR) throw new OsError("poll", libc().errno());
  return ready > 0 ? pollfd.view.getUint16(6, true) : 0;
}

/** What a {@link Poller} calls when its descriptor is ready. */
export interface Watcher {
  onReady(events: number): void;
}

/** Waits for any number of descriptors at a cost that does not grow with those that are idle (epoll). */
export class Poller {
  readonly #epoll: Fd;
  readonly #events = new NativeMemory(CAPACITY * EVENT_SIZE);
  readonly #event = new NativeMemory(EVENT_SIZE);
  readonly #watchers = new Map<number, Watcher>();
  #nextToken = 1;

  constructor() {
    this.#epoll = new Fd(checked(libc().epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
  }

  /**
   * Watches a descriptor until {@link remove}, which must come before the descriptor is closed.
   * @returns a token that names the watch
   */
  add(fd: Fd, events: number, watcher: Watcher): number {
    const token = this.#nextToken++;
    this.#control(EPOLL_CTL_ADD, fd, events, token);
    this.#watchers.set(token, watcher);
    return token;
  }

  /** Changes the events that are watched for. */
  modify(fd: Fd, token: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token);
  }

  /** Does nothing after {@link close}, which ends all watches. */
  remove(fd: Fd, token: number): void {
    this.#watchers.delete(token);
    if (!this.#epoll.isOpen) return;
    this.#control(EPOLL_CTL_DEL, fd, 0, token);
  }

  /**
   * Waits, then calls the watchers of what is ready. One that an earlier one removed is not called.
   * @param timeout milliseconds, 0 to look only, -1 without a limit
   * @returns how many descriptors were ready
   */
  wait(timeout: number): number {
    const count = libc().epoll_wait(this.#epoll.number, this.#events.address, CAPACITY, timeout);
    if (count < 0 && libc().errno() !== constants.errno.EINTR) throw new OsError("epoll_wait", libc().errno());
    for (let at = 0; at < count * EVENT_SIZE; at += EVENT_SIZE) {
      const token = this.#events.view.getUint32(at + DATA_OFFSET, true);
      this.#watchers.get(token)?.onReady(this.#events.view.getUint32(at, true));
    }
    return count;
  }

  close(): void {
    this.#epoll.close();
    this.#watchers.clear();
  }

  #control(operation: number, fd: Fd, events: number, token: number): void {
    this.#event.view.setUint32(0, events, true);
    this.#event.view.setUint32(DATA_OFFSET, token, true);
    checked(libc().epoll_ctl(this.#epoll.number, operation, fd.number, this.#event.address), "epoll_ctl");
  }
}
