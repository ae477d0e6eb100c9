import { constants, lstatSync, unlinkSync } from "node:fs";
import { constants as os } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { connectUnix, type Fd, LOCK_EX, listenUnix, OsError, openFile, tryLock } from "../os/index.js";

/** Each attempt to lock fails only when another server has just finished with the lock. */
const LOCK_ATTEMPTS = 100;

/** A listening socket and its file, which goes with it. */
export class Listener {
  /** Absolute: the working directory may change. */
  readonly path: string;
  readonly fd: Fd;
  readonly #inode: bigint;

  /**
   * Listens at a path, in place of a socket that a killed server has left there.
   * @param group as in {@link listenUnix}
   * @throws {OsError} EADDRINUSE when somebody listens there, is about to, or something other than a socket is in the
   * way; and as {@link listenUnix}. Nothing is left behind then
   */
  constructor(socket: string, group?: number) {
    this.path = resolve(socket);
    const lockPath = join(dirname(this.path), `.${basename(this.path)}.lock`);
    const lock = lockFile(lockPath, socket);
    try {
      this.fd = listenAt(socket, group);
      this.#inode = inodeOf(this.path) ?? -1n;
    } finally {
      // Whoever opens it from now on is alone with it, and those who have it open see that it is gone.
      remove(lockPath);
      lock.close();
    }
  }

  /** Removes the file, unless another has taken its place, and closes the socket. */
  close(): void {
    if (!this.fd.isOpen) return;
    // In this order: once nobody listens, another server may put a file of its own there at any moment.
    if (inodeOf(this.path) === this.#inode) remove(this.path);
    this.fd.close();
  }
}

function inodeOf(path: string): bigint | undefined {
  try {
    return lstatSync(path, { bigint: true }).ino;
  } catch {
    return undefined;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody removed it already, or may and this process may not.
  }
}

/**
 * Keeps other servers away from a path, for as long as it takes to look what is there and to listen: two that find the
 * same socket left behind would otherwise remove each other's.
 */
function lockFile(path: string, socket: string): Fd {
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    const lock = openLock(path, socket);
    if (!tryLock(lock, LOCK_EX)) {
      lock.close();
      break;
    }
    if (inodeOf(path) === lock.stat().ino) return lock;
    lock.close();
  }
  throw new OsError("bind", os.errno.EADDRINUSE, `${socket} (another server is about to listen there)`);
}

function openLock(path: string, socket: string): Fd {
  try {
    // Neither a link nor a FIFO that somebody has put there leads anywhere or makes this wait.
    return openFile(path, constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    throw new OsError("bind", error.errno, `${socket} (whose lock file is ${basename(path)})`);
  }
}

function listenAt(socket: string, group: number | undefined): Fd {
  try {
    return listenUnix(socket, { group });
  } catch (error) {
    if (!(error instanceof OsError) || error.code !== "EADDRINUSE" || !isLeftBehind(socket)) throw error;
    unlinkSync(socket);
    return listenUnix(socket, { group });
  }
}

function isLeftBehind(path: string): boolean {
  if (!lstatSync(path).isSocket()) return false;
  try {
    connectUnix(path).close();
    return false;
  } catch (error) {
    return error instanceof OsError && error.code === "ECONNREFUSED";
  }
}
