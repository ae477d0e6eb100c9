import { CallThread, mapUnseen } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import { type DmaBackend, type DmaRange, type Steps, VfioError, type Wait } from "../../vfio/index.js";
import type { AddressSpace, MappedMemory } from "./address_space.js";
import { asVfioError, calling, ended } from "./calling.js";
import type { FunctionOpener } from "./function_opener.js";
import { GroupOpener } from "./group_opener.js";
import { deviceFileOf, IommufdOpener } from "./iommufd_opener.js";
import { KernelDevice } from "./kernel_device.js";
import type { KernelNotice } from "./kernel_notices.js";
import { outOfMemlock } from "./memlock_limit.js";
import type { MappingPolicy } from "./region_file.js";

export interface KernelContainerOptions {
  /** What clients may map of its functions. */
  policy: MappingPolicy;
  /** The host's, in bytes. */
  pageSize: number;
  /** Regions of a function that get no file of their own, because they have registers that a client must not reach. */
  neverSeparate?: (address: PciAddress) => readonly number[];
  /** Told what the kernel tells of a function, by the loop that its device is watched with. */
  onNotice?: (device: KernelDevice, notice: KernelNotice) => void;
  /** Told why memory cannot be pinned and what to do about it: the client gets no more than ENOMEM. */
  onShortage?: (message: string) => void;
}

/** Steps that are run by whoever waits for their end. */
interface Leaving {
  readonly steps: Steps;
  wait: Wait | undefined;
}

/** How often it is looked whether memory has been taken back, in milliseconds. */
const INTERVAL = 2;

/**
 * The kernel's side of an assignment: its functions, and the one address space that they do DMA in. As a backend of a
 * `Container` it has the IOMMU map what clients share; nothing else can be reached by the functions.
 *
 * Two threads make the calls that take long, one for memory and one for functions, so that neither waits for the other.
 */
export class KernelContainer implements DmaBackend {
  readonly #options: KernelContainerOptions;
  readonly #dmaThread = new CallThread();
  readonly #deviceThread = new CallThread();
  readonly #devices = new Set<KernelDevice>();
  /** By IOVA. */
  readonly #mapped = new Map<bigint, MappedMemory>();
  #opener: FunctionOpener | undefined;
  #isOpening = false;
  /** Memory that is being taken back, in the order in which that began. */
  readonly #leaving: Leaving[] = [];
  #ended = 0;
  /** Memory that could not be taken back: a function may still reach it. */
  #failure: VfioError | undefined;
  #isClosed = false;

  constructor(options: KernelContainerOptions) {
    this.#options = options;
  }

  /** Its functions. */
  get devices(): ReadonlySet<KernelDevice> {
    return this.#devices;
  }

