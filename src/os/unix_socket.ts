import { chmodSync, fchmodSync, lchownSync, unlinkSync } from "node:fs";
import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";
import { NativeMemory } from "./native_memory.js";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_PEERCRED = process.arch === "ppc64" ? 21 : 17;
const SHUT_RDWR = 2;

const { EAGAIN, EINTR, EINVAL, ECONNABORTED, ENAMETOOLONG } = constants.errno;

/** Who is at the other end of a Unix socket, as the kernel saw it when the connection was made. */
export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** The longest path a Unix socket can have, in bytes (unix(7)). */
export const MAX_SOCKET_PATH = 107;

function socketAddress(path: string): NativeMemory {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > MAX_SOCKET_PATH || name.includes(0)) {
    const detail = `socket path of ${name.length} bytes (1 to ${MAX_SOCKET_PATH} are allowed): ${path}`;
    throw new OsError("bind", ENAMETOOLONG, detail);
  }
  const address = new NativeMemory(2 + name.length + 1);
  address.view.setUint16(0, AF_UNIX, true);
  address.bytes.set(name, 2);
  return address;
}

function createSocket(): Fd {
  return new Fd(checked(libc().socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
}

/** Who may connect to a socket besides its owner. */
export interface ListenOptions {
  /** The id of a group whose members may (the file has mode 0660 then, else 0600). */
  group?: number | undefined;
}

const BACKLOG = 16;

/**
 * A listening, non-blocking Unix stream socket at a path that must be free. There is no moment at which anybody can
 * connect who is not to.
 * @throws {OsError} EADDRINUSE when the path exists, ENAMETOOLONG above {@link MAX_SOCKET_PATH} bytes; EPERM for a group
 * that this process is not in, EINVAL for what is no group's id. Nothing is left behind then
 */
export function listenUnix(path: string, { group }: ListenOptions = {}): Fd {
  const address = socketAddress(path);
  const fd = createSocket();
  let bound = false;
  try {
    // The file inherits the socket's mode, whatever the umask allows.
    fchmodSync(fd.number, 0o600);
    checked(libc().bind(fd.number, address.address, address.bytes.length), "bind", path);
    bound = true;
    if (group !== undefined) openToGroup(path, group);
    checked(libc().listen(fd.number, BACKLOG), "listen", path);
  } catch (error) {
    if (bound) unlinkSync(path);
    fd.close();
    throw error;
  }
  return fd;
}

/** The highest group id: the next one means "leave it as it is" to chown(2). */
const MAX_GROUP = 2 ** 32 - 2;

/** Nobody can connect yet: the socket does not listen. The group comes first, or its former group could. */
function openToGroup(path: string, group: number): void {
  if (!Number.isInteger(group) || group < 0 || group > MAX_GROUP) {
    throw new OsError("chown", EINVAL, `${path} (${group} is no group's id)`);
  }
  try {
    lchownSync(path, -1, group);
    chmodSync(path, 0o660);
  } catch (error) {
    const { errno, syscall } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    throw new OsError(syscall ?? "chown", -errno, `${path} to group ${group} (one has to be in it, or root)`);
  }
}

/**
 * A non-blocking connection to a Unix stream socket.
 * @throws {OsError} ENOENT or ECONNREFUSED when nobody listens, EAGAIN when too many wait there already
 */
export function connectUnix(path: string): Fd {
  const address = socketAddress(path);
  const fd = createSocket();
  try {
    checked(libc().connect(fd.number, address.address, address.bytes.length), "connect", path);
  } catch (error) {
    fd.close();
    throw error;
  }
  return fd;
}

/** Takes one waiting connection, non-blocking; undefined when none waits. */
export function acceptUnix(listener: Fd): Fd | undefined {
  const number = libc().accept4(listener.number, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (number >= 0) return new Fd(number);
  const errno = libc().errno();
  if (errno === EAGAIN || errno === EINTR || errno === ECONNABORTED) return undefined;
  throw new OsError("accept4", errno);
}

/** Two non-blocking stream sockets connected to each other. */
export function socketPair(): [Fd, Fd] {
  const pair = new NativeMemory(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  checked(libc().socketpair(AF_UNIX, type, 0, pair.address), "socketpair");
  return [new Fd(pair.view.getInt32(0, true)), new Fd(pair.view.getInt32(4, true))];
}

/** Ends the conversation in both directions and wakes whoever waits; the descriptor stays open. */
export function shutdownSocket(fd: Fd): void {
  libc().shutdown(fd.number, SHUT_RDWR);
}

export function peerCredentials(fd: Fd): PeerCredentials {
  const value = new NativeMemory(16);
  value.view.setUint32(12, 12, true);
  const result = libc().getsockopt(fd.number, SOL_SOCKET, SO_PEERCRED, value.address, value.address + 12);
  checked(result, "getsockopt", "SO_PEERCRED");
  const { view } = value;
  return { pid: view.getInt32(0, true), uid: view.getUint32(4, true), gid: view.getUint32(8, true) };
}

/** Asks for room for `bytes` that were sent and not yet received; the kernel may grant less. */
export function setSendBuffer(fd: Fd, bytes: number): void {
  const value = new NativeMemory(4);
  value.view.setUint32(0, bytes, true);
  checked(libc().setsockopt(fd.number, SOL_SOCKET, SO_SNDBUF, value.address, 4), "setsockopt", "SO_SNDBUF");
}
