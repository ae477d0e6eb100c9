import { createEventfd, EPOLLET, type EventSignaller, type Fd, POLLIN, type Poller } from "../os/index.js";
import {
  type DeviceClient,
  type DmaSpace,
  type Ioeventfd,
  type IrqSet,
  type Steps,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  type VfioDevice,
  VfioError,
} from "../vfio/index.js";
import { ClientMemory } from "./client_memory.js";
import type { DmaMap, DmaUnmap } from "./dma_message.js";
import type { DmaRequests } from "./dma_requests.js";
import { DmaTable, type MappedRange } from "./dma_table.js";
import { checkIrqSet, IrqTable } from "./irq_table.js";
import { MAX_DMA_MAPS } from "./server_limits.js";
import type { TaskRunner } from "./task_runner.js";

/**
 * How long memory is let go before others have their turn, in milliseconds: short enough for the clients of all devices
 * to leave at once.
 */
const TURN = 0.5;

interface IoeventWatch {
  fd: Fd;
  token: number;
}

/** What a device and its client have of each other, from negotiation to disconnect: memory, interrupts, running work. */
export class Attachment implements DeviceClient {
  readonly dma: DmaSpace;
  readonly #table: DmaTable;
  readonly #irqs: IrqTable;
  readonly #ioevents = new Map<number, IoeventWatch[]>();
  /** Ranges that are the client's no longer, the next one last, and that are being let go. */
  #leaving: MappedRange[] = [];
  #lettingGo: Generator<void, void, void> | undefined;
  /** The first thing that the device threw meanwhile. */
  #failure: unknown;
  #opened = false;
  #closed = false;

