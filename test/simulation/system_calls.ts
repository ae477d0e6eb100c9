import { constants } from "node:os";
import { type Libc, libc } from "../../src/os/libc.js";
import { decodeHeader, HEADER_SIZE, type Header } from "../../src/vfio-user/header.js";
import { MAX_MESSAGE } from "../../src/vfio-user/server_limits.js";
import type { Random } from "../fuzz/random.js";

const { EAGAIN, ECONNRESET, EINTR, EIO, EMFILE, ENOMEM, EPIPE } = constants.errno;
const F_DUPFD_CLOEXEC = 1030;
/** Structures that are handed to system calls are no larger, apart from the data itself. */
const SMALL = 2048;
const IOV = 56;
// As src/os/socket_message.ts lays out struct msghdr and what it leads to.
const IOV_LENGTH = 64;
const CONTROL_LENGTH = 40;
const CONTROL = 72;
/** How the setting up of asynchronous input and output is numbered (asm/unistd.h). */
const IO_SETUP = process.arch === "x64" ? 206 : process.arch === "ppc64" ? 227 : 0;
const IO_DESTROY = IO_SETUP === 0 ? 1 : IO_SETUP + 1;

export type Actor = "server" | "client";

/** Who is at the client's end of a connection that the server has. */
export interface Connected {
  /** A fault that ends connections was made to happen on this one. */
  broken: boolean;
  /** The server was told that nothing can be sent to it at some moment, although it could. */
  held: boolean;
}

interface OpenDescriptor {
  readonly actor: Actor;
  path?: string;
  peer?: Connected | undefined;
}

type Call = (...args: unknown[]) => number;

/**
 * The C library's functions as both sides of a simulation call them: real ones, on real sockets and memory, but it is
 * known whose every descriptor and mapping is, and calls of the server fail as seeded.
 */
export class SystemCalls {
  /** Whose code runs at this moment. */
  actor: Actor = "server";
  /** The server was killed: whatever of it still runs does nothing any more. */
  dead = false;
  /** Decides which calls fail; undefined while none do. */
  chance: Random | undefined;
  /** A call fails once in so many. */
  rarity = 50;
  /** Told what was made to fail. */
  onFault: (what: string) => void = () => {};
  /** Told when the server has something to say to a client, as it tries for the first time. */
  onAnswer: (peer: Connected, header: Header) => void = () => {};
  /** Who is about to connect. */
  connecting: Connected | undefined;
  readonly open = new Map<number, OpenDescriptor>();
  readonly #mappings = new Map<number, { length: number; actor: Actor }>();
  readonly #memory = new Map<number, WeakRef<ArrayBuffer>>();
  /** By path, who has connected and is not yet accepted, the first first. */
  readonly #waiting = new Map<string, (Connected | undefined)[]>();
  readonly #real: Libc;
  #errno = 0;
  /** The one queue for signals that this process makes: making another takes the kernel long. */
  #queue: bigint | undefined;

