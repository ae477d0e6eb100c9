import { type BigIntStats, fstatSync } from "node:fs";
import { constants } from "node:os";
import { OsError } from "./error.js";
import { checked, libc } from "./libc.js";

const F_GETFL = 3;
const O_ACCMODE = 3;
const F_DUPFD_CLOEXEC = 1030;

/** Who may close a file descriptor: exactly one `Fd` holds its number, and closes it exactly once. */
export class Fd {
  #number: number;

  /** Takes ownership of an open descriptor. */
  constructor(number: number) {
    this.#number = number;
  }

  /**
   * The descriptor, for a call that does not keep it.
   * @throws {OsError} EBADF after `close` or `release`
   */
  get number(): number {
    if (this.#number < 0) throw new OsError("fd", constants.errno.EBADF, "used after it was closed");
    return this.#number;
  }

  get isOpen(): boolean {
    return this.#number >= 0;
  }

  /** Closes the descriptor; does nothing when it is closed or released already. */
  close(): void {
    const number = this.#number;
    this.#number = -1;
    if (number >= 0) libc().close(number);
  }

  /** Gives up ownership: the caller has to close the number that is returned. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    return number;
  }

  /** A second descriptor of the same open file, close-on-exec, with an owner of its own. */
  duplicate(): Fd {
    return duplicateFd(this.number);
  }

  /** `fstat`, with 64-bit fields as bigints. */
  stat(): BigIntStats {
    return fstatSync(this.number, { bigint: true });
  }

  /** O_RDONLY, O_WRONLY or O_RDWR, as the file was opened. */
  accessMode(): number {
    return checked(libc().fcntl(this.number, F_GETFL, "int", 0), "fcntl", "F_GETFL") & O_ACCMODE;
  }
}

/** A second descriptor of an open file that somebody else owns, close-on-exec. @throws {OsError} */
export function duplicateFd(number: number): Fd {
  return new Fd(checked(libc().fcntl(number, F_DUPFD_CLOEXEC, "int", 0), "fcntl", "F_DUPFD_CLOEXEC"));
}
