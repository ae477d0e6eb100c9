import { getSystemErrorName } from "node:util";

/** A system call that failed: `code` is the errno's name, `syscall` the call's. */
export class OsError extends Error {
  override readonly name = "OsError";
  readonly code: string;

  /**
   * @param syscall name of the call, as in its manual page
   * @param errno positive errno value
   * @param detail what it was called on, for the message
   */
  constructor(
    readonly syscall: string,
    readonly errno: number,
    detail?: string,
  ) {
    const code = errnoName(errno);
    super(`${syscall}${detail === undefined ? "" : ` ${detail}`}: ${code}`);
    this.code = code;
  }
}

/** The platform has no working foreign function interface, so nothing that needs one can run. */
export class FfiMissingError extends Error {
  override readonly name = "FfiMissingError";
  readonly code = "ERR_FFI_MISSING";
}

/** The name of a positive errno value, or words with the number for one that has none. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno);
}
