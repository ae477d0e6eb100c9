import type { IrqSet } from "./irq_set.js";
import type { RegionCapability } from "./region_capability.js";
import type { Steps } from "./steps.js";

/** One piece of a region, in bytes. */
export interface RegionArea {
  offset: number;
  size: number;
}

/** Memory that a client may map instead of sending messages. */
export interface RegionMapping {
  /**
   * Stays the device's; the server passes duplicates on. What it refers to must hold nothing but this region, unless whoever
   * maps it is trusted with all of it.
   */
  fd: number;
  /** Where the region begins in the file; a multiple of the page size. */
  offset: number;
  /** The pieces that may be mapped, page aligned; absent: all of it. */
  areas?: readonly RegionArea[];
}

/** A write of `size` bytes at `offset` (of `value` only, when given) that a hypervisor may turn into a bare event. */
export interface Ioeventfd {
  offset: number;
  /** 1, 2, 4 or 8 bytes, or 0 for any. */
  size: 0 | 1 | 2 | 4 | 8;
  value?: bigint;
}

/** One region: a BAR, the ROM, config space, or a device specific one. */
export interface VfioRegion {
  /** Bytes, at most 2^53 - 1. */
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly mapping?: RegionMapping;
  /** Capabilities besides SPARSE_MMAP, which follows from {@link RegionMapping.areas}. */
  readonly capabilities?: readonly RegionCapability[];
  /**
   * An access that runs over the end is cut to what is there, and the reply tells how much that was, as the kernel does
   * for its device regions (`vfio_pci_nvlink2.c`); without this it is refused.
   */
  readonly clips?: boolean;
  /**
   * The region shows memory that is the device's own and not its host's: the file behind {@link mapping}, by device and
   * inode as {@link DmaRange.file} has it, and its bytes. A DMA space registers it once, and later maps over it take no
   * memory of the host's. Another one after each owner, so a getter.
   */
  readonly deviceMemory?: { id: string; size: number };
  /** Doorbells that need no message; each arrives at {@link VfioDevice.ioevent}. */
  readonly ioeventfds?: readonly Ioeventfd[];
}

/** One kind of interrupt. */
export interface VfioIrq {
  /** VFIO_IRQ_INFO_* */
  readonly flags: number;
  /** How many there are. */
  readonly count: number;
}

/** A range of the client's memory that a device may reach, as DMA_MAP gives it. */
export interface DmaRange {
  address: bigint;
  size: bigint;
  /**
   * The file behind it and where in it the range begins; without one the range is reached by messages. `id` names the
   * file (device and inode), whichever descriptor it came with.
   */
  file?: { fd: number; offset: bigint; id: string };
  readable: boolean;
  writable: boolean;
}

/**
 * The client's memory as its device sees it. Memory that came with a descriptor is reached at once; the rest by
 * messages, for which the steps wait. All throw a `VfioError`: EFAULT for an address that is not mapped (the whole
 * range must be), EACCES for one that may not be read or written, ETIMEDOUT when a client does not answer, EIO when its
 * file is shorter than it said, ECANCELED when the client went away or took the memory back.
 */
export interface DmaSpace {
  /** Fills `data` from the client's memory at `address`. */
  read(address: bigint, data: Uint8Array): Steps;
  /** Writes `data` to the client's memory at `address`. */
  write(address: bigint, data: Uint8Array): Steps;
}

/** What a device may do to its client, from `open` to `close`. */
export interface DeviceClient {
  readonly dma: DmaSpace;
  /**
   * Raises an interrupt, by VFIO index and number.
   * @returns false when nobody listens or it is masked (it is then raised when unmasked)
   */
  trigger(index: number, subindex: number): boolean;
  /**
   * Drives the INTx line. While it is asserted the client gets the interrupt again after each unmask, as from a level
   * triggered line; the device must also show Interrupt Status in its config space, or the guest takes the interrupt
   * for somebody else's.
   */
  setIntx(asserted: boolean): void;
  /**
   * Runs steps beside the register accesses: up to their first wait at once, the rest in the server's loop. They are
   * cancelled when the client leaves and before a reset. What they throw is reported, and ends only them.
   */
  start(steps: Steps): void;
}

/**
 * A device as VFIO describes one: regions, interrupts, DMA and reset. Whatever implements it can be served.
 *
 * Register accesses are answered before anything else happens, so `read`, `write` and `ioevent` must be quick; longer
 * work is {@link Steps}. The server checks every access against the region's size and permissions before it gets here.
 * A `VfioError` thrown from any of these goes to the client as its errno, everything else as EIO.
 */
export interface VfioDevice {
  /** By VFIO index (VFIO_PCI_BAR0_REGION_INDEX ...); `undefined` for one that is not there. */
  readonly regions: readonly (VfioRegion | undefined)[];
  /** By VFIO index (VFIO_PCI_INTX_IRQ_INDEX ...). */
  readonly irqs: readonly (VfioIrq | undefined)[];

  /** Fills `data` from a region. `data` is valid only during the call; so for {@link write}. */
  read(region: number, offset: number, data: Uint8Array): void;
  write(region: number, offset: number, data: Uint8Array): void;

  /** Back to the state of power on; the client's next message waits for the end. Absent: it cannot be reset. */
  reset?(): Steps;

  /**
   * What must be done before a client is let in; what it throws turns the client away. Cancelled when the server stops.
   */
  beforeOpen?(): Steps;
  /** A client has arrived. State that an earlier one left is still there. */
  open?(client: DeviceClient): void;
  /** The client is gone, and with it its memory and its interrupts. */
  close?(): void;
  /** What must be done after that, before the next client is let in. Cancelled when the server stops. */
  afterClose?(): Steps;

  /**
   * Maps `length` bytes of a region, as mmap on a kernel device does, for whoever uses the device in this process; a
   * client over a socket gets {@link VfioRegion.mapping}.
   * @throws {VfioError} EINVAL for what cannot be mapped, EPERM for what may be mapped once and is
   */
  mmap?(region: number, offset: number, length: number): { fd: number; offset: number };

  /** One of a region's {@link Ioeventfd}s was signalled, once or more. */
  ioevent?(region: number, ioeventfd: Ioeventfd): void;

  /**
   * Takes over what SET_IRQS asks for, for devices whose interrupts come from elsewhere (the kernel). Descriptors are
   * the caller's and may be closed after the call. Absent: the server keeps eventfds, masks and pending interrupts.
   */
  setIrqs?(set: IrqSet, eventfds: readonly number[]): void;

  /**
   * What a range has to wait for before it is mapped. The client's next message waits for the end of that, everybody else
   * does not; a client that goes meanwhile has mapped nothing. What it throws refuses the range.
   */
  beforeDmaMap?(range: DmaRange): Steps;
  /** A range was mapped or is about to be unmapped, for devices whose DMA is somebody else's (the kernel's). */
  dmaMapped?(range: DmaRange): void;
  dmaUnmapped?(range: DmaRange): void;
  /**
   * What must be over before the client is told that memory is unmapped, and before the end of a client: until then the device
   * may still reach it. What it throws is the answer to the client. Cancelled when the server stops.
   */
  afterDmaUnmap?(): Steps;
}