  /** Bytes of clients' memory that functions may reach, and that are pinned for it. */
  get pinnedBytes(): bigint {
    return [...this.#mapped.values()].reduce((sum, { size }) => sum + size, 0n);
  }

  /**
   * Has a function join and opens it, which resets it: whatever was set up in it before is gone. It must be bound to vfio-pci.
   * Cancelled, it has not joined.
   * @throws {HostError} EVFIO when VFIO cannot be had for it here, with what to do
   * @throws {VfioError} what the kernel says to the rest
   */
  *open(address: PciAddress): Steps<KernelDevice> {
    if (this.#isClosed) throw new VfioError("ENODEV", "the container is closed");
    this.#opener ??= this.#createOpener(address);
    // One after the other, for two may be in one group, which is taken once.
    while (this.#isOpening) yield { deadline: performance.now() + INTERVAL, done: () => !this.#isOpening };
    if (this.#opener.space === undefined && this.#mapped.size > 0) {
      throw new VfioError("EBUSY", `${address}: clients still have memory mapped for functions that have left`);
    }
    this.#isOpening = true;
    try {
      return yield* this.#openWith(this.#opener, address);
    } finally {
      this.#isOpening = false;
    }
  }

  *#openWith(opener: FunctionOpener, address: PciAddress): Steps<KernelDevice> {
    const fd = yield* opener.open(address);
    const { policy, pageSize, neverSeparate, onNotice } = this.#options;
    try {
      const device: KernelDevice = new KernelDevice(fd, {
        address,
        policy,
        pageSize,
        neverSeparate: neverSeparate?.(address) ?? [],
        thread: this.#deviceThread,
        groups: opener.groups,
        onNotice: (notice) => onNotice?.(device, notice),
      });
      this.#devices.add(device);
      return device;
    } catch (error) {
      opener.left(address);
      throw error;
    }
  }

  /**
   * Closes a function, which the kernel resets, and has it leave. What is mapped stays so for the others; with the last one
   * it goes. Cancelled, it leaves all the same, unless it has not begun.
   */
  *release(device: KernelDevice): Steps {
    yield* this.settle();
    if (!this.#devices.delete(device)) return;
    const closing = device.shut();
    const last = this.#opener?.left(device.address) ?? closing;
    if (last !== undefined) yield* ended(last);
  }

  /**
   * Has the IOMMU map a piece of a client's file. Cancelled, it is taken back.
   * @throws {VfioError} EINVAL for a range that is not whole pages, has no file, or that the IOMMU does not translate; ENOMEM, with
   * the limit, for more than may be pinned; ENODEV without a function; EIO after memory could not be taken back
   */
  *map(range: DmaRange): Steps {
    yield* this.settle();
    const space = this.#requireSpace();
    if (this.#mapped.has(range.address))
      throw new VfioError("EEXIST", `0x${range.address.toString(16)} is mapped already`);
    const memory = mapClient(range, this.#options.pageSize);
    let isMapped = false;
    this.#mapped.set(memory.iova, memory);
    try {
      yield* space.map(memory);
      isMapped = true;
    } catch (error) {
      if (!(error instanceof VfioError && error.code === "ENOMEM")) throw error;
      const why = outOfMemlock(memory.size, this.pinnedBytes - memory.size);
      this.#options.onShortage?.(why);
      throw new VfioError("ENOMEM", why);
    } finally {
      // Whatever of it was begun: the kernel does one after the other.
      if (!isMapped) this.#begin(memory, space);
    }
  }

  /** Begins to take a range back that was mapped; {@link settle} waits for the end. */
  unmap({ address }: DmaRange): void {
    const memory = this.#mapped.get(address);
    const space = this.#opener?.space;
    if (memory === undefined) return;
    this.#begin(memory, space);
  }

  /** Waits until all memory that was begun to be taken back is. @throws {VfioError} EIO when the kernel did not do it */
  *settle(): Steps {
    const until = this.#ended + this.#leaving.length;
    while (this.#ended < until) {
      this.#advance();
      const wait = this.#leaving[0]?.wait;
      if (wait === undefined || this.#ended >= until) continue;
      yield { deadline: Math.min(wait.deadline, performance.now() + INTERVAL), done: () => isOver(wait) };
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Closes everything, in order, without waiting: functions, which the kernel resets, and with the last of them the address
   * space and all that is mapped there. Does nothing the second time.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#dmaThread.close();
    for (const device of this.#devices) device.shut();
    this.#devices.clear();
    this.#opener?.close();
    this.#deviceThread.closeAfterCalls();
  }

  #createOpener(address: PciAddress): FunctionOpener {
    const Opener = deviceFileOf(address) === undefined ? GroupOpener : IommufdOpener;
    return new Opener(this.#dmaThread, this.#deviceThread);
  }

  #requireSpace(): AddressSpace {
    const space = this.#opener?.space;
    if (space === undefined) throw new VfioError("ENODEV", "no function is open, so there is no address space");
    return space;
  }

  #begin(memory: MappedMemory, space: AddressSpace | undefined): void {
    this.#mapped.delete(memory.iova);
    this.#leaving.push({ steps: takeBack(memory, space, this.#dmaThread), wait: undefined });
    this.#advance();
  }

  /** Goes on with what leaves, as far as that goes without waiting. */
  #advance(): void {
    for (let first = this.#leaving[0]; first !== undefined; first = this.#leaving[0]) {
      if (first.wait !== undefined && !isOver(first.wait)) return;
      try {
        const result = first.steps.next();
        if (result.done !== true) {
          first.wait = result.value;
          continue;
        }
      } catch (error) {
        this.#failure ??= new VfioError("EIO", `the IOMMU did not let go of memory: ${(error as Error).message}`);
      }
      this.#leaving.shift();
      this.#ended++;
    }
  }
}

function isOver(wait: Wait): boolean {
  return wait.done?.() === true || performance.now() >= wait.deadline;
}

/** Pages stay pinned until the IOMMU has let go of them, and only then go from this process. */
function* takeBack(memory: MappedMemory, space: AddressSpace | undefined, thread: CallThread): Steps {
  if (space !== undefined) yield* space.unmap(memory);
  yield* calling(thread, "munmap", memory.address, Number(memory.size));
}

/** Maps the memory of a client into this process, for the kernel to find it. Nobody touches it there. */
function mapClient(range: DmaRange, pageSize: number): MappedMemory {
  const { address: iova, size, file, readable, writable } = range;
  const what = `DMA range 0x${iova.toString(16)} + 0x${size.toString(16)}`;
  const page = BigInt(pageSize);
  if (file === undefined) throw new VfioError("EINVAL", `${what} has no file`);
  if (size <= 0n || [iova, size, file.offset].some((value) => value % page !== 0n)) {
    throw new VfioError("EINVAL", `${what} at ${file.offset} of its file is not whole pages of ${pageSize} bytes`);
  }
  try {
    const address = mapUnseen(file.fd, Number(file.offset), Number(size), { readable, writable });
    return { iova, size, address, readable, writable };
  } catch (error) {
    throw asVfioError(error, `${what} cannot be mapped`);
  }
}
