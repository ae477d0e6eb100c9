import type { DeviceClient, DmaRange, Ioeventfd, VfioDevice, VfioIrq, VfioRegion } from "./device.js";
import { VfioError } from "./error.js";
import type { IrqSet } from "./irq_set.js";
import { type AddressRange, RangeIndex } from "./range_index.js";
import { type Steps, waitUntil } from "./steps.js";

const END = 1n << 64n;

/**
 * How long a map waits for another member's range to go, in milliseconds. Clients like QEMU wait some seconds for the
 * answer, so there is room for it.
 */
const PATIENCE = 500;

/** A range of the address space, as all members have it that mapped it. */
interface SharedRange extends AddressRange {
  /** Undefined for memory that is reached by messages: each member asks its own client. */
  readonly fileId: string | undefined;
  readonly offset: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Its bytes count as pinned. */
  readonly isPinned: boolean;
  /** How many members have mapped it, or are about to and wait for nothing more. */
  uses: number;
  /** The backend is at it; undefined when there is none, or the range has no file, or it is done. */
  isBeingMapped: boolean;
}

/**
 * Who really maps memory for DMA: the kernel, for its devices. Ranges have files and do not overlap. Steps that are cancelled
 * before they end have mapped nothing, or begun to take it back.
 */
export interface DmaBackend {
  /** Maps a range. @throws what refuses it; nothing is mapped then */
  map(range: DmaRange): Steps;
  /** Begins to take back a range that was mapped. Its file may be closed by now. */
  unmap(range: DmaRange): void;
  /** Waits until everything that was begun to be taken back is. @throws when it could not be */
  settle(): Steps;
}

interface DeviceMemory {
  readonly size: bigint;
  uses: number;
}

/**
 * The one DMA address space of functions that belong together, as a VFIO container has it: an assignment's. Each
 * function's client maps all memory for itself, and a map that another member has already is merely counted; one that
 * says something else of the same addresses is refused.
 */
export class Container {
  readonly #ranges = new RangeIndex<SharedRange>();
  readonly #members = new Map<object, Set<SharedRange>>();
  readonly #deviceMemory = new Map<string, DeviceMemory>();
  /** Ranges that the backend has mapped for members that have not mapped them yet. */
  readonly #prepared = new Map<object, Set<SharedRange>>();
  readonly #backend: DmaBackend | undefined;
  readonly #onUnreachable: (member: object, range: DmaRange) => void;
  #pinnedBytes = 0n;
  #fileRangeCount = 0;

  /**
   * @param backend has what is mapped here, as far as it has a file; absent for devices that do no DMA of their own
   * @param onUnreachable told, once for each client, of a range that has no file, so that the backend does not get it
   */
  constructor(backend?: DmaBackend, onUnreachable: (member: object, range: DmaRange) => void = () => {}) {
    this.#backend = backend;
    this.#onUnreachable = onUnreachable;
  }

  /**
   * Bytes of the host's memory that are mapped for DMA, each range counted once. Those of devices are not among them, nor
   * those without a file: what is reached by messages cannot be pinned.
   */
  get pinnedBytes(): bigint {
    return this.#pinnedBytes;
  }

  /** How many different ranges are mapped. */
  get rangeCount(): number {
    return this.#ranges.count;
  }

  /** How many of them have a file: those that a backend has. */
  get fileRangeCount(): number {
    return this.#fileRangeCount;
  }

  /**
   * Registers memory of a device: maps over it that come later find it and pin nothing, as those of kernel VFIO over
   * what `mm_iommu_newdev` has registered. Again for the same memory is counted, and takes as many unregisterings.
   * @param id as in `DmaRange.file`
   * @param size bytes, from the file's beginning on
   * @throws {VfioError} EINVAL for another size than before, or none
   */
  registerDeviceMemory(id: string, size: number | bigint): void {
    const known = this.#deviceMemory.get(id);
    if (size <= 0 || (known !== undefined && known.size !== BigInt(size))) {
      throw new VfioError("EINVAL", `device memory ${id} of ${size} bytes, registered with ${known?.size ?? 0}`);
    }
    if (known === undefined) this.#deviceMemory.set(id, { size: BigInt(size), uses: 1 });
    else known.uses++;
  }