  constructor(
    readonly device: VfioDevice,
    private readonly requests: DmaRequests,
    private readonly poller: Poller,
    private readonly tasks: TaskRunner,
    signaller: EventSignaller,
    private readonly onError: (error: unknown) => void,
    /** Descriptors that the client accepts in one message. */
    readonly maxMsgFds: number,
  ) {
    this.#table = new DmaTable(MAX_DMA_MAPS);
    this.#irqs = new IrqTable(device.irqs, poller, signaller);
    this.dma = new ClientMemory(this.#table, requests);
  }

  /** Tells the device of its client. @throws what the device throws; it does not hear of the end then */
  open(): void {
    this.device.open?.(this);
    this.#opened = true;
  }

  /** Whether the device knows of its client. */
  get isOpen(): boolean {
    return this.#opened;
  }

  trigger(index: number, subindex: number): boolean {
    return this.#irqs.trigger(index, subindex);
  }

  setIntx(asserted: boolean): void {
    this.#irqs.setIntx(asserted);
  }

  start(steps: Steps): void {
    this.tasks.start(this, steps, (error) => {
      if (error !== undefined) this.onError(error);
    });
  }

  /**
   * The steps of a DMA_MAP, which take ownership of the descriptors when they begin. No device reaches the memory before
   * they end.
   * @throws {VfioError} as {@link DmaTable.prepare}, and what the device throws
   */
  *mapDma({ address, size, offset, flags }: DmaMap, fds: Fd[]): Steps {
    const readable = (flags & VFIO_DMA_MAP_FLAG_READ) !== 0;
    const writable = (flags & VFIO_DMA_MAP_FLAG_WRITE) !== 0;
    if (fds.length > 1 || (flags & ~(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)) !== 0) {
      for (const fd of fds) fd.close();
      throw new VfioError("EINVAL", `DMA_MAP with flags 0x${flags.toString(16)} and ${fds.length} descriptors`);
    }
    const mapped = this.#table.prepare(address, size, offset, { readable, writable }, fds[0]);
    let kept = false;
    try {
      if (this.device.beforeDmaMap !== undefined) yield* this.device.beforeDmaMap(mapped.range);
      if (this.#closed) throw new VfioError("ECANCELED", "the client is gone");
      this.#addRange(mapped);
      kept = true;
    } finally {
      if (!kept) this.#table.letGo(mapped)?.close();
    }
  }

  #addRange(mapped: MappedRange): void {
    this.#table.add(mapped);
    try {
      this.device.dmaMapped?.(mapped.range);
    } catch (error) {
      this.#table.take([mapped]);
      throw error;
    }
  }

  /**
   * The steps of a DMA_UNMAP. From the first on, no device reaches the memory.
   * @throws {VfioError} as {@link DmaTable.within}, EINVAL for flags that mean nothing here; at once, and by the steps
   * what the device throws, when the memory is gone all the same
   */
  unmapDma({ address, size, flags }: DmaUnmap): Steps {
    if (flags === VFIO_DMA_UNMAP_FLAG_ALL) {
      if (address !== 0n || size !== 0n) throw new VfioError("EINVAL", "DMA_UNMAP of everything names a range");
      this.#leave(this.#table.takeAll());
      this.requests.cancelWithin(0n, 1n << 64n);
    } else {
      if (flags !== 0) throw new VfioError("EINVAL", `DMA_UNMAP with flags 0x${flags.toString(16)}`);
      const gone = this.#table.within(address, size);
      this.#table.take(gone);
      this.#leave(gone);
      this.requests.cancelWithin(address, size);
    }
    return this.#unmap();
  }

  /** Takes ownership of the descriptors. @throws {VfioError} as {@link checkIrqSet} */
  setIrqs(set: IrqSet, fds: Fd[]): void {
    if (this.device.setIrqs === undefined) {
      this.#irqs.set(set, fds);
      return;
    }
    try {
      checkIrqSet(this.device.irqs, set, fds);
      this.device.setIrqs(
        set,
        fds.map((fd) => fd.number),
      );
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  /** An eventfd for each of a region's first doorbells, as many as the client can take, made at the first call. */
  ioeventfds(region: number): readonly Fd[] {
    const known = this.#ioevents.get(region);
    if (known !== undefined) return known.map(({ fd }) => fd);
    const offered = (this.device.regions[region]?.ioeventfds ?? []).slice(0, this.maxMsgFds);
    const watches = offered.map((ioeventfd) => this.#watch(region, ioeventfd));
    this.#ioevents.set(region, watches);
    return watches.map(({ fd }) => fd);
  }

  /** The steps of a reset: running work ends, then the device does its part. */
  *reset(): Steps {
    this.tasks.cancel(this);
    if (this.device.reset === undefined) throw new VfioError("ENOTSUP", "the device cannot be reset");
    yield* this.device.reset();
    this.#irqs.forgetPending();
  }

  /** The client is gone: nothing of it stays. What is left to do when the steps are cancelled is done at once. */
  *close(): Steps {
    this.#closed = true;
    this.tasks.cancel(this);
    for (const { fd, token } of [...this.#ioevents.values()].flat()) {
      this.poller.remove(fd, token);
      fd.close();
    }
    this.#ioevents.clear();
    this.#irqs.close();
    this.requests.cancelWithin(0n, 1n << 64n);
    this.#leave(this.#table.takeAll());
    try {
      yield* this.#letGoInTurns();
    } finally {
      while (this.#letGoOn());
      if (this.#failure !== undefined) this.onError(this.#failure);
      this.#closeDevice();
      // What the device began after its client had gone.
      this.tasks.cancel(this);
    }
    yield* this.#settle();
  }

  *#settle(): Steps {
    if (this.device.afterDmaUnmap === undefined) return;
    try {
      yield* this.device.afterDmaUnmap();
    } catch (error) {
      this.onError(error);
    }
  }

  #closeDevice(): void {
    if (!this.#opened) return;
    this.#opened = false;
    try {
      this.device.close?.();
    } catch (error) {
      this.onError(error);
    }
  }

  #leave(gone: MappedRange[]): void {
    this.#leaving = this.#leaving.concat(gone.reverse());
  }

  *#unmap(): Steps {
    yield* this.#letGoInTurns();
    if (this.device.afterDmaUnmap !== undefined) yield* this.device.afterDmaUnmap();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  *#letGoInTurns(): Steps {
    for (let end = performance.now() + TURN; this.#letGoOn(); ) {
      if (performance.now() < end) continue;
      yield { deadline: 0 };
      end = performance.now() + TURN;
    }
  }

  /** Goes on with letting go, wherever it was left: an unmapping may be overtaken by the end. @returns whether to go on */
  #letGoOn(): boolean {
    this.#lettingGo ??= this.#letGo();
    const over = this.#lettingGo.next().done === true;
    if (over) this.#lettingGo = undefined;
    return !over;
  }

  /**
   * Lets all ranges go that are {@link #leaving}, yielding after each and within those that take long. The device hears of
   * all of them before the first file is let go: others may wait for the addresses, and files take the kernel long.
   */
  *#letGo(): Generator<void, void, void> {
    const told: MappedRange[] = [];
    while (this.#leaving.length + told.length > 0) {
      const next = this.#leaving.pop();
      if (next !== undefined) {
        this.#tellUnmapped(next);
        told.push(next);
      } else {
        const mapped = told.pop();
        const file = mapped && this.#table.letGo(mapped);
        while (file?.unmapOne() === true) yield;
        file?.close();
      }
      yield;
    }
  }

  #tellUnmapped({ range }: MappedRange): void {
    try {
      this.device.dmaUnmapped?.(range);
    } catch (error) {
      this.#failure ??= error;
    }
  }

  #watch(region: number, ioeventfd: Ioeventfd): IoeventWatch {
    const fd = createEventfd();
    const onReady = () => {
      try {
        this.device.ioevent?.(region, ioeventfd);
      } catch (error) {
        this.onError(error);
      }
    };
    // The client holds the other end and may drain or fill it, so its count means nothing; each signal is an edge.
    return { fd, token: this.poller.add(fd, POLLIN | EPOLLET, { onReady }) };
  }
}
