import { totalmem } from "node:os";
import { type CallThread, type Fd, libc, NativeMemory, type PendingCall } from "../../os/index.js";
import { type Steps, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VfioError } from "../../vfio/index.js";
import { RangeIndex } from "../../vfio/range_index.js";
import type { AddressSpace, MappedMemory } from "./address_space.js";
import { asVfioError, calling, ended } from "./calling.js";
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_GET_INFO,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_UNMAP_DMA,
} from "./requests.js";
import {
  decodeTceInfo,
  encodeTceCreate,
  encodeTceMap,
  encodeTceRange,
  encodeTceRemove,
  TCE_INFO_SIZE,
  type TceInfo,
} from "./tce_structures.js";

/** Where powernv puts a second window: `tce_bypass_base` of `arch/powerpc/platforms/powernv/pci-ioda.c`. */
export const SECOND_WINDOW = 1n << 59n;
/**
 * Address bits that one level of a window's table translates. The kernel wants each part of a level in one piece of its
 * memory (512 KiB for these), and of all levels but the first it makes only those parts that are used.
 */
const BITS_PER_LEVEL = 16;

/** A range that is mapped, or is being mapped. */
interface TceRange {
  address: bigint;
  size: bigint;
  memory: MappedMemory;
  /** Whether the kernel has been asked to map it. */
  isBegun: boolean;
  window: SecondWindow | undefined;
}

interface SecondWindow {
  size: bigint;
  /** Its creation, with what the kernel answers. */
  call: PendingCall;
  create: NativeMemory;
  ranges: number;
}

/**
 * The address space of a POWER8 or POWER9 host's container (`VFIO_SPAPR_TCE_v2_IOMMU`, `vfio_iommu_spapr_tce.c`). The
 * container must have a group. What is special here is the kernel's doing:
 * - It translates addresses within windows only, of which it has two. The first, usually 0 to 2 GiB, is there from the
 *   start, with pages of 4 KiB. The second begins at {@link SECOND_WINDOW}; it is made when it is first needed, and removed
 *   with its last range. A window cannot grow, so it is as large as this host's memory: more no client can have pinned.
 * - Memory is registered, which pins it, before it is mapped. It is pinned for writing, so memory that this process may
 *   only read is refused, and so is memory of which a part is registered.
 * - It maps over what is mapped, and looks at the first address of a range only, so both are checked here.
 */
export class TceSpace implements AddressSpace {
  readonly #ranges = new RangeIndex<TceRange>();
  #info: TceInfo | undefined;
  #second: SecondWindow | undefined;

  constructor(
    private readonly container: Fd,
    private readonly thread: CallThread,
  ) {}

  /**
   * As {@link AddressSpace.map}, but for addresses that the IOMMU does not translate.
   * @throws {VfioError} ENXIO, with the windows in words, for a range that is not within one; EBUSY and EINVAL for memory
   * that is registered already
   */
  *map(memory: MappedMemory): Steps {
    const { iova: address, size } = memory;
    this.#info ??= yield* this.#getInfo();
    if (size <= 0n) throw new VfioError("EINVAL", `DMA range ${hex(address)} + ${size}: it is empty`);
    if (this.#ranges.overlapping(address, size) !== undefined) {
      throw new VfioError("EEXIST", `DMA range ${hex(address)} + ${hex(size)}: it overlaps one that is mapped`);
    }
    const range: TceRange = {
      address,
      size,
      memory,
      isBegun: false,
      window: this.#windowFor(address, size, this.#info),
    };
    this.#ranges.add(range);
    if (range.window !== undefined) range.window.ranges++;
    try {
      if (range.window !== undefined) yield* this.#awaitWindow(range.window, address, size);
      yield* this.#begin(range);
    } catch (error) {
      this.#drop(range);
      throw error;
    }
  }

  *unmap({ iova, size, address }: MappedMemory): Steps {
    const range = this.#ranges.overlapping(iova, size);
    // Else its map was refused.
    if (range?.address !== iova || range.size !== size || range.memory.address !== address) return;
    // All calls are started at once, so that whoever maps the same memory next comes behind them.
    const unmap = range.isBegun ? this.#start(VFIO_IOMMU_UNMAP_DMA, encodeTceRange(iova, size)) : undefined;
    const unregister = range.isBegun ? this.#unregister(range) : undefined;
    this.#drop(range);
    if (unmap !== undefined) yield* this.#result(unmap, `VFIO_IOMMU_UNMAP_DMA of ${size} bytes at ${hex(iova)}`);
    if (unregister !== undefined)
      yield* this.#result(unregister, `VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY of ${size} bytes`);
  }