  /** Drops a registration; maps over the memory stay as they are. Does nothing for what is not registered. */
  unregisterDeviceMemory(id: string): void {
    const memory = this.#deviceMemory.get(id);
    if (memory !== undefined && --memory.uses === 0) this.#deviceMemory.delete(id);
  }

  /** Whether a range of other members is in the way of one that a member wants to map. */
  isTaken(member: object, range: DmaRange): boolean {
    const known = this.#ranges.overlapping(range.address, range.size);
    return known !== undefined && !isSame(known, range) && this.#members.get(member)?.has(known) !== true;
  }

  /**
   * Has the backend map a range that a member is about to {@link map}, unless it has it already. Cancelled, or with a client
   * that has gone meanwhile, nothing is mapped.
   * @param isGone whether the client that this is for has gone
   * @throws {VfioError} as {@link map}, ECANCELED when the client has gone, and what the backend throws
   */
  *prepare(member: object, range: DmaRange, isGone: () => boolean): Steps {
    if (this.#backend === undefined || range.file === undefined) return;
    checkRange(range);
    let shared: SharedRange | undefined;
    while (shared === undefined) {
      const known = this.#ranges.overlapping(range.address, range.size);
      this.#refuse(member, range, known);
      if (known === undefined) shared = yield* this.#mapNew(this.#backend, range);
      else if (!known.isBeingMapped) shared = this.#use(known);
      else yield { deadline: performance.now() + PATIENCE, done: () => !known.isBeingMapped };
    }
    if (isGone()) {
      this.#release(shared);
      yield* this.#backend.settle();
      throw new VfioError("ECANCELED", "the client is gone");
    }
    const prepared = this.#prepared.get(member) ?? new Set<SharedRange>();
    this.#prepared.set(member, prepared.add(shared));
  }

  /**
   * Adds a member's map. With a backend, of a range with a file, that comes after {@link prepare}.
   * @throws {VfioError} EEXIST for one that overlaps another, unless it is the same and another member's; EINVAL for an
   * empty range, one beyond 2^64, or one that is not prepared
   */
  map(member: object, range: DmaRange): void {
    checkRange(range);
    const known = this.#ranges.overlapping(range.address, range.size);
    this.#refuse(member, range, known);
    const isPrepared = known !== undefined && this.#prepared.get(member)?.delete(known) === true;
    if (!isPrepared && this.#backend !== undefined && range.file !== undefined) {
      throw new VfioError("EINVAL", `${describe(range)} is not prepared`);
    }
    const shared = isPrepared ? known : this.#use(known ?? this.#add(range));
    const held = this.#members.get(member) ?? new Set<SharedRange>();
    this.#members.set(member, held.add(shared));
  }

  /** Takes a member's map back. Does nothing for one that it has not. */
  unmap(member: object, { address }: DmaRange): void {
    const shared = this.#ranges.overlapping(address, 1n);
    if (shared?.address === address && this.#members.get(member)?.delete(shared) === true) this.#release(shared);
  }

  /** Takes all of a member's maps back. */
  leave(member: object): void {
    for (const shared of this.#members.get(member) ?? []) this.#release(shared);
    for (const shared of this.#prepared.get(member) ?? []) this.#release(shared);
    this.#members.delete(member);
    this.#prepared.delete(member);
  }

  /** Waits until what was taken back last is out of every device's reach. @throws what the backend throws */
  *settle(): Steps {
    if (this.#backend !== undefined) yield* this.#backend.settle();
  }

  /** Notes a range that devices do not reach. @returns whether it is one */
  noteUnreachable(member: object, range: DmaRange): boolean {
    if (this.#backend === undefined || range.file !== undefined) return false;
    this.#onUnreachable(member, range);
    return true;
  }

  /** @throws {VfioError} EEXIST when a range is in the way of one that a member wants to map */
  #refuse(member: object, range: DmaRange, known: SharedRange | undefined): void {
    if (known === undefined || (isSame(known, range) && this.#members.get(member)?.has(known) !== true)) return;
    throw new VfioError("EEXIST", `${describe(range)} overlaps ${describe(known)} of the same address space`);
  }

  *#mapNew(backend: DmaBackend, range: DmaRange): Steps<SharedRange> {
    const shared = this.#add(range);
    shared.isBeingMapped = true;
    let isMapped = false;
    try {
      yield* backend.map(range);
      isMapped = true;
      return this.#use(shared);
    } finally {
      shared.isBeingMapped = false;
      if (!isMapped) this.#forget(shared);
    }
  }

  #use(shared: SharedRange): SharedRange {
    shared.uses++;
    return shared;
  }

  #add(range: DmaRange): SharedRange {
    const { address, size, readable, writable, file } = range;
    const isPinned = file !== undefined && !this.#isDeviceMemory(range);
    const of = { fileId: file?.id, offset: file?.offset ?? 0n, readable, writable, isPinned };
    const shared: SharedRange = { address, size, ...of, uses: 0, isBeingMapped: false };
    this.#ranges.add(shared);
    if (isPinned) this.#pinnedBytes += size;
    if (file !== undefined) this.#fileRangeCount++;
    return shared;
  }

  #release(shared: SharedRange): void {
    if (--shared.uses > 0) return;
    this.#forget(shared);
    if (shared.fileId !== undefined) this.#backend?.unmap(shared);
  }

  #forget(shared: SharedRange): void {
    this.#ranges.remove(shared);
    if (shared.isPinned) this.#pinnedBytes -= shared.size;
    if (shared.fileId !== undefined) this.#fileRangeCount--;
  }

  #isDeviceMemory({ file, size }: DmaRange): boolean {
    const memory = file && this.#deviceMemory.get(file.id);
    return file !== undefined && memory !== undefined && file.offset + size <= memory.size;
  }
}

/** @throws {VfioError} EINVAL for an empty range, or one beyond 2^64 */
function checkRange(range: DmaRange): void {
  const { address, size } = range;
  if (size <= 0n || address < 0n || address + size > END) throw new VfioError("EINVAL", describe(range));
}

function isSame(shared: SharedRange, { address, size, file, readable, writable }: DmaRange): boolean {
  return (
    shared.address === address &&
    shared.size === size &&
    shared.fileId === file?.id &&
    shared.offset === (file?.offset ?? 0n) &&
    shared.readable === readable &&
    shared.writable === writable
  );
}

function describe({ address, size }: AddressRange): string {
  return `DMA range 0x${address.toString(16)} + 0x${size.toString(16)}`;
}

/**
 * A device whose DMA address space is a container's: the device hears only of maps that fit those of the other members.
 * While it is open its own memory (`VfioRegion.deviceMemory`) is registered with the container. Otherwise it is the
 * device itself, and has those optional methods that the device has.
 *
 * A map waits while another member's range is in its way. The client behind all of them changes one address space, QEMU
 * for example the guest's, and tells each member of it by a connection of its own, which are not read in step: first to
 * unmap what goes, then to map what comes, and nothing of the next change before everybody has answered. So whatever is in
 * the way belongs to a member that has not yet read its unmapping; that one comes before all its maps of this change,
 * hence behind none that waits, and members never wait for each other. A client of whom this is not so finds out after
 * one wait, and is then refused at once.
 */
export class ContainerMember implements VfioDevice {
  readonly #inner: VfioDevice;
  readonly #container: Container;
  /** Names of the memory that was registered when the client came. */
  #registered: string[] = [];
  /** There is a client, and it has not waited in vain yet. */
  #isPatient = false;
  /** A new one with each client's coming and going. */
  #client: object = {};
  /** It was noted for this client that it has memory which devices do not reach. */
  #isNoted = false;
  declare readonly reset?: () => Steps;
  declare readonly beforeOpen?: () => Steps;
  declare readonly afterClose?: () => Steps;
  declare readonly mmap?: (region: number, offset: number, length: number) => { fd: number; offset: number };
  declare readonly ioevent?: (region: number, ioeventfd: Ioeventfd) => void;
  declare readonly setIrqs?: (set: IrqSet, eventfds: readonly number[]) => void;

