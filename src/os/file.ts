import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";

export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_UN = 8;
const LOCK_NB = 4;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

const O_CLOEXEC = 0o2000000;

/**
 * Opens a file, close-on-exec. Node's own `openSync` is not for an {@link Fd}: a worker closes what it has opened with
 * that when it ends, whatever has the number by then.
 * @param flags O_* of `node:fs`
 * @param mode of a file that is created, less the umask
 * @throws {OsError}
 */
export function openFile(path: string, flags: number, mode = 0): Fd {
  return new Fd(checked(libc().open(path, flags | O_CLOEXEC, "unsigned int", mode), "open", path));
}

/**
 * Reads at an offset into foreign memory, as `pread`.
 * @returns bytes read, fewer than asked for only at the end of the file
 * @throws {OsError}
 */
export function preadInto(fd: Fd, address: number, length: number, offset: number): number {
  let done = 0;
  while (done < length) {
    const count = libc().pread(fd.number, address + done, length - done, offset + done);
    if (count < 0 && libc().errno() === constants.errno.EINTR) continue;
    if (checked(count, "pread") === 0) break;
    done += count;
  }
  return done;
}

/**
 * Writes at an offset from foreign memory, as `pwrite`.
 * @throws {OsError}
 */
export function pwriteFrom(fd: Fd, address: number, length: number, offset: number): void {
  let done = 0;
  while (done < length) {
    const count = libc().pwrite(fd.number, address + done, length - done, offset + done);
    if (count < 0 && libc().errno() === constants.errno.EINTR) continue;
    done += checked(count, "pwrite");
  }
}

/** Sets a file's size in bytes. @throws {OsError} EPERM when a seal forbids it */
export function truncate(fd: Fd, size: number): void {
  checked(libc().ftruncate(fd.number, size), "ftruncate");
}

/**
 * Gives back the memory behind a piece of a file, which reads as zeros from then on, for whoever has it mapped too. The
 * file's size stays as it is, and a piece beyond its end is no error.
 * @param offset bytes; pages that lie only partly within are zeroed there
 * @param size bytes, at least 1
 * @throws {OsError} EOPNOTSUPP where the file system has no holes, EPERM when the file is sealed against writing, EINVAL
 */
export function punchHole(fd: Fd, offset: number, size: number): void {
  checked(libc().fallocate(fd.number, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size), "fallocate");
}

/**
 * Takes or drops an advisory lock without waiting.
 * @returns false when somebody else holds it
 */
export function tryLock(fd: Fd, operation: typeof LOCK_SH | typeof LOCK_EX | typeof LOCK_UN): boolean {
  if (libc().flock(fd.number, operation | LOCK_NB) === 0) return true;
  const errno = libc().errno();
  if (errno === constants.errno.EWOULDBLOCK) return false;
  throw new OsError("flock", errno);
}

/**
 * A device control call with a pointer (or a number) as its argument.
 * @returns the call's result, not negative
 * @throws {OsError}
 */
export function ioctl(fd: Fd, request: number, argument: number, name = "ioctl"): number {
  return checked(libc().ioctl(fd.number, request, "uintptr_t", argument), "ioctl", name);
}
