import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from "../vfio/constants.js";
import type { DeviceClient, DmaRange, Ioeventfd, VfioDevice, VfioIrq, VfioRegion } from "../vfio/device.js";
import { VfioError } from "../vfio/error.js";
import type { IrqSet } from "../vfio/irq_set.js";
import type { Steps } from "../vfio/steps.js";
import { ClientConfig } from "./client_config.js";
import { CONFIG_MIRROR, mirroredPieces, reachesMirror } from "./config_mirror.js";
import { PCI_COMMAND } from "./config_offsets.js";
import { FenceError, hex32, reasonOf } from "./error.js";
import type { Fence } from "./fence.js";
import { GuardedRegisters } from "./guarded_registers.js";
import type { FenceEvent, GuardedWrite } from "./progress.js";
import { strategyFor } from "./strategy.js";

export interface FencedDeviceOptions {
  /** The host's, in bytes: a power of two of at least 4096. */
  pageSize: number;
  /** Told of every write of a client to a register that cuts links; what it throws is ignored. */
  onEvent?: (event: FenceEvent) => void;
}

const CONFIG_BEGIN_OF_OURS = 0x10;

/**
 * A GPU behind its fence: any VFIO device of a GPU, that a client gets to touch only while the fence is in force. It is
 * reset and fenced before a client comes, at each reset the client asks for and after the client has gone; each time the
 * reset counts as done only when the links were read back as cut. While the fence is not in force everything but a reset
 * is EIO, with the reason; what it consists of, too, once it has failed under a client.
 *
 * The client sees a GPU as after power on: its BARs hold no addresses and decoding is off. The hardware keeps the addresses
 * it had, which the client's writes never reach, nor do those to the mirror of config space in BAR0. A client's writes to registers that cut links only add bits, and their
 * pages are not among those that may be mapped. That is a promise of the client's, not a wall: whoever gets the file behind
 * a mapping may map all of the file, so a device that hands out BAR0 must do so by a file that lacks these pages.
 */
export class FencedDevice implements VfioDevice {
  readonly mmap?: (region: number, offset: number, length: number) => { fd: number; offset: number };
  readonly ioevent?: (region: number, ioeventfd: Ioeventfd) => void;
  readonly setIrqs?: (set: IrqSet, eventfds: readonly number[]) => void;
  readonly beforeDmaMap?: (range: DmaRange) => Steps;
  readonly dmaMapped?: (range: DmaRange) => void;
  readonly dmaUnmapped?: (range: DmaRange) => void;
  readonly afterDmaUnmap?: () => Steps;
  readonly #inner: VfioDevice;
  readonly #regions: readonly (VfioRegion | undefined)[];
  readonly #fence: Fence;
  readonly #guarded: GuardedRegisters;
  readonly #pageSize: number;
  readonly #onEvent: (event: FenceEvent) => void;
  /** Made when config space is first known to be good. */
  #config: ClientConfig | undefined;
  /** The device has not yet done what it does after a client, whose fenced device may have been another one. */
  #left: boolean;

  /**
   * @param fence of this very GPU
   * @throws FenceError `EFENCE_PART` for a part that cannot be fenced
   * @throws {VfioError} EINVAL for a page size that is none
   */
  constructor(inner: VfioDevice, fence: Fence, options: FencedDeviceOptions) {
    const { pageSize } = options;
    if (!Number.isSafeInteger(Math.log2(pageSize)) || pageSize < 4096) {
      throw new VfioError("EINVAL", `a page size of ${pageSize} bytes`);
    }
    const strategy = strategyFor(fence.plan.part);
    if (strategy === undefined) {
      throw new FenceError("EFENCE_PART", `${fence.plan.name} is no part that can be fenced`);
    }
    this.#inner = inner;
    this.#fence = fence;
    this.#left = fence.attached;
    this.#guarded = new GuardedRegisters(strategy.guarded);
    this.#pageSize = pageSize;
    this.#onEvent = options.onEvent ?? (() => {});
    this.#regions = this.#describeRegions();
    if (inner.mmap !== undefined) this.mmap = (region, offset, length) => this.#map(region, offset, length);
    if (inner.ioevent !== undefined) {
      this.ioevent = (region, ioeventfd) => {
        this.#requireFence();
        inner.ioevent?.(region, ioeventfd);
      };
    }
    if (inner.setIrqs !== undefined) {
      this.setIrqs = (set, eventfds) => {
        this.#requireFence();
        inner.setIrqs?.(set, eventfds);
      };
    }
    const { beforeDmaMap } = inner;
    if (beforeDmaMap !== undefined) this.beforeDmaMap = (range) => beforeDmaMap.call(inner, range);
    if (inner.dmaMapped !== undefined) {
      this.dmaMapped = (range) => {
        this.#requireFence();
        inner.dmaMapped?.(range);
      };
    }
    // Memory is taken back whatever has become of the fence.
    if (inner.dmaUnmapped !== undefined) this.dmaUnmapped = (range) => inner.dmaUnmapped?.(range);
    if (inner.afterDmaUnmap !== undefined) this.afterDmaUnmap = inner.afterDmaUnmap.bind(inner);
  }

