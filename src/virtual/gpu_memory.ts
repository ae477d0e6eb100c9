import { createMemfd, type Fd, libc, preadInto, punchHole, pwriteFrom } from "../os/index.js";
import { VfioError } from "../vfio/error.js";
import { runToEnd, type Steps } from "../vfio/steps.js";
import type { VideoMemory } from "./video_memory.js";

export const GIB = 2 ** 30;
/** A V100 with 16 GB. */
const DEFAULT_SIZE = 16 * GIB;
const LEAST_SIZE = 0x10000;
/** What the kernel frees of memory in use within a third of a millisecond. */
const CLEARED_AT_ONCE = 2 ** 21;
/** Unit of `st_blocks`, whatever the file system. */
const STAT_BLOCK = 512;
/** How long clearing goes on before others have their turn, in milliseconds. */
const TURN = 0.5;

/**
 * A GPU's memory: a sealed memfd that takes space only where it was written, so that it can be mapped by whoever is
 * given its descriptor. Reads and writes from here are calls to the kernel: a read of what was never written leaves the
 * hole a hole.
 */
export class GpuMemory implements VideoMemory {
  readonly size: number;
  readonly #name: string;
  #file: Fd;
  /** The buffer that was last read into or written from, and where it is: taking its address costs as much as the rest. */
  #buffer: ArrayBufferLike | undefined;
  #address = 0;

  /**
   * @param name shows up in `/proc/PID/fd`
   * @param size bytes
   * @throws {VfioError} EINVAL for a size that is no power of two of at least 64 KiB, as BAR1 has to be
   */
  constructor(name: string, size = DEFAULT_SIZE) {
    if (!(size >= LEAST_SIZE && Number.isInteger(Math.log2(size)))) {
      throw new VfioError("EINVAL", `GPU memory of ${size} bytes: a power of two of at least ${LEAST_SIZE} is needed`);
    }
    this.size = size;
    this.#name = name;
    this.#file = createMemfd(name, size);
  }

  /** The file's descriptor, which stays this object's and is another one after {@link renew}. */
  get fd(): number {
    return this.#file.number;
  }

  /** @throws {VfioError} EIO beyond the end */
  read(offset: number, data: Uint8Array): void {
    this.#check(offset, data.length);
    preadInto(this.#file, this.#addressOf(data), data.length, offset);
  }

  /** @throws {VfioError} EIO beyond the end; {@link OsError} when the host has no more memory */
  write(offset: number, data: Uint8Array): void {
    this.#check(offset, data.length);
    pwriteFrom(this.#file, this.#addressOf(data), data.length, offset);
  }

  clear(): void {
    runToEnd(this.clearSteps());
  }

  *clearSteps(): Steps {
    const file = this.#file;
    const used = Number(file.stat().blocks) * STAT_BLOCK;
    const piece = used > CLEARED_AT_ONCE ? CLEARED_AT_ONCE : this.size;
    let end = performance.now() + TURN;
    for (let at = 0; at < this.size && file.isOpen; at += piece) {
      punchHole(file, at, Math.min(piece, this.size - at));
      if (performance.now() < end) continue;
      yield { deadline: 0 };
      end = performance.now() + TURN;
    }
  }

  /** Goes on with a new file, all zeros: whoever still maps the old one keeps the old one only. */
  renew(): void {
    const old = this.#file;
    this.#file = createMemfd(this.#name, this.size);
    old.close();
  }

  /** Gives the memory back, once nobody maps it any more. */
  close(): void {
    this.#file.close();
    this.#buffer = undefined;
  }

  #check(offset: number, length: number): void {
    if (offset >= 0 && offset + length <= this.size) return;
    throw new VfioError("EIO", `${length} bytes at 0x${offset.toString(16)} of a GPU memory of ${this.size} bytes`);
  }

  #addressOf(data: Uint8Array): number {
    if (data.buffer !== this.#buffer) {
      this.#buffer = data.buffer;
      this.#address = libc().addressOf(data.buffer as ArrayBuffer);
    }
    return this.#address + data.byteOffset;
  }
}
