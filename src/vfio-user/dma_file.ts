import {
  F_SEAL_SHRINK,
  type Fd,
  getSeals,
  Mapping,
  NativeMemory,
  OsError,
  preadInto,
  pwriteFrom,
} from "../os/index.js";
import { VfioError } from "../vfio/index.js";

const O_RDONLY = 0;
const O_WRONLY = 1;
const SCRATCH_SIZE = 1 << 16;
/** Bytes mapped at once. Unmapping 1 GiB that was touched takes the kernel 40 ms, for which everybody would wait. */
const WINDOW = 1 << 26;
/** Windows that all clients together may have mapped: the kernel allows a process 65530 mappings (vm.max_map_count). */
const MAX_WINDOWS = 32_768;

let scratch: NativeMemory | undefined;
let windowCount = 0;

/**
 * A client's memory file, shared by all ranges that lie in it: clients send a descriptor of the same file with every
 * range, and thousands of ranges must not cost thousands of descriptors and mappings.
 *
 * It is mapped only when its seals promise that it cannot shrink, because touching a page beyond the end of a file is a
 * SIGBUS, which ends the process. Otherwise it is read and written by system calls, which merely fail.
 */
export class DmaFile {
  readonly #fd: Fd;
  readonly #writable: boolean;
  readonly #windowSize: number;
  readonly #windows = new Map<number, Mapping>();
  #mappable: boolean;
  /** Ranges that lie in it. */
  uses = 0;

  /**
   * Takes ownership of the descriptor.
   * @param key what the table that it belongs to finds it by
   * @param id device and inode
   */
  constructor(
    fd: Fd,
    readonly key: string,
    readonly id: string,
  ) {
    this.#fd = fd;
    this.#mappable = ((getSeals(fd) ?? 0) & F_SEAL_SHRINK) !== 0 && fd.accessMode() !== O_WRONLY;
    this.#writable = fd.accessMode() !== O_RDONLY;
    // Huge pages, which st_blksize tells, are mapped as a whole or not at all; 1 GiB is the most that can be mapped.
    this.#windowSize = Math.max(WINDOW, Number(fd.stat().blksize));
  }

  get fd(): Fd {
    return this.#fd;
  }

  /** Bytes at this moment. */
  size(): number {
    return Number(this.#fd.stat().size);
  }

  /** Fills `data` from an offset. @throws {VfioError} EIO when the file ends before */
  read(offset: number, data: Uint8Array): void {
    this.#pieces(offset, data, (window, at, piece) => piece.set(window.subarray(at, at + piece.length)), preadPiece);
  }

  /** Writes `data` at an offset. @throws {VfioError} EIO when the file ends before: it is never extended */
  write(offset: number, data: Uint8Array): void {
    this.#pieces(offset, data, (window, at, piece) => window.set(piece, at), pwritePiece);
  }

  /** Unmaps one of the windows. @returns false when none is left */
  unmapOne(): boolean {
    for (const [number, window] of this.#windows) {
      this.#windows.delete(number);
      windowCount--;
      window.unmap();
      return true;
    }
    return false;
  }

  /** Unmaps and closes it. */
  close(): void {
    while (this.unmapOne());
    this.#fd.close();
  }

  #pieces(
    offset: number,
    data: Uint8Array,
    mapped: (window: Uint8Array, at: number, piece: Uint8Array) => void,
    unmapped: (fd: Fd, offset: number, piece: Uint8Array) => void,
  ): void {
    for (let done = 0; done < data.length; ) {
      const at = (offset + done) % this.#windowSize;
      const length = Math.min(data.length - done, this.#windowSize - at);
      const window = this.#window(Math.floor((offset + done) / this.#windowSize), at + length);
      if (window !== undefined) {
        mapped(window.bytes, at, data.subarray(done, done + length));
        done += length;
      } else {
        const piece = data.subarray(done, done + Math.min(length, SCRATCH_SIZE));
        unmapped(this.#fd, offset + done, piece);
        done += piece.length;
      }
    }
  }

  /** The mapped window of that number, reaching at least to `end` in it; undefined when it cannot be mapped. */
  #window(number: number, end: number): Mapping | undefined {
    const known = this.#windows.get(number);
    if (known !== undefined && known.length >= end) return known;
    if (!this.#mappable || (known === undefined && windowCount >= MAX_WINDOWS)) return undefined;
    const start = number * this.#windowSize;
    const length = Math.min(this.#windowSize, this.size() - start);
    if (length < end) throw new VfioError("EIO", `the client's file ends before ${start + end}`);
    known?.unmap();
    if (this.#windows.delete(number)) windowCount--;
    try {
      const window = new Mapping(this.#fd, start, length, this.#writable ? "read-write" : "read");
      this.#windows.set(number, window);
      windowCount++;
      return window;
    } catch {
      // No address space left, or a seal against writing: system calls still work, or say why not.
      this.#mappable = false;
      return undefined;
    }
  }
}

function preadPiece(fd: Fd, offset: number, piece: Uint8Array): void {
  scratch ??= new NativeMemory(SCRATCH_SIZE);
  const { address } = scratch;
  if (promised(() => preadInto(fd, address, piece.length, offset)) < piece.length) {
    throw new VfioError("EIO", `the client's file ends before ${offset + piece.length}`);
  }
  piece.set(scratch.bytes.subarray(0, piece.length));
}

function pwritePiece(fd: Fd, offset: number, piece: Uint8Array): void {
  scratch ??= new NativeMemory(SCRATCH_SIZE);
  if (fd.stat().size < BigInt(offset + piece.length)) {
    throw new VfioError("EIO", `the client's file ends before ${offset + piece.length}`);
  }
  scratch.bytes.set(piece);
  const { address } = scratch;
  promised(() => pwriteFrom(fd, address, piece.length, offset));
}

/** The errors that a device's DMA may have, in place of a system call's own: a client may seal its file at any time. */
function promised<T>(access: () => T): T {
  try {
    return access();
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    throw new VfioError(error.code === "EPERM" ? "EACCES" : "EIO", `the client's file: ${error.message}`);
  }
}
