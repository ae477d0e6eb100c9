import { constants } from "node:os";
import { OsError } from "./error.js";
import type { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_NORESERVE = 0x4000;
/** What is passed to the kernel as a number. */
const MAX_LENGTH = Number.MAX_SAFE_INTEGER;

/** What may be done with memory that is mapped. */
export interface MappingAccess {
  readable: boolean;
  writable: boolean;
}

/**
 * Maps a piece of a file, of any size, for the kernel to find the memory by its address. This process never looks at it: the
 * file may be a client's, which may cut it short at any moment, and touching it would then end the process.
 * @param offset bytes, a multiple of the page size
 * @returns the address, for {@link unmapUnseen} or `munmap` in a `CallThread`: of memory in use that takes long
 * @throws {OsError} EINVAL for a bad offset or length, EACCES for a file that was opened for less, and what `mmap` says
 */
export function mapUnseen(fd: Fd | number, offset: number, length: number, access: MappingAccess): number {
  if (!(length > 0 && length <= MAX_LENGTH)) throw new OsError("mmap", constants.errno.EINVAL, `of ${length} bytes`);
  const protection = (access.readable ? PROT_READ : 0) | (access.writable ? PROT_WRITE : 0);
  const number = typeof fd === "number" ? fd : fd.number;
  return checked(libc().mmap(0, length, protection, MAP_SHARED | MAP_NORESERVE, number, offset), "mmap");
}

/** Takes a mapping back. @throws {OsError} */
export function unmapUnseen(address: number, length: number): void {
  checked(libc().munmap(address, length), "munmap");
}