  constructor(inner: VfioDevice, container: Container) {
    this.#inner = inner;
    this.#container = container;
    if (inner.reset !== undefined) this.reset = inner.reset.bind(inner);
    if (inner.beforeOpen !== undefined) this.beforeOpen = inner.beforeOpen.bind(inner);
    if (inner.afterClose !== undefined) this.afterClose = inner.afterClose.bind(inner);
    if (inner.mmap !== undefined) this.mmap = inner.mmap.bind(inner);
    if (inner.ioevent !== undefined) this.ioevent = inner.ioevent.bind(inner);
    if (inner.setIrqs !== undefined) this.setIrqs = inner.setIrqs.bind(inner);
  }

  get regions(): readonly (VfioRegion | undefined)[] {
    return this.#inner.regions;
  }

  get irqs(): readonly (VfioIrq | undefined)[] {
    return this.#inner.irqs;
  }

  read(region: number, offset: number, data: Uint8Array): void {
    this.#inner.read(region, offset, data);
  }

  write(region: number, offset: number, data: Uint8Array): void {
    this.#inner.write(region, offset, data);
  }

  open(client: DeviceClient): void {
    this.#isPatient = true;
    this.#renewClient();
    try {
      this.#registerMemory();
      this.#inner.open?.(client);
    } catch (error) {
      this.#unregisterMemory();
      throw error;
    }
  }