  *#getInfo(): Steps<TceInfo> {
    const info = new NativeMemory(TCE_INFO_SIZE);
    info.view.setUint32(0, TCE_INFO_SIZE, true);
    try {
      yield* calling(this.thread, "ioctl", this.container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, info);
    } catch (error) {
      throw asVfioError(error, "VFIO_IOMMU_SPAPR_TCE_GET_INFO");
    }
    return decodeTceInfo(info.view);
  }

  /**
   * The second window where a range needs it, undefined where the first does.
   * @throws {VfioError} ENXIO
   */
  #windowFor(address: bigint, size: bigint, info: TceInfo): SecondWindow | undefined {
    if (address >= info.start && address + size <= info.start + info.size) return undefined;
    if (address < SECOND_WINDOW || address + size > SECOND_WINDOW + secondWindowSize() || info.windows < 2) {
      throw outside(address, size, info);
    }
    this.#second ??= this.#createWindow(info);
    return this.#second;
  }

  #createWindow(info: TceInfo): SecondWindow {
    const size = secondWindowSize();
    const pageShift = largestPageShift(info.pageSizes, libc().getpagesize());
    const levels = Math.ceil((size.toString(2).length - 1 - pageShift) / BITS_PER_LEVEL);
    const create = encodeTceCreate(pageShift, size, Math.min(Math.max(levels, 1), info.levels));
    return { size, create, call: this.#start(VFIO_IOMMU_SPAPR_TCE_CREATE, create), ranges: 0 };
  }

  *#awaitWindow(window: SecondWindow, address: bigint, size: bigint): Steps {
    yield* this.#result(window.call, `VFIO_IOMMU_SPAPR_TCE_CREATE of ${window.size} bytes`);
    const start = window.create.view.getBigUint64(32, true);
    if (address >= start && address + size <= start + window.size) return;
    throw new VfioError(
      "ENXIO",
      `DMA range ${hex(address)} + ${hex(size)}: the kernel has the second window at ${hex(start)}`,
    );
  }

  *#begin(range: TceRange): Steps {
    const { memory, size } = range;
    const register = this.#start(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, encodeTceRange(BigInt(memory.address), size));
    const flags = (memory.readable ? VFIO_DMA_MAP_FLAG_READ : 0) | (memory.writable ? VFIO_DMA_MAP_FLAG_WRITE : 0);
    const map = this.#start(VFIO_IOMMU_MAP_DMA, encodeTceMap(flags, BigInt(memory.address), range.address, size));
    range.isBegun = true;
    let isRegistered = false;
    try {
      yield* ended(map);
      yield* this.#result(register, `VFIO_IOMMU_SPAPR_REGISTER_MEMORY of ${size} bytes`);
      isRegistered = true;
      yield* this.#result(map, `VFIO_IOMMU_MAP_DMA of ${size} bytes at ${hex(range.address)}`);
    } catch (error) {
      // Some of its pages may be mapped, all of them even, when the memory was registered before.
      this.#start(VFIO_IOMMU_UNMAP_DMA, encodeTceRange(range.address, size));
      if (isRegistered) this.#unregister(range);
      throw error;
    }
  }

  #unregister({ memory, size }: TceRange): PendingCall {
    return this.#start(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, encodeTceRange(BigInt(memory.address), size));
  }

  /** Forgets a range, and the second window with its last. */
  #drop(range: TceRange): void {
    this.#ranges.remove(range);
    const { window } = range;
    if (window === undefined || --window.ranges > 0) return;
    if (this.#second === window) this.#second = undefined;
    // Refused when there is none, because its creation was.
    this.#start(VFIO_IOMMU_SPAPR_TCE_REMOVE, encodeTceRemove(SECOND_WINDOW));
  }

  #start(request: number, argument: NativeMemory): PendingCall {
    return this.thread.start("ioctl", this.container, request, argument);
  }

  *#result(call: PendingCall, what: string): Steps {
    yield* ended(call);
    try {
      call.result();
    } catch (error) {
      throw asVfioError(error, what);
    }
  }
}

/** This host's memory, rounded up to a power of two: the kernel makes no other windows. */
function secondWindowSize(): bigint {
  return 1n << BigInt(Math.ceil(Math.log2(totalmem())));
}

/** Of the IOMMU's pages, the largest that is not larger than the host's: the kernel takes no other for ordinary memory. */
function largestPageShift(pageSizes: bigint, hostPage: number): number {
  const possible = pageSizes & (2n * BigInt(hostPage) - 1n);
  if (possible === 0n)
    throw new VfioError("EINVAL", `the IOMMU has pages of ${hex(pageSizes)}, the host of ${hostPage} bytes`);
  return possible.toString(2).length - 1;
}

function outside(address: bigint, size: bigint, info: TceInfo): VfioError {
  const second = `${hex(SECOND_WINDOW)} + ${hex(secondWindowSize())}`;
  const windows = `${hex(info.start)} + ${hex(info.size)}${info.windows < 2 ? "" : ` and ${second}`}`;
  return new VfioError(
    "ENXIO",
    `DMA range ${hex(address)} + ${hex(size)} is outside what the IOMMU translates: ${windows}`,
  );
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
