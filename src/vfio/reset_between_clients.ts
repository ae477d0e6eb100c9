import type { DeviceClient, DmaRange, VfioDevice, VfioIrq, VfioRegion } from "./device.js";
import type { IrqSet } from "./irq_set.js";
import type { Steps } from "./steps.js";

/**
 * A device that is reset before a client comes and after it has gone, so that nothing of one client's is left to the next
 * and nothing that it began goes on. Otherwise it is the device itself.
 */
export class ResetBetweenClients implements VfioDevice {
  readonly #inner: VfioDevice;
  readonly #reset: () => Steps;
  declare readonly mmap?: (region: number, offset: number, length: number) => { fd: number; offset: number };
  declare readonly setIrqs?: (set: IrqSet, eventfds: readonly number[]) => void;
  declare readonly beforeDmaMap?: (range: DmaRange) => Steps;
  declare readonly dmaMapped?: (range: DmaRange) => void;
  declare readonly dmaUnmapped?: (range: DmaRange) => void;
  declare readonly afterDmaUnmap?: () => Steps;

  /** @param reset how the device is reset, at a client's wish too */
  constructor(inner: VfioDevice, reset: () => Steps) {
    this.#inner = inner;
    this.#reset = reset;
    if (inner.mmap !== undefined) this.mmap = inner.mmap.bind(inner);
    if (inner.setIrqs !== undefined) this.setIrqs = inner.setIrqs.bind(inner);
    if (inner.beforeDmaMap !== undefined) this.beforeDmaMap = inner.beforeDmaMap.bind(inner);
    if (inner.dmaMapped !== undefined) this.dmaMapped = inner.dmaMapped.bind(inner);
    if (inner.dmaUnmapped !== undefined) this.dmaUnmapped = inner.dmaUnmapped.bind(inner);
    if (inner.afterDmaUnmap !== undefined) this.afterDmaUnmap = inner.afterDmaUnmap.bind(inner);
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

  *reset(): Steps {
    yield* this.#reset();
  }

  *beforeOpen(): Steps {
    if (this.#inner.beforeOpen !== undefined) yield* this.#inner.beforeOpen();
    yield* this.#reset();
  }

  open(client: DeviceClient): void {
    this.#inner.open?.(client);
  }

  close(): void {
    this.#inner.close?.();
  }

  *afterClose(): Steps {
    yield* this.#reset();
    if (this.#inner.afterClose !== undefined) yield* this.#inner.afterClose();
  }
}
