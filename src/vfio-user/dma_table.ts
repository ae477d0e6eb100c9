import type { Fd } from "../os/index.js";
import { fileSystemType, getSeals } from "../os/index.js";
import { type DmaRange, VfioError } from "../vfio/index.js";
import { DmaFile } from "./dma_file.js";
import { MAX_DMA_FILES } from "./server_limits.js";

const O_RDONLY = 0;
const O_WRONLY = 1;
const S_IFMT = 0o170000n;
const S_IFREG = 0o100000n;
const END = 1n << 64n;
const MAX_SIZE = BigInt(Number.MAX_SAFE_INTEGER);
const LOCAL_FILE_SYSTEMS = new Set(["tmpfs", "hugetlbfs", "ext2", "ext3", "ext4", "xfs", "f2fs", "overlay"]);

/** A range of the client's memory, with the file that it lies in, if any. */
export interface MappedRange {
  readonly range: DmaRange;
  readonly file: DmaFile | undefined;
}

/** The ranges of memory that a client has shared, by address; they do not overlap. */
export class DmaTable {
  readonly #ranges: MappedRange[] = [];
  readonly #files = new Map<string, DmaFile>();

  /** @param maxRanges how many there may be at once */
  constructor(readonly maxRanges: number) {}

  get count(): number {
    return this.#ranges.length;
  }

  /**
   * Makes a range that is to be added before any other, by {@link add}, or let go. Takes ownership of the descriptor,
   * whatever happens.
   * @throws {VfioError} EINVAL for an empty range, one beyond 2^64 or beyond the end of its file; EEXIST for one that
   * overlaps another; ENOSPC when there are too many; EACCES for a file opened for less than the range allows
   */
  prepare(
    address: bigint,
    size: bigint,
    offset: bigint,
    access: { readable: boolean; writable: boolean },
    fd?: Fd,
  ): MappedRange {
    let file: DmaFile | undefined;
    try {
      if (size === 0n || address + size > END)
        throw new VfioError("EINVAL", `DMA range ${hex(address)} + ${hex(size)}`);
      if (this.#ranges.length >= this.maxRanges)
        throw new VfioError("ENOSPC", `more than ${this.maxRanges} DMA ranges`);
      const index = this.#indexAfter(address);
      const before = this.#ranges[index - 1]?.range;
      const after = this.#ranges[index]?.range;
      if ((before && before.address + before.size > address) || (after && after.address < address + size)) {
        throw new VfioError("EEXIST", `DMA range ${hex(address)} + ${hex(size)} overlaps another`);
      }
      const range: DmaRange = { address, size, ...access };
      file = fd && this.#open(fd, range, offset);
      if (file !== undefined) {
        file.uses++;
        range.file = { fd: file.fd.number, offset, id: file.id };
      }
      return { range, file };
    } finally {
      if (file?.fd !== fd) fd?.close();
    }
  }

  /** Adds a range: from now on it is found. */
  add(mapped: MappedRange): void {
    this.#ranges.splice(this.#indexAfter(mapped.range.address), 0, mapped);
  }

  /**
   * The ranges that lie within one that is to be unmapped, perhaps none: QEMU with a virtual IOMMU unmaps all there
   * could be, as kernel VFIO allows.
   * @throws {VfioError} EINVAL when one lies only partly within
   */
  within(address: bigint, size: bigint): MappedRange[] {
    const end = address + size;
    if (size === 0n || end > END) throw new VfioError("EINVAL", `DMA range ${hex(address)} + ${hex(size)}`);
    const first = this.#indexAfter(address - 1n);
    const before = this.#ranges[first - 1]?.range;
    const found: MappedRange[] = [];
    for (let index = first; index < this.#ranges.length; index++) {
      const mapped = this.#ranges[index];
      if (mapped === undefined || mapped.range.address >= end) break;
      found.push(mapped);
    }
    const last = found.at(-1)?.range;
    if ((before && before.address + before.size > address) || (last && last.address + last.size > end)) {
      throw new VfioError("EINVAL", `DMA range ${hex(address)} + ${hex(size)} cuts through one that was mapped`);
    }
    return found;
  }

  /** Removes ranges that follow each other: nothing finds them any more. Their files stay open until {@link letGo}. */
  take(gone: readonly MappedRange[]): void {
    const first = gone[0];
    if (first !== undefined) this.#ranges.splice(this.#indexAfter(first.range.address) - 1, gone.length);
  }

  /** Removes all ranges, as {@link take}. */
  takeAll(): MappedRange[] {
    return this.#ranges.splice(0);
  }

  /** Forgets a range that was taken out, or not added. @returns its file for the caller to close, if no other range lies in it */
  letGo({ file }: MappedRange): DmaFile | undefined {
    if (file === undefined || --file.uses > 0) return undefined;
    this.#files.delete(file.key);
    return file;
  }

  /** The range that an address lies in. */
  find(address: bigint): MappedRange | undefined {
    const mapped = this.#ranges[this.#indexAfter(address) - 1];
    return mapped && address < mapped.range.address + mapped.range.size ? mapped : undefined;
  }

  /** How many ranges begin at or before an address. */
  #indexAfter(address: bigint): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.#ranges[middle]?.range.address ?? END;
      if (at <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The file of a range; undefined for one that has to be reached by messages. */
  #open(fd: Fd, range: DmaRange, offset: bigint): DmaFile | undefined {
    const stat = fd.stat();
    if ((stat.mode & S_IFMT) !== S_IFREG)
      throw new VfioError("EINVAL", "the DMA range's descriptor is no regular file");
    // A file of a network or user space file system could keep this process waiting for ever.
    if (getSeals(fd) === undefined && !LOCAL_FILE_SYSTEMS.has(fileSystemType(stat.dev) ?? "")) return undefined;
    if (offset + range.size > stat.size || stat.size > MAX_SIZE) {
      throw new VfioError("EINVAL", `the DMA range ends at ${hex(offset + range.size)}, its file at ${hex(stat.size)}`);
    }
    const mode = fd.accessMode();
    if ((range.readable && mode === O_WRONLY) || (range.writable && mode === O_RDONLY)) {
      throw new VfioError("EACCES", "the DMA range's file was opened for less than the range allows");
    }
    const id = `${stat.dev}:${stat.ino}`;
    const key = `${id}:${mode}`;
    const known = this.#files.get(key);
    if (known !== undefined) return known;
    if (this.#files.size >= MAX_DMA_FILES) throw new VfioError("ENOSPC", `more than ${MAX_DMA_FILES} DMA files`);
    const file = new DmaFile(fd, key, id);
    this.#files.set(key, file);
    return file;
  }
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
