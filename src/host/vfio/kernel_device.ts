import { CallThread, type Fd, libc, NativeMemory, OsError, type PendingCall, type Poller } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import {
  DEVICE_INFO_SIZE,
  decodeDeviceInfo,
  type IrqSet,
  type Steps,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_CONFIG_REGION_INDEX,
  type VfioDevice,
  VfioError,
  type VfioIrq,
} from "../../vfio/index.js";
import { asVfioError, ended } from "./calling.js";
import { readIrq, setKernelIrqs } from "./device_irqs.js";
import { type DeviceRegion, readRegion } from "./device_regions.js";
import { type AffectedFunction, affectedByHotReset, hotReset } from "./hot_reset.js";
import { type KernelNotice, KernelNotices } from "./kernel_notices.js";
import { type MappedBy, type RegionFile, type RegionFileOptions, regionFile } from "./region_file.js";
import { askFor, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_RESET } from "./requests.js";

/** More than any device has: a guard against nonsense. */
const MAX_INDEXES = 64;
/** Bytes of one transfer; a register is one access. */
const PIECE = 1 << 16;
const COMMAND = 4;
const COMMAND_BUS_MASTER = 1 << 2;

export type KernelRegion = DeviceRegion & {
  /** By which file clients map it. */
  readonly mappedBy: MappedBy;
};

export interface KernelDeviceOptions extends RegionFileOptions {
  /** Makes the calls that take long, for all devices of a container. */
  thread: CallThread;
  /** IOMMU groups of this process, as they are at any time: they prove whose functions a hot reset resets. */
  groups: ReadonlyMap<number, Fd>;
  /** Told by the loop of {@link KernelDevice.watchWith}. */
  onNotice: (notice: KernelNotice) => void;
}

/**
 * A function that the kernel's vfio-pci has, as a device that can be served. Registers and config space are the kernel's
 * virtualised ones, interrupts go from the kernel to the client's eventfds and back with nobody between, and DMA is the address
 * space's that the function is in. `read` and `write` touch hardware: a kilobyte of registers takes a millisecond or so.
 *
 * While the device is being reset from here, accesses are refused; while somebody else resets it or its bus, those to config
 * space wait for the end of that.
 */
export class KernelDevice implements VfioDevice {
  readonly address: PciAddress;
  readonly regions: readonly (KernelRegion | undefined)[];
  readonly irqs: readonly (VfioIrq | undefined)[];
  /** Absent when the kernel has no way to reset this function alone; {@link hotReset} may do. */
  declare readonly reset?: () => Steps;
  readonly #fd: Fd;
  readonly #options: KernelDeviceOptions;
  readonly #files: readonly RegionFile[];
  readonly #notices: KernelNotices;
  readonly #buffer = new NativeMemory(PIECE);
  #resets: CallThread | undefined;
  #resetting: PendingCall | undefined;
  /** Kinds of interrupts that the client has listened to. */
  readonly #listened = new Set<number>();

  /**
   * @param fd of the device, in a group or bound to an iommufd; the device's from now on, whatever happens
   * @throws {VfioError} EIO for what is no PCI device, and for nonsense; what the kernel says
   */
  constructor(fd: Fd, options: KernelDeviceOptions) {
    this.#fd = fd;
    this.#options = options;
    this.address = options.address;
    const files: RegionFile[] = [];
    this.#files = files;
    try {
      const { flags, numRegions, numIrqs } = readInfo(fd);
      this.regions = indexes(numRegions).map((index) => {
        const region = readRegion(fd, index);
        if (region === undefined) return undefined;
        const { by, mapping, ...file } = regionFile(fd, index, region, options);
        files.push({ by, ...file });
        return { ...region, mappedBy: by, ...(mapping !== undefined && { mapping }) };
      });
      this.irqs = indexes(numIrqs).map((index) => readIrq(fd, index));
      this.#notices = new KernelNotices(fd, this.irqs, options.onNotice);
      if ((flags & VFIO_DEVICE_FLAGS_RESET) !== 0) this.reset = () => this.#reset();
    } catch (error) {
      for (const { file } of files) file?.close();
      options.thread.start("close", fd.release());
      throw error;
    }
  }

