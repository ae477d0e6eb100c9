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
  /** How many members have mapped it. */
  uses: number;
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
  #pinnedBytes = 0n;

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
   * Adds a member's map.
   * @throws {VfioError} EEXIST for one that overlaps another, unless it is the same and another member's; EINVAL for an
   * empty range, or one beyond 2^64
   */
  map(member: object, range: DmaRange): void {
    const { address, size } = range;
    if (size <= 0n || address < 0n || address + size > END) throw new VfioError("EINVAL", describe(range));
    const known = this.#ranges.overlapping(address, size);
    const held = this.#members.get(member) ?? new Set<SharedRange>();
    if (known !== undefined && (held.has(known) || !isSame(known, range))) {
      throw new VfioError("EEXIST", `${describe(range)} overlaps ${describe(known)} of the same address space`);
    }
    const shared = known ?? this.#add(range);
    shared.uses++;
    held.add(shared);
    this.#members.set(member, held);
  }

  /** Takes a member's map back. Does nothing for one that it has not. */
  unmap(member: object, { address }: DmaRange): void {
    const shared = this.#ranges.overlapping(address, 1n);
    if (shared?.address === address && this.#members.get(member)?.delete(shared) === true) this.#release(shared);
  }

  /** Takes all of a member's maps back. */
  leave(member: object): void {
    for (const shared of this.#members.get(member) ?? []) this.#release(shared);
    this.#members.delete(member);
  }

  #add(range: DmaRange): SharedRange {
    const { address, size, readable, writable, file } = range;
    const isPinned = file !== undefined && !this.#isDeviceMemory(range);
    const access = { readable, writable };
    const shared = { address, size, ...access, fileId: file?.id, offset: file?.offset ?? 0n, isPinned, uses: 0 };
    this.#ranges.add(shared);
    if (isPinned) this.#pinnedBytes += size;
    return shared;
  }

  #release(shared: SharedRange): void {
    if (--shared.uses > 0) return;
    this.#ranges.remove(shared);
    if (shared.isPinned) this.#pinnedBytes -= shared.size;
  }

  #isDeviceMemory({ file, size }: DmaRange): boolean {
    const memory = file && this.#deviceMemory.get(file.id);
    return file !== undefined && memory !== undefined && file.offset + size <= memory.size;
  }
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
    if (!(yield* waitUntil(isOver, PATIENCE))) this.#isPatient = false;
  }

  /** @throws {VfioError} as {@link Container.map}, and what the device throws; neither of them has the range then */
  dmaMapped(range: DmaRange): void {
    this.#container.map(this, range);
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
