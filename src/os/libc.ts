import { createRequire } from "node:module";
import { endianness } from "node:os";
import { FfiMissingError, OsError } from "./error.js";

/** Pointers are passed as numbers: user space addresses stay far below 2^53 on every 64-bit Linux. */
type Pointer = number;

/** The C library's functions that Node has no equivalent of. All return -1 on failure, with {@link Libc.errno} set. */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, pair: Pointer): number;
  bind(fd: number, address: Pointer, length: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: Pointer, length: Pointer, flags: number): number;
  connect(fd: number, address: Pointer, length: number): number;
  shutdown(fd: number, how: number): number;
  getsockopt(fd: number, level: number, name: number, value: Pointer, length: Pointer): number;
  setsockopt(fd: number, level: number, name: number, value: Pointer, length: number): number;
  recvmsg(fd: number, message: Pointer, flags: number): number;
  sendmsg(fd: number, message: Pointer, flags: number): number;
  send(fd: number, buffer: Pointer, length: number, flags: number): number;
  open(path: string, flags: number, type: "unsigned int", mode: number): number;
  close(fd: number): number;
  dup(fd: number): number;
  memfd_create(name: string, flags: number): number;
  fcntl(fd: number, command: number, type: "int", argument: number): number;
  flock(fd: number, operation: number): number;
  ftruncate(fd: number, length: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  pread(fd: number, buffer: Pointer, length: number, offset: number): number;
  pwrite(fd: number, buffer: Pointer, length: number, offset: number): number;
  read(fd: number, buffer: Pointer, length: number): number;
  write(fd: number, buffer: Pointer, length: number): number;
  mmap(address: Pointer, length: number, protection: number, flags: number, fd: number, offset: number): Pointer;
  munmap(address: Pointer, length: number): number;
  eventfd(initial: number, flags: number): number;
  poll(fds: Pointer, count: number, timeout: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: Pointer): number;
  epoll_wait(epoll: number, events: Pointer, capacity: number, timeout: number): number;
  ioctl(fd: number, request: number, type: "uintptr_t", argument: Pointer): number;
  getpagesize(): number;
  /** Any call by its number, for those that the C library has no function for. */
  syscall(number: number, a: Pointer, b: Pointer, c: Pointer, d: Pointer, e: Pointer): number;
  /** The errno of this thread's last failed call. */
  errno(): number;
  /** Where an ArrayBuffer's bytes are. */
  addressOf(buffer: ArrayBuffer): Pointer;
  /** An ArrayBuffer over foreign memory, at most 1 GiB: Node 20 aborts above 4 GiB. */
  view(address: Pointer, length: number): ArrayBuffer;
}

const PROTOTYPES = [
  "int socket(int, int, int)",
  "int socketpair(int, int, int, uintptr_t)",
  "int bind(int, uintptr_t, uint32_t)",
  "int listen(int, int)",
  "int accept4(int, uintptr_t, uintptr_t, int)",
  "int connect(int, uintptr_t, uint32_t)",
  "int shutdown(int, int)",
  "int getsockopt(int, int, int, uintptr_t, uintptr_t)",
  "int setsockopt(int, int, int, uintptr_t, uint32_t)",
  "int64_t recvmsg(int, uintptr_t, int)",
  "int64_t sendmsg(int, uintptr_t, int)",
  "int64_t send(int, uintptr_t, size_t, int)",
  "int open(const char *, int, ...)",
  "int close(int)",
  "int dup(int)",
  "int memfd_create(const char *, unsigned int)",
  "int fcntl(int, int, ...)",
  "int flock(int, int)",
  "int ftruncate(int, int64_t)",
  "int fallocate(int, int, int64_t, int64_t)",
  "int64_t pread(int, uintptr_t, size_t, int64_t)",
  "int64_t pwrite(int, uintptr_t, size_t, int64_t)",
  "int64_t read(int, uintptr_t, size_t)",
  "int64_t write(int, uintptr_t, size_t)",
  // Signed, so that MAP_FAILED is -1 and not 2^64 - 1, which no number holds.
  "intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)",
  "int munmap(uintptr_t, size_t)",
  "int eventfd(unsigned int, int)",
  "int poll(uintptr_t, unsigned long, int)",
  "int epoll_create1(int)",
  "int epoll_ctl(int, int, int, uintptr_t)",
  "int epoll_wait(int, uintptr_t, int, int)",
  "int ioctl(int, unsigned long, ...)",
  "int getpagesize()",
  "int64_t syscall(int64_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t)",
];

type Koffi = typeof import("koffi");

function loadKoffi(): Koffi {
  if (process.platform !== "linux" || endianness() !== "LE") {
    throw new FfiMissingError(`${process.platform}/${process.arch} is not supported: this needs a little-endian Linux`);
  }
  try {
    return createRequire(import.meta.url)("koffi") as Koffi;
  } catch (cause) {
    throw new FfiMissingError(
      `koffi, through which system calls are made, cannot be loaded on ${process.platform}/${process.arch}; ` +
        "install it with `npm install koffi` (commands that only read files work without it)",
      { cause },
    );
  }
}

function bindLibc(): Libc {
  const koffi = loadKoffi();
  const library = koffi.load(null);
  const functions: Record<string, unknown> = {
    errno: () => koffi.errno(),
    addressOf: (buffer: ArrayBuffer) => Number(koffi.address(buffer)),
    view: (address: number, length: number) => koffi.view(BigInt(address), length),
  };
  for (const prototype of PROTOTYPES) {
    const name = /(\w+)\(/.exec(prototype)?.[1];
    if (name !== undefined) functions[name] = library.func(prototype);
  }
  return functions as unknown as Libc;
}

let bound: Libc | undefined;

/**
 * The C library, bound at first use, so that whoever never calls the operating system needs no FFI.
 * @throws {FfiMissingError} where koffi is not installed or has no build for the platform
 */
export function libc(): Libc {
  bound ??= bindLibc();
  return bound;
}

/**
 * The result of a call, unless it failed.
 * @throws {OsError} with this thread's errno when `result` is negative
 */
export function checked(result: number, syscall: string, detail?: string): number {
  if (result < 0) throw new OsError(syscall, libc().errno(), detail);
  return result;
}
