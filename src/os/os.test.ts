import assert from "node:assert/strict";
import { constants, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openFiles } from "../../test/vfio_user/open_files.js";
import {
  acceptUnix,
  addSeals,
  connectUnix,
  createEventfd,
  createMemfd,
  drainEventfd,
  duplicateFd,
  errnoName,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  Fd,
  fileSystemType,
  getSeals,
  ioctl,
  isEventfd,
  LOCK_EX,
  LOCK_UN,
  libc,
  listenUnix,
  MAX_WINDOW,
  Mapping,
  NativeMemory,
  OsError,
  openFile,
  POLLHUP,
  POLLIN,
  POLLOUT,
  Poller,
  peerCredentials,
  pollOne,
  preadInto,
  punchHole,
  pwriteFrom,
  SCM_MAX_FD,
  SocketMessenger,
  shutdownSocket,
  signalEventfd,
  socketPair,
  truncate,
  tryLock,
  WOULD_BLOCK,
} from "./index.js";

const FIONREAD = process.arch === "ppc64" ? 0x4004667f : 0x541b;
const directory = mkdtempSync(join(tmpdir(), "linkfence-os-"));
let openBefore: ReturnType<typeof openFiles>;

function isOsError(code: string, syscall: string) {
  return (error: unknown) => error instanceof OsError && error.code === code && error.syscall === syscall;
}

before(() => {
  // What stays open for good: the poll and eventfd structures are memory, not descriptors.
  libc();
  openBefore = openFiles();
});

after(() => {
  assert.deepEqual(openFiles(), openBefore, "descriptors or mappings were leaked by the tests above");
  rmSync(directory, { recursive: true });
});

test("bytes and descriptors arrive together, close-on-exec, and with an owner of their own", () => {
  const [left, right] = socketPair();
  const messenger = new SocketMessenger();
  const memory = new NativeMemory(64);
  const memfd = createMemfd("passed", 4096);
  memory.bytes.fill(7, 0, 20);
  assert.equal(messenger.sendWithFds(left.number, memory.address, 20, [memfd.number, memfd.number]), 20);
  memory.bytes.fill(0);
  assert.equal(messenger.receive(right.number, memory.address, 64), 20);
  assert.deepEqual(memory.bytes.subarray(0, 21), new Uint8Array(21).fill(7, 0, 20));
  assert.equal(messenger.hasFds, true);
  const fds = messenger.takeFds();
  assert.equal(messenger.hasFds, false);
  assert.equal(fds.length, 2);
  for (const fd of fds) {
    assert.equal(libc().fcntl(fd.number, 1, "int", 0), 1, "FD_CLOEXEC");
    assert.equal(fd.stat().ino, memfd.stat().ino);
    fd.close();
  }
  for (const fd of [left, right, memfd]) fd.close();
});

test("as many descriptors as the kernel passes at once go through, and one more is refused by name", () => {
  const [left, right] = socketPair();
  const messenger = new SocketMessenger();
  const memory = new NativeMemory(8);
  const many = new Array<number>(SCM_MAX_FD).fill(left.number);
  assert.equal(messenger.sendWithFds(left.number, memory.address, 1, many), 1);
  assert.equal(messenger.receive(right.number, memory.address, 8), 1);
  const fds = messenger.takeFds();
  assert.equal(fds.length, SCM_MAX_FD);
  for (const fd of fds) fd.close();
  const tooMany = [...many, left.number];
  assert.throws(() => messenger.sendWithFds(left.number, memory.address, 1, tooMany), isOsError("EINVAL", "sendmsg"));
  left.close();
  right.close();
});

test("sockets never wait: an empty one says so, a full one takes no more, a closed one ends", () => {
  const [left, right] = socketPair();
  const messenger = new SocketMessenger();
  const memory = new NativeMemory(1 << 16);
  assert.equal(messenger.receive(left.number, memory.address, 8), WOULD_BLOCK);
  let sent = 0;
  for (let count = 0; count !== WOULD_BLOCK; count = messenger.send(left.number, memory.address, 1 << 16))
    sent += count;
  assert.ok(sent > 0);
  assert.equal(pollOne(left, POLLOUT, 0), 0);
  right.close();
  assert.throws(() => messenger.send(left.number, memory.address, 1), isOsError("EPIPE", "send"));
  assert.throws(() => messenger.receive(left.number, memory.address, 8), isOsError("ECONNRESET", "recvmsg"));
  assert.equal(messenger.receive(left.number, memory.address, 8), 0);
  left.close();
});