  constructor() {
    const functions = libc() as unknown as Record<string, Call>;
    this.#real = { ...functions } as unknown as Libc;
    for (const [name, real] of Object.entries(functions)) {
      functions[name] = (...args) => {
        this.#errno = 0;
        if (this.dead && this.actor === "server") return this.#fail(EIO);
        return real(...args);
      };
    }
    Object.assign(functions, this.#overrides());
  }

  /** Runs code of one side. */
  as<T>(actor: Actor, run: () => T): T {
    const former = this.actor;
    this.actor = actor;
    try {
      return run();
    } finally {
      this.actor = former;
    }
  }

  /** How many descriptors and mappings somebody has. */
  count(actor: Actor): { descriptors: number; mappings: number } {
    const of = (each: { actor: Actor }) => each.actor === actor;
    return {
      descriptors: [...this.open.values()].filter(of).length,
      mappings: [...this.#mappings.values()].filter(of).length,
    };
  }

  /** What the kernel does when a process ends: no code of it runs, and everything is closed. */
  endServer(): void {
    for (const [fd, { actor }] of [...this.open]) {
      if (actor !== "server") continue;
      this.#real.close(fd);
      this.open.delete(fd);
    }
    for (const [address, { length, actor }] of [...this.#mappings]) {
      if (actor !== "server") continue;
      this.#real.munmap(address, length);
      this.#mappings.delete(address);
    }
    this.#waiting.clear();
  }

  /** Notes a descriptor that Node's own functions opened. */
  note(fd: number): void {
    this.open.set(fd, { actor: this.actor });
  }

  #overrides(): Record<string, Call> {
    const real = this.#real as unknown as Record<string, Call>;
    const creates = (name: string, mayFail = true): [string, Call] => [
      name,
      (...args) => {
        if (mayFail && this.#happens(name, 8)) return this.#fail(EMFILE);
        return this.#made((real[name] as Call)(...args));
      },
    ];
    const guarded = (call: Call): Call => {
      return (...args) => {
        this.#errno = 0;
        return this.dead && this.actor === "server" ? this.#fail(EIO) : call(...args);
      };
    };
    const calls: [string, Call][] = [
      creates("socket"),
      creates("open", false),
      creates("dup"),
      creates("memfd_create"),
      creates("eventfd"),
      creates("epoll_create1", false),
      ["socketpair", (...args) => this.#socketpair(real.socketpair as Call, args)],
      ["bind", (fd, address, length) => this.#bind(fd as number, address as number, length as number)],
      ["connect", (fd, address, length) => this.#connect(fd as number, address as number, length as number)],
      ["accept4", (listener, ...rest) => this.#accept(listener as number, rest as [number, number, number])],
      ["fcntl", (...args) => this.#fcntl(args as [number, number, "int", number])],
      ["close", (fd) => this.#close(fd as number)],
      ["recvmsg", (fd, message, flags) => this.#recvmsg(fd as number, message as number, flags as number)],
      [
        "send",
        (fd, address, length, flags) => this.#send(fd as number, address as number, length as number, flags as number),
      ],
      ["sendmsg", (fd, message, flags) => this.#sendmsg(fd as number, message as number, flags as number)],
      [
        "epoll_wait",
        (...args) => (this.#happens("epoll_wait", 1) ? this.#fail(EINTR) : (real.epoll_wait as Call)(...args)),
      ],
      ["poll", (...args) => (this.#happens("poll", 1) ? this.#fail(EINTR) : (real.poll as Call)(...args))],
      ["mmap", (...args) => this.#mmap(args as Parameters<Libc["mmap"]>)],
      ["munmap", (address, length) => this.#munmap(address as number, length as number)],
      ["syscall", (...args) => this.#syscall(args as Parameters<Libc["syscall"]>)],
    ];
    const others: [string, Call][] = [
      ["errno", () => (this.#errno === 0 ? this.#real.errno() : this.#errno)],
      ["addressOf", (buffer) => this.#addressOf(buffer as ArrayBuffer)],
      ["view", real.view as Call],
      ["getpagesize", real.getpagesize as Call],
    ];
    return Object.fromEntries([...calls.map(([name, call]) => [name, guarded(call)] as const), ...others]);
  }

  /** Whether the server's next call of this name fails; `weight`: so many times as rare as others. */
  #happens(what: string, weight: number): boolean {
    if (this.chance === undefined || this.actor !== "server" || !this.chance.once(this.rarity * weight)) return false;
    this.onFault(what);
    return true;
  }

  #fail(errno: number): number {
    this.#errno = errno;
    return -1;
  }

  #made(fd: number, more: Partial<OpenDescriptor> = {}): number {
    if (fd >= 0) this.open.set(fd, { actor: this.actor, ...more });
    return fd;
  }

  #addressOf(buffer: ArrayBuffer): number {
    const address = this.#real.addressOf(buffer);
    if (buffer.byteLength <= SMALL || buffer.byteLength === MAX_MESSAGE) this.#memory.set(address, new WeakRef(buffer));
    return address;
  }

  #viewOf(address: number): DataView | undefined {
    const buffer = this.#memory.get(address)?.deref();
    return buffer && new DataView(buffer);
  }

  #pathAt(address: number, length: number): string {
    const buffer = this.#memory.get(address)?.deref();
    return buffer === undefined ? "" : Buffer.from(buffer, 2, length - 3).toString();
  }

  #socketpair(real: Call, args: unknown[]): number {
    if (this.#happens("socketpair", 8)) return this.#fail(EMFILE);
    const result = real(...args);
    const pair = this.#viewOf(args[3] as number);
    if (result === 0 && pair !== undefined) for (const at of [0, 4]) this.#made(pair.getInt32(at, true));
    return result;
  }

  #bind(fd: number, address: number, length: number): number {
    const known = this.open.get(fd);
    if (known !== undefined) known.path = this.#pathAt(address, length);
    return this.#real.bind(fd, address, length);
  }

  #close(fd: number): number {
    const path = this.open.get(fd)?.path;
    if (path !== undefined) this.#waiting.delete(path);
    this.open.delete(fd);
    return this.#real.close(fd);
  }

  #connect(fd: number, address: number, length: number): number {
    const result = this.#real.connect(fd, address, length);
    const path = this.#pathAt(address, length);
    if (result === 0) this.#waiting.set(path, [...(this.#waiting.get(path) ?? []), this.connecting]);
    return result;
  }

  #accept(listener: number, rest: [number, number, number]): number {
    if (this.#happens("accept4: EINTR", 1)) return this.#fail(EINTR);
    if (this.#happens("accept4: EMFILE", 4)) return this.#fail(EMFILE);
    const fd = this.#real.accept4(listener, ...rest);
    if (fd < 0) return fd;
    return this.#made(fd, { peer: this.#waiting.get(this.open.get(listener)?.path ?? "")?.shift() });
  }

  #fcntl(args: [number, number, "int", number]): number {
    if (args[1] !== F_DUPFD_CLOEXEC) return this.#real.fcntl(...args);
    if (this.#happens("fcntl", 8)) return this.#fail(EMFILE);
    return this.#made(this.#real.fcntl(...args));
  }

  /** A connection that fails ends; who is at its other end has done nothing wrong. */
  #breaks(fd: number, what: string): boolean {
    const peer = this.open.get(fd)?.peer;
    if (peer === undefined || !this.#happens(what, 12)) return false;
    peer.broken = true;
    return true;
  }

  #recvmsg(fd: number, message: number, flags: number): number {
    if (this.#happens("recvmsg: EAGAIN", 1)) return this.#fail(EAGAIN);
    if (this.#happens("recvmsg: EINTR", 1)) return this.#fail(EINTR);
    if (this.#breaks(fd, "recvmsg: ECONNRESET")) return this.#fail(ECONNRESET);
    const view = this.#viewOf(message);
    if (view !== undefined && this.#happens("recvmsg: short", 1)) this.#shorten(view);
    const count = this.#real.recvmsg(fd, message, flags);
    if (count >= 0 && view !== undefined) this.#noteReceived(view);
    return count;
  }

  #shorten(view: DataView): void {
    const length = view.getUint32(IOV_LENGTH, true);
    view.setUint32(IOV_LENGTH, 1 + (this.chance?.below(Math.min(length, 40)) ?? 0), true);
  }

  #noteReceived(view: DataView): void {
    const end = CONTROL + view.getUint32(CONTROL_LENGTH, true);
    for (let at = CONTROL; at + 16 <= end; ) {
      const length = view.getUint32(at, true);
      for (let fd = at + 16; fd + 4 <= at + length; fd += 4) this.#made(view.getInt32(fd, true));
      at += (length + 7) & ~7;
    }
  }

  /** Answers are built where the buffer begins; what is left of one that did not go at once is elsewhere. */
  #tellOf(fd: number, address: number): void {
    const peer = this.open.get(fd)?.peer;
    const buffer = peer && this.#memory.get(address)?.deref();
    if (peer === undefined || buffer?.byteLength !== MAX_MESSAGE) return;
    this.onAnswer(peer, decodeHeader(new Uint8Array(buffer, 0, HEADER_SIZE)));
  }

  #send(fd: number, address: number, length: number, flags: number): number {
    this.#tellOf(fd, address);
    const failure = this.#sendFails(fd);
    if (failure !== 0) return this.#fail(failure);
    const taken = length > 1 && this.#happens("send: short", 1) ? 1 + (this.chance?.below(length - 1) ?? 0) : length;
    return this.#real.send(fd, address, taken, flags);
  }

  #sendmsg(fd: number, message: number, flags: number): number {
    const view = this.#viewOf(message);
    if (view !== undefined) this.#tellOf(fd, Number(view.getBigUint64(IOV, true)));
    const failure = this.#sendFails(fd);
    if (failure !== 0) return this.#fail(failure);
    if (view !== undefined && this.#happens("sendmsg: short", 1)) this.#shorten(view);
    return this.#real.sendmsg(fd, message, flags);
  }

  #sendFails(fd: number): number {
    const peer = this.open.get(fd)?.peer;
    for (const [what, errno] of [
      ["send: EAGAIN", EAGAIN],
      ["send: EINTR", EINTR],
    ] as const) {
      if (!this.#happens(what, 1)) continue;
      if (peer !== undefined) peer.held = true;
      return errno;
    }
    return this.#breaks(fd, "send: EPIPE") ? EPIPE : 0;
  }

  #mmap(args: Parameters<Libc["mmap"]>): number {
    if (this.#happens("mmap", 8)) return this.#fail(ENOMEM);
    const address = this.#real.mmap(...args);
    if (address !== -1) this.#mappings.set(address, { length: args[1], actor: this.actor });
    return address;
  }

  #munmap(address: number, length: number): number {
    this.#mappings.delete(address);
    return this.#real.munmap(address, length);
  }

  #syscall(args: Parameters<Libc["syscall"]>): number {
    const [number, , context] = args;
    if (number === IO_DESTROY) return 0;
    if (number !== IO_SETUP) return this.#real.syscall(...args);
    const view = this.#viewOf(context);
    if (view === undefined) return this.#real.syscall(...args);
    if (this.#queue === undefined) {
      if (this.#real.syscall(...args) !== 0) return this.#fail(this.#real.errno());
      this.#queue = view.getBigUint64(0, true);
    }
    view.setBigUint64(0, this.#queue, true);
    return 0;
  }
}
