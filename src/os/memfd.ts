import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { truncate } from "./file.js";
import { checked, libc } from "./libc.js";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/** Letters of a name: none takes more than three bytes, or six with its other half. */
const MAX_NAME = 80;

/** Seals of a memfd, as in `linux/fcntl.h`. */
export const F_SEAL_SEAL = 1;
export const F_SEAL_SHRINK = 2;
export const F_SEAL_GROW = 4;
export const F_SEAL_WRITE = 8;

/**
 * Anonymous memory with a descriptor, zeroed, not taking space until it is written.
 * @param name shows up in `/proc/PID/fd`, its beginning if it is long: the kernel refuses more than 249 bytes
 * @param seals none leaves the size free to change; to hand memory to others seal shrinking and growing
 */
export function createMemfd(name: string, size: number, seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW): Fd {
  const fd = new Fd(
    checked(libc().memfd_create(name.slice(0, MAX_NAME), MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create"),
  );
  try {
    truncate(fd, size);
    if (seals !== 0) addSeals(fd, seals);
  } catch (error) {
    fd.close();
    throw error;
  }
  return fd;
}

/** Adds seals, which cannot be taken away again. @throws {OsError} */
export function addSeals(fd: Fd, seals: number): void {
  checked(libc().fcntl(fd.number, F_ADD_SEALS, "int", seals), "fcntl", "F_ADD_SEALS");
}

/** The seals of a file; undefined for one that cannot have any, because it does not lie in memory. */
export function getSeals(fd: Fd): number | undefined {
  const seals = libc().fcntl(fd.number, F_GET_SEALS, "int", 0);
  if (seals >= 0) return seals;
  const errno = libc().errno();
  if (errno === constants.errno.EINVAL) return undefined;
  throw new OsError("fcntl", errno, "F_GET_SEALS");
}
