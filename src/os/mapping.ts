import { constants } from "node:os";
import { OsError } from "./error.js";
import type { Fd } from "./fd.js";
import { checked, libc } from "./libc.js";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;

/** The largest piece mapped at once: Node 20 aborts on views above 4 GiB. */
export const MAX_WINDOW = 2 ** 30;

/** A shared mapping of a piece of a file. Whoever made it unmaps it, once. */
export class Mapping {
  readonly length: number;
  readonly address: number;
  #bytes: Uint8Array | undefined;

  /**
   * @param offset a multiple of the page size
   * @param length bytes, at most {@link MAX_WINDOW}
   * @throws {OsError} EINVAL for a bad offset or length, and what `mmap` says
   */
  constructor(fd: Fd, offset: number, length: number, access: "read" | "read-write") {
    if (length <= 0 || length > MAX_WINDOW) throw new OsError("mmap", constants.errno.EINVAL, `of ${length} bytes`);
    const protection = access === "read" ? PROT_READ : PROT_READ | PROT_WRITE;
    this.length = length;
    this.address = checked(libc().mmap(0, length, protection, MAP_SHARED, fd.number, offset), "mmap");
    this.#bytes = new Uint8Array(libc().view(this.address, length));
  }

  /**
   * The mapped bytes. Keep no reference beyond `unmap`: touching one afterwards kills the process.
   * @throws {OsError} EFAULT after `unmap`
   */
  get bytes(): Uint8Array {
    if (this.#bytes === undefined) throw new OsError("mmap", constants.errno.EFAULT, "used after munmap");
    return this.#bytes;
  }

  /** Unmaps; does nothing the second time. */
  unmap(): void {
    if (this.#bytes === undefined) return;
    this.#bytes = undefined;
    checked(libc().munmap(this.address, this.length), "munmap");
  }
}