  /** @throws {VfioError} EIO under a client whose fence has failed: what a region shows may be mapped */
  get regions(): readonly (VfioRegion | undefined)[] {
    if (this.#left && this.#fence.state.kind === "failed") this.#refuse();
    return this.#regions;
  }

  /** @throws {VfioError} as {@link regions} */
  get irqs(): readonly (VfioIrq | undefined)[] {
    if (this.#left && this.#fence.state.kind === "failed") this.#refuse();
    return this.#inner.irqs;
  }

  read(region: number, offset: number, data: Uint8Array): void {
    if (this.#fence.state.kind !== "in force") this.#refuse();
    if (region === VFIO_PCI_BAR0_REGION_INDEX && reachesMirror(offset, data.length)) {
      for (const piece of mirroredPieces(offset, data)) {
        if (piece.isConfig) this.read(VFIO_PCI_CONFIG_REGION_INDEX, piece.offset - CONFIG_MIRROR.offset, piece.data);
        else this.#inner.read(region, piece.offset, piece.data);
      }
      return;
    }
    this.#inner.read(region, offset, data);
    if (region === VFIO_PCI_CONFIG_REGION_INDEX && offset + data.length > CONFIG_BEGIN_OF_OURS) {
      this.#clientConfig().overlay(offset, data);
    }
  }

  write(region: number, offset: number, data: Uint8Array): void {
    if (this.#fence.state.kind !== "in force") this.#refuse();
    if (region === VFIO_PCI_BAR0_REGION_INDEX && reachesMirror(offset, data.length)) {
      for (const piece of mirroredPieces(offset, data)) {
        if (piece.isConfig) this.write(VFIO_PCI_CONFIG_REGION_INDEX, piece.offset - CONFIG_MIRROR.offset, piece.data);
        else this.#writeBar0(piece.offset, piece.data);
      }
    } else if (region === VFIO_PCI_BAR0_REGION_INDEX && this.#guarded.reachedBy(offset, data.length)) {
      this.#writeBar0(offset, data);
    } else if (region === VFIO_PCI_CONFIG_REGION_INDEX) {
      this.#clientConfig().write(offset, data, this.#writeConfig);
    } else {
      this.#inner.write(region, offset, data);
    }
  }

  #writeBar0(offset: number, data: Uint8Array): void {
    this.#guarded.write(this.#inner, offset, data, (write) => this.#reportWrite(write));
  }

  /** @throws {VfioError} EIO when the GPU could not be reset and fenced, or a far end not be proven cut */
  *reset(): Steps {
    yield* this.#renew();
  }

  /** @throws {VfioError} as {@link reset}, and whatever the device throws */
  *beforeOpen(): Steps {
    if (this.#left) yield* this.#fence.attached ? this.afterClose() : this.#afterClient();
    if (this.#inner.beforeOpen !== undefined) yield* this.#inner.beforeOpen();
    yield* this.#renew();
  }

  /** @throws {VfioError} EIO when the fence is not in force or a former client has left its traces, and whatever the device throws */
  open(client: DeviceClient): void {
    this.#requireFence();
    if (this.#left) throw new VfioError("EIO", `${this.#fence.plan.name} was not reset after its last client`);
    this.#fence.requireClosed();
    this.#powerOn();
    this.#fence.attached = true;
    this.#left = true;
    this.#inner.open?.(client);
  }

  close(): void {
    this.#inner.close?.();
  }

  /**
   * First the reset, which ends whatever the client left running; then what the device does after a client. Without the
   * reset that is done all the same, and both are done again before the next client: what runs on may undo it.
   */
  *afterClose(): Steps {
    let failure: { error: unknown } | undefined;
    try {
      yield* this.#renew();
      this.#fence.attached = false;
    } catch (error) {
      failure = { error };
    }
    yield* this.#afterClient();
    if (failure !== undefined) throw failure.error;
  }

  *#afterClient(): Steps {
    if (this.#inner.afterClose !== undefined) yield* this.#inner.afterClose();
    this.#left = this.#fence.attached;
  }

  *#renew(): Steps {
    try {
      yield* this.#fence.renew();
      this.#powerOn();
      this.#fence.requireClosed();
    } catch (error) {
      throw new VfioError("EIO", `${this.#fence.plan.name}: ${reasonOf(error)}`);
    }
  }

  /** What the client sees is as after a reset, which restored the hardware's registers for the fence. */
  #powerOn(): void {
    this.#fence.port.writeConfig(PCI_COMMAND, 2, 0);
    this.#clientConfig().reset();
  }

  #clientConfig(): ClientConfig {
    this.#config ??= new ClientConfig(
      (offset, data) => this.#inner.read(VFIO_PCI_CONFIG_REGION_INDEX, offset, data),
      this.#inner.regions,
    );
    return this.#config;
  }

  readonly #writeConfig = (offset: number, data: Uint8Array): void => {
    this.#inner.write(VFIO_PCI_CONFIG_REGION_INDEX, offset, data);
  };

  #map(region: number, offset: number, length: number): { fd: number; offset: number } {
    this.#requireFence();
    const { mmap } = this.#inner;
    const guarded = region === VFIO_PCI_BAR0_REGION_INDEX && this.#guarded.shareAPage(offset, length, this.#pageSize);
    if (mmap === undefined || guarded || region === VFIO_PCI_CONFIG_REGION_INDEX) {
      throw new VfioError("EINVAL", `mmap of ${length} bytes at ${hex32(offset)} of region ${region}`);
    }
    return mmap.call(this.#inner, region, offset, length);
  }

  #requireFence(): void {
    if (this.#fence.state.kind !== "in force") this.#refuse();
  }

  #refuse(): never {
    const { plan, state } = this.#fence;
    const now = state.kind === "renewing" ? "it is being reset" : "it is not fenced yet";
    const why = state.kind === "failed" ? `its fence has failed: ${state.reason}` : now;
    throw new VfioError("EIO", `${plan.name} is not served: ${why}`);
  }