test("a socket at a path is connected to, knows its peer, and wakes whoever waits when it is shut down", () => {
  const path = join(directory, "socket");
  const umask = process.umask(0);
  const listener = listenUnix(path);
  process.umask(umask);
  assert.equal(statSync(path).mode & 0o777, 0o600, "whoever may connect owns the device");
  assert.equal(acceptUnix(listener), undefined);
  const client = connectUnix(path);
  const server = acceptUnix(listener);
  assert.ok(server);
  assert.deepEqual(peerCredentials(server), { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  shutdownSocket(client);
  assert.equal(pollOne(server, POLLIN, 1000) & POLLHUP, POLLHUP);
  for (const fd of [listener, client, server]) fd.close();
});

test("socket paths that exist, that nobody listens at, and that are too long are told apart", () => {
  const path = join(directory, "taken");
  listenUnix(path).close();
  assert.throws(() => listenUnix(path), isOsError("EADDRINUSE", "bind"));
  assert.throws(() => connectUnix(path), isOsError("ECONNREFUSED", "connect"));
  assert.throws(() => connectUnix(join(directory, "absent")), isOsError("ENOENT", "connect"));
  assert.throws(() => connectUnix(`/tmp/${"x".repeat(103)}`), /108 bytes/);
  assert.throws(() => connectUnix("a\0b"), /socket path/);
});

test("a memfd has the size and the seals it was given, and they hold", () => {
  const fd = createMemfd("sealed", 8192);
  assert.equal(fd.stat().size, 8192n);
  assert.equal(getSeals(fd), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
  assert.throws(() => truncate(fd, 4096), isOsError("EPERM", "ftruncate"));
  assert.throws(() => addSeals(fd, F_SEAL_GROW), isOsError("EPERM", "fcntl"));
  fd.close();
  const free = createMemfd("free", 4096, 0);
  assert.equal(getSeals(free), 0);
  addSeals(free, F_SEAL_GROW);
  assert.equal(getSeals(free), F_SEAL_GROW);
  free.close();
  const file = openFile(join(directory, "plain"), constants.O_CREAT | constants.O_RDWR, 0o640);
  assert.equal(statSync(join(directory, "plain")).mode & 0o777, 0o640 & ~process.umask());
  assert.equal(libc().fcntl(file.number, 1, "int", 0), 1, "FD_CLOEXEC");
  assert.throws(() => openFile(join(directory, "absent"), constants.O_RDONLY), isOsError("ENOENT", "open"));
  assert.ok(getSeals(file) === undefined || fileSystemType(file.stat().dev) === "tmpfs");
  file.close();
});

test("mapped memory is the file's: what one mapping writes another reads, and pread too", () => {
  const fd = createMemfd("mapped", 8192);
  const one = new Mapping(fd, 0, 8192, "read-write");
  const other = new Mapping(fd, 4096, 4096, "read");
  one.bytes.set([1, 2, 3], 4096);
  assert.deepEqual(other.bytes.subarray(0, 3), Uint8Array.of(1, 2, 3));
  const memory = new NativeMemory(16);
  assert.equal(preadInto(fd, memory.address, 16, 8180), 12, "it stops at the end");
  assert.equal(preadInto(fd, memory.address, 3, 4096), 3);
  assert.deepEqual(memory.bytes.subarray(0, 3), Uint8Array.of(1, 2, 3));
  memory.bytes.fill(9);
  pwriteFrom(fd, memory.address, 4, 4100);
  assert.deepEqual(other.bytes.subarray(3, 9), Uint8Array.of(0, 9, 9, 9, 9, 0));
  one.unmap();
  one.unmap();
  assert.throws(() => one.bytes, isOsError("EFAULT", "mmap"));
  other.unmap();
  fd.close();
});

test("memory beyond 4 GiB of a sparse file is reached through a window", () => {
  const fd = createMemfd("large", 16 * 2 ** 30);
  const window = new Mapping(fd, 15 * 2 ** 30, MAX_WINDOW, "read-write");
  window.bytes[MAX_WINDOW - 1] = 42;
  const memory = new NativeMemory(1);
  assert.equal(preadInto(fd, memory.address, 1, 16 * 2 ** 30 - 1), 1);
  assert.equal(memory.bytes[0], 42);
  window.unmap();
  assert.throws(() => new Mapping(fd, 0, MAX_WINDOW + 1, "read"), isOsError("EINVAL", "mmap"));
  assert.throws(() => new Mapping(fd, 1, 4096, "read"), isOsError("EINVAL", "mmap"));
  fd.close();
});

test("a hole in a memfd reads as zeros in every mapping and takes no memory, beyond 4 GiB too", () => {
  // A multiple of every page size; blocks are of 512 bytes.
  const [piece, size] = [65_536, 16 * 2 ** 30];
  const used = () => fd.stat().blocks / BigInt(piece / 512);
  const fd = createMemfd("holes", size);
  const window = new Mapping(fd, size - 4 * piece, 4 * piece, "read-write");
  window.bytes.fill(7);
  const low = new Mapping(fd, 0, piece, "read-write");
  low.bytes.fill(8);
  assert.equal(used(), 5n);
  punchHole(fd, size - 3 * piece, 2 * piece);
  assert.equal(used(), 3n);
  assert.equal(fd.stat().size, BigInt(size));
  punchHole(fd, size - 4 * piece + 1, 2);
  assert.deepEqual(
    window.bytes,
    new Uint8Array(4 * piece)
      .fill(7)
      .fill(0, piece, 3 * piece)
      .fill(0, 1, 3),
  );
  assert.ok(low.bytes.every((byte) => byte === 8));
  punchHole(fd, 0, size);
  assert.equal(used(), 0n);
  window.bytes.fill(9, 0, piece);
  assert.equal(used(), 1n, "it is the same memory still");
  assert.ok(low.bytes.every((byte) => byte === 0));
  assert.throws(() => punchHole(fd, 0, 0), isOsError("EINVAL", "fallocate"));
  window.unmap();
  low.unmap();
  fd.close();
});

test("an eventfd counts, and signalling a full one does not wait", () => {
  const fd = createEventfd();
  assert.equal(isEventfd(fd), true);
  assert.equal(drainEventfd(fd), 0n);
  signalEventfd(fd);
  signalEventfd(fd);
  assert.equal(drainEventfd(fd), 2n);
  const memory = new NativeMemory(8);
  memory.view.setBigUint64(0, 0xfffffffffffffffen, true);
  assert.equal(libc().write(fd.number, memory.address, 8), 8);
  const blocking = duplicateFd(fd.number);
  assert.equal(libc().fcntl(blocking.number, 4, "int", 0), 0, "without O_NONBLOCK");
  signalEventfd(blocking);
  assert.equal(drainEventfd(fd), 0xfffffffffffffffen);
  const [left, right] = socketPair();
  assert.equal(isEventfd(left), false);
  for (const one of [fd, blocking, left, right]) one.close();
});

test("a poller calls the watchers of what is ready, and none that was removed meanwhile", () => {
  const poller = new Poller();
  const [left, right] = socketPair();
  const event = createEventfd();
  const calls: string[] = [];
  let eventToken = 0;
  const onReady = () => {
    calls.push("left");
    poller.remove(event, eventToken);
  };
  const leftToken = poller.add(left, POLLIN, { onReady });
  assert.equal(poller.wait(0), 0);
  const memory = new NativeMemory(1);
  new SocketMessenger().send(right.number, memory.address, 1);
  eventToken = poller.add(event, POLLIN, { onReady: () => calls.push("event") });
  signalEventfd(event);
  poller.wait(1000);
  assert.deepEqual(calls, ["left"]);
  poller.modify(left, leftToken, 0);
  assert.equal(poller.wait(0), 0);
  poller.remove(left, leftToken);
  poller.close();
  for (const fd of [left, right, event]) fd.close();
});

test("a lock that somebody else holds is not waited for", () => {
  const path = join(directory, "lock");
  const one = new Fd(openSync(path, "w"));
  const other = new Fd(openSync(path, "w"));
  assert.equal(tryLock(one, LOCK_EX), true);
  assert.equal(tryLock(other, LOCK_EX), false);
  assert.equal(tryLock(one, LOCK_UN), true);
  assert.equal(tryLock(other, LOCK_EX), true);
  one.close();
  other.close();
});

test("ioctl passes a pointer and names the request that failed", () => {
  const [left, right] = socketPair();
  const memory = new NativeMemory(4);
  new SocketMessenger().send(right.number, memory.address, 3);
  assert.equal(ioctl(left, FIONREAD, memory.address, "FIONREAD"), 0);
  assert.equal(memory.view.getInt32(0, true), 3);
  assert.throws(() => ioctl(left, 0x3b64, 0, "VFIO_GET_API_VERSION"), /ioctl VFIO_GET_API_VERSION: ENOTTY/);
  left.close();
  right.close();
});

test("a descriptor is closed once, released at most once, and not usable afterwards", () => {
  const fd = createEventfd();
  const number = fd.number;
  fd.close();
  const next = createEventfd();
  assert.equal(next.number, number, "the number is used again");
  fd.close();
  assert.equal(next.stat().size, 0n, "closing again did not close the newcomer");
  assert.throws(() => fd.number, isOsError("EBADF", "fd"));
  const released = next.release();
  assert.equal(next.isOpen, false);
  new Fd(released).close();
});

test("the kind of file system that a file lies on is known without asking it", () => {
  writeFileSync(join(directory, "file"), "");
  const proc = new Fd(openSync("/proc/self/maps", "r"));
  assert.equal(fileSystemType(proc.stat().dev), "proc");
  proc.close();
  assert.equal(fileSystemType(0xfffn << 8n), undefined);
});

test("errors have the errno's name", () => {
  assert.equal(errnoName(17), "EEXIST");
  assert.match(errnoName(99999), /99999/);
});

test("a memfd may be called by any name, however long", (t) => {
  for (const name of ["x".repeat(300), "€".repeat(300), "😀".repeat(300)]) {
    const fd = createMemfd(name, 4096);
    t.after(() => fd.close());
    assert.ok(fd.number >= 0);
  }
});
