import { constants, fstatSync, ftruncateSync, openSync, readSync, statSync, unlinkSync, writeSync } from "node:fs";
import { errnoInWords, errnoOf } from "../../host/error.js";
import { Fd, LOCK_EX, libc, tryLock } from "../../os/index.js";
import { UsageError } from "../failure.js";

/**
 * A file whose lock says that this process, and no other, uses the directory it is in. The kernel drops the lock when the
 * process ends, however it ends, so a file that was left behind hinders nobody.
 */
export class LockFile {
  readonly #path: string;
  readonly #fd: Fd;

  /**
   * Takes the lock.
   * @param use what the directory is used for, for the message
   * @throws UsageError when another process has it, with its number, or the file cannot be made;
   *   FfiMissingError where nothing can be locked
   */
  constructor(path: string, use: string) {
    this.#path = path;
    this.#fd = lock(path, use);
    try {
      ftruncateSync(this.#fd.number);
      writeSync(this.#fd.number, `${process.pid}\n`, 0);
    } catch {
      // Only the other one's message would have the number.
    }
  }

  /** Removes the file and lets the lock go. */
  release(): void {
    if (!this.#fd.isOpen) return;
    // Somebody may have cleared the directory, and the next one have begun.
    if (isStillThere(this.#fd, this.#path)) unlinkSync(this.#path);
    this.#fd.close();
  }
}

function lock(path: string, use: string): Fd {
  // Throws where there is none, before a file is made that could not be locked.
  libc();
  for (;;) {
    const fd = open(path);
    let mine = false;
    try {
      if (!tryLock(fd, LOCK_EX)) throw new UsageError(`another linkfence${ownerOf(fd)} ${use}`);
      mine = isStillThere(fd, path);
      if (mine) return fd;
    } finally {
      // Its owner removed the file between our opening and locking it: the next one has a file of its own.
      if (!mine) fd.close();
    }
  }
}

function open(path: string): Fd {
  try {
    return new Fd(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
  } catch (error) {
    throw new UsageError(`cannot make ${path}: ${errnoInWords(errnoOf(error))}`);
  }
}

function isStillThere(fd: Fd, path: string): boolean {
  try {
    return statSync(path).ino === fstatSync(fd.number).ino;
  } catch {
    return false;
  }
}

function ownerOf(fd: Fd): string {
  const text = Buffer.alloc(16);
  const length = readSync(fd.number, text, 0, text.length, 0);
  const pid = /^(\d{1,10})\n/.exec(text.toString("latin1", 0, length))?.[1];
  return pid === undefined ? "" : ` (process ${pid})`;
}