  #reportWrite(write: GuardedWrite): void {
    const done = write.written === null ? "nothing was written" : `${hex32(write.written)} was written`;
    const detail = `${hex32(write.asked)} to ${hex32(write.offset)}: ${done}`;
    try {
      this.#onEvent({ gpu: this.#fence.plan.name, step: "guarded write", detail, write });
    } catch {
      // A client's access does not depend on who watches.
    }
  }

  /** Regions whose mapping changes tell so by a getter, so these are asked again each time. */
  #describeRegions(): (VfioRegion | undefined)[] {
    const regions = [...this.#inner.regions];
    const bar0 = regions[VFIO_PCI_BAR0_REGION_INDEX];
    const config = regions[VFIO_PCI_CONFIG_REGION_INDEX];
    if (bar0 !== undefined) {
      regions[VFIO_PCI_BAR0_REGION_INDEX] = fencedBar0(bar0, this.#guarded, this.#pageSize);
    }
    if (config !== undefined) {
      const { size, readable, writable, capabilities, clips } = config;
      const rest = { ...(capabilities && { capabilities }), ...(clips !== undefined && { clips }) };
      regions[VFIO_PCI_CONFIG_REGION_INDEX] = { size, readable, writable, ...rest };
    }
    return regions;
  }
}

/** BAR0 without the pages, and without the doorbells, of registers that cut links. */
function fencedBar0(inner: VfioRegion, guarded: GuardedRegisters, pageSize: number): VfioRegion {
  const { size, readable, writable, capabilities, clips } = inner;
  const region: VfioRegion = { size, readable, writable, ...(capabilities && { capabilities }) };
  const mapping = (): VfioRegion["mapping"] => {
    const whole = inner.mapping;
    if (whole === undefined) return undefined;
    const areas = guarded.mappable(whole.areas ?? [{ offset: 0, size }], pageSize);
    return areas.length === 0 ? undefined : { fd: whole.fd, offset: whole.offset, areas };
  };
  const ioeventfds = () => inner.ioeventfds?.filter((each) => !guarded.reachedBy(each.offset, each.size || 8));
  return Object.defineProperties(
    { ...region, ...(clips !== undefined && { clips }) },
    {
      mapping: { get: mapping, enumerable: true },
      ioeventfds: { get: ioeventfds, enumerable: true },
    },
  );
}