  close(): void {
    this.#isPatient = false;
    this.#renewClient();
    try {
      this.#inner.close?.();
    } finally {
      this.#container.leave(this);
      this.#unregisterMemory();
    }
  }

  /** Waits until no other member's range is in the way, for half a second at most and only until it was in vain. */
  *beforeDmaMap(range: DmaRange): Steps {
    if (this.#inner.beforeDmaMap !== undefined) yield* this.#inner.beforeDmaMap(range);
    const isOver = () => !this.#isPatient || !this.#container.isTaken(this, range);
    const client = this.#client;
    if (!(yield* waitUntil(isOver, PATIENCE))) this.#isPatient = false;
    yield* this.#container.prepare(this, range, () => this.#client !== client);
  }

  /** @throws {VfioError} as {@link Container.map}, and what the device throws; neither of them has the range then */
  dmaMapped(range: DmaRange): void {
    this.#container.map(this, range);
    if (!this.#isNoted) this.#isNoted = this.#container.noteUnreachable(this.#inner, range);
    try {
      this.#inner.dmaMapped?.(range);
    } catch (error) {
      this.#container.unmap(this, range);
      throw error;
    }
  }

  dmaUnmapped(range: DmaRange): void {
    try {
      this.#inner.dmaUnmapped?.(range);
    } finally {
      this.#container.unmap(this, range);
    }
  }

  /** Waits until no device reaches what was unmapped last, and for what the device itself waits for. */
  *afterDmaUnmap(): Steps {
    yield* this.#container.settle();
    if (this.#inner.afterDmaUnmap !== undefined) yield* this.#inner.afterDmaUnmap();
  }

  #renewClient(): void {
    this.#client = {};
    this.#isNoted = false;
  }

  #registerMemory(): void {
    for (const region of this.#inner.regions) {
      const memory = region?.deviceMemory;
      if (memory === undefined || this.#registered.includes(memory.id)) continue;
      this.#container.registerDeviceMemory(memory.id, memory.size);
      this.#registered.push(memory.id);
    }
  }

  #unregisterMemory(): void {
    for (const id of this.#registered.splice(0)) this.#container.unregisterDeviceMemory(id);
  }
}