  /** @throws {VfioError} EINVAL outside the region, EIO when the kernel reads less, or resets it; ENODEV and the like from it */
  read(region: number, offset: number, data: Uint8Array): void {
    const at = this.#at(region, offset, data.length);
    this.#requireNoReset();
    const { bytes, address } = this.#buffer;
    for (let done = 0; done < data.length; done += PIECE) {
      const length = Math.min(PIECE, data.length - done);
      const count = libc().pread(this.#number(), address, length, at + done);
      if (count !== length) throw this.#failure("pread", count, region, offset + done, length);
      data.set(bytes.subarray(0, length), done);
    }
  }

  /** @throws {VfioError} as {@link read} */
  write(region: number, offset: number, data: Uint8Array): void {
    const at = this.#at(region, offset, data.length);
    this.#requireNoReset();
    const { bytes, address } = this.#buffer;
    for (let done = 0; done < data.length; done += PIECE) {
      const length = Math.min(PIECE, data.length - done);
      bytes.set(data.subarray(done, done + length));
      const count = libc().pwrite(this.#number(), address, length, at + done);
      if (count !== length) throw this.#failure("pwrite", count, region, offset + done, length);
    }
  }

  /** @throws {VfioError} EINVAL for interrupts that are not there, and what the kernel says */
  setIrqs(set: IrqSet, eventfds: readonly number[]): void {
    const { index, start, count } = set;
    const there = this.irqs[index]?.count ?? 0;
    if (start + count > there)
      throw new VfioError("EINVAL", `interrupts ${start} + ${count} of ${there}, index ${index}`);
    if (this.#notices.has(index)) {
      this.#notices.set(set, eventfds);
      return;
    }
    setKernelIrqs(this.#open(), set, eventfds);
    if (set.action === "trigger" && set.data.kind === "eventfd") this.#listened.add(index);
    else if (set.action === "trigger" && count === 0) this.#listened.delete(index);
  }

  /** For whoever uses the device in this process. @throws {VfioError} EINVAL for what cannot be mapped */
  mmap(region: number, offset: number, length: number): { fd: number; offset: number } {
    const { mappable, fileOffset } = this.regions[region] ?? { mappable: [], fileOffset: 0 };
    const isWithin = mappable.some((area) => offset >= area.offset && offset + length <= area.offset + area.size);
    if (length <= 0 || !isWithin) throw new VfioError("EINVAL", `${length} bytes at ${offset} of region ${region}`);
    return { fd: this.#number(), offset: fileOffset + offset };
  }

  /** All functions that {@link hotReset} resets. @throws {VfioError} */
  affectedByHotReset(): AffectedFunction[] {
    return affectedByHotReset(this.#open());
  }

  /** @throws {VfioError} EPERM when it would reset functions that are not in groups of this assignment, EIO and the like */
  *hotReset(): Steps {
    const device = this.#open();
    yield* hotReset(device, this.#options.groups, (request, argument) => this.#resetBy(request, argument));
  }

  /** Has a loop deliver what the kernel tells. */
  watchWith(poller: Poller): void {
    this.#notices.watchWith(poller);
  }

  /** The client is gone: no interrupt is left to it, and the device does no DMA of its own. @throws {VfioError} */
  close(): void {
    if (!this.#fd.isOpen) return;
    this.#notices.forgetClient();
    const [...listened] = this.#listened;
    this.#listened.clear();
    // A reset switches it off as well.
    if (!this.#isResetting) this.#switchBusMasterOff();
    for (const index of listened) {
      setKernelIrqs(this.#open(), { index, start: 0, count: 0, action: "trigger", data: { kind: "none" } }, []);
    }
  }

  /** Whether the device's file is open: {@link shut} closes it. */
  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /**
   * Begins to close the device's file, and with the last one of it the kernel resets the device. Afterwards everything is
   * ENODEV. Does nothing the second time.
   * @returns the call to wait for
   */
  shut(): PendingCall | undefined {
    if (!this.#fd.isOpen) return undefined;
    this.#notices.close();
    for (const { file } of this.#files) file?.close();
    this.#resets?.closeAfterCalls();
    return this.#options.thread.start("close", this.#fd.release());
  }

  *#reset(): Steps {
    try {
      yield* this.#resetBy(VFIO_DEVICE_RESET, 0);
    } catch (error) {
      throw asVfioError(error, `${this.address}: VFIO_DEVICE_RESET`);
    }
  }

  /**
   * On a thread that is at nothing else: a device that does not come back keeps its reset in the kernel for a minute, and no
   * other device's reset waits for that. Threads cost, so each device gets one of its own only when it needs it.
   */
  *#resetBy(request: number, argument: number | NativeMemory): Steps {
    this.#requireNoReset();
    if (!this.#options.thread.isIdle) this.#resets ??= new CallThread();
    const call = (this.#resets ?? this.#options.thread).start("ioctl", this.#open(), request, argument);
    this.#resetting = call;
    yield* ended(call);
    call.result();
  }

  /** The kernel makes config accesses wait for the end of a reset, and whoever calls must not wait. */
  #requireNoReset(): void {
    if (this.#isResetting) throw new VfioError("EIO", `${this.address} is being reset`);
  }

  get #isResetting(): boolean {
    return this.#resetting?.isDone === false;
  }

  #switchBusMasterOff(): void {
    const command = new Uint8Array(2);
    this.read(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, command);
    command[0] = (command[0] ?? 0) & ~COMMAND_BUS_MASTER;
    this.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, command);
  }

  #open(): Fd {
    if (!this.#fd.isOpen) throw new VfioError("ENODEV", `${this.address} is closed`);
    return this.#fd;
  }

  #number(): number {
    return this.#open().number;
  }

  #at(region: number, offset: number, length: number): number {
    const { size, fileOffset } = this.regions[region] ?? { size: 0, fileOffset: 0 };
    if (!(offset >= 0 && offset + length <= size)) {
      throw new VfioError("EINVAL", `${length} bytes at ${offset} of region ${region}, which has ${size}`);
    }
    return fileOffset + offset;
  }

  #failure(call: string, count: number, region: number, offset: number, length: number): VfioError {
    const what = `${this.address}: ${call} of ${length} bytes at 0x${offset.toString(16)} of region ${region}`;
    if (count < 0) return asVfioError(new OsError(call, libc().errno()), what);
    return new VfioError("EIO", `${what} moved ${count}`);
  }
}

function readInfo(fd: Fd): { flags: number; numRegions: number; numIrqs: number } {
  let bytes: Uint8Array;
  try {
    bytes = askFor(fd, VFIO_DEVICE_GET_INFO, "VFIO_DEVICE_GET_INFO", DEVICE_INFO_SIZE).bytes;
  } catch (error) {
    throw asVfioError(error, "VFIO_DEVICE_GET_INFO");
  }
  const info = decodeDeviceInfo(bytes);
  if ((info.flags & VFIO_DEVICE_FLAGS_PCI) === 0 || info.numRegions > MAX_INDEXES || info.numIrqs > MAX_INDEXES) {
    throw new VfioError("EIO", `no PCI device: flags 0x${info.flags.toString(16)}, ${info.numRegions} regions`);
  }
  return info;
}

function indexes(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
