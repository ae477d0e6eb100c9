import { EPOLLET, type EventSignaller, type Fd, isEventfd, POLLIN, type Poller } from "../os/index.js";
import {
  type IrqSet,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_PCI_INTX_IRQ_INDEX,
  VfioError,
  type VfioIrq,
} from "../vfio/index.js";

interface Slot {
  trigger?: Fd;
  mask?: Fd;
  unmask?: Fd;
  unmaskWatch?: number;
  masked: boolean;
  /** Raised while masked. */
  pending: boolean;
  /** A level triggered line that is asserted. */
  asserted: boolean;
}

/** Who is told of a device's interrupts, and which of them are masked. */
export class IrqTable {
  readonly #irqs: readonly (VfioIrq | undefined)[];
  readonly #poller: Poller;
  readonly #signaller: EventSignaller;
  readonly #slots = new Map<number, Map<number, Slot>>();

  constructor(irqs: readonly (VfioIrq | undefined)[], poller: Poller, signaller: EventSignaller) {
    this.#irqs = irqs;
    this.#poller = poller;
    this.#signaller = signaller;
  }

  /**
   * Does what SET_IRQS asks for. Takes ownership of the descriptors, whatever happens.
   * @throws {VfioError} EINVAL for what {@link checkIrqSet} refuses
   */
  set(set: IrqSet, fds: Fd[]): void {
    const kept = new Set<Fd>();
    try {
      checkIrqSet(this.#irqs, set, fds);
      if (set.count === 0) {
        for (const slot of this.#slots.get(set.index)?.values() ?? []) this.#clear(slot);
        this.#slots.delete(set.index);
        return;
      }
      for (let at = 0; at < set.count; at++) {
        const fd = fds[at];
        if (fd !== undefined) kept.add(fd);
        this.#apply(set, at, fd);
      }
    } finally {
      for (const fd of fds) if (!kept.has(fd)) fd.close();
    }
  }

  /** Raises an interrupt. @returns whether the client was told now */
  trigger(index: number, subindex: number): boolean {
    const slot = this.#slots.get(index)?.get(subindex);
    if (slot?.trigger === undefined) return false;
    if (slot.masked) {
      slot.pending = true;
      return false;
    }
    slot.pending = false;
    if (this.#has(index, VFIO_IRQ_INFO_AUTOMASKED)) slot.masked = true;
    this.#signaller.signal(slot.trigger);
    return true;
  }

  /** Drives the level triggered line. */
  setIntx(asserted: boolean): void {
    if ((this.#irqs[VFIO_PCI_INTX_IRQ_INDEX]?.count ?? 0) === 0) return;
    const slot = this.#slot(VFIO_PCI_INTX_IRQ_INDEX, 0);
    const rises = asserted && !slot.asserted;
    slot.asserted = asserted;
    if (rises && !slot.masked) this.trigger(VFIO_PCI_INTX_IRQ_INDEX, 0);
  }

  /** Forgets interrupts that were raised and not delivered, as a reset does; who is told stays. */
  forgetPending(): void {
    for (const slots of this.#slots.values()) {
      for (const slot of slots.values()) {
        slot.pending = false;
        slot.asserted = false;
      }
    }
  }

  /** Closes all descriptors. */
  close(): void {
    for (const slots of this.#slots.values()) for (const slot of slots.values()) this.#clear(slot);
    this.#slots.clear();
  }

  #apply(set: IrqSet, at: number, fd: Fd | undefined): void {
    const subindex = set.start + at;
    if (set.data.kind === "eventfd") this.#assign(this.#slot(set.index, subindex), set, fd, subindex);
    else if (set.data.kind === "bool" && set.data.values[at] !== true) return;
    else if (set.action === "trigger") this.trigger(set.index, subindex);
    else if (set.action === "mask") this.#mask(this.#slot(set.index, subindex));
    else this.#unmask(set.index, subindex);
  }

  #assign(slot: Slot, { index, action }: IrqSet, fd: Fd | undefined, subindex: number): void {
    if (action === "unmask" && slot.unmask !== undefined && slot.unmaskWatch !== undefined) {
      this.#poller.remove(slot.unmask, slot.unmaskWatch);
      delete slot.unmaskWatch;
    }
    slot[action]?.close();
    delete slot[action];
    if (fd === undefined) return;
    slot[action] = fd;
    if (action === "unmask") {
      // As with the kernel, and as KVM relies on it: the client's signal unmasks. We never signal it ourselves, for an
      // asserted line would then unmask itself without end. Edge triggered, so that it need not be read.
      const onReady = () => this.#unmask(index, subindex);
      slot.unmaskWatch = this.#poller.add(fd, POLLIN | EPOLLET, { onReady });
    } else if (action === "trigger" && slot.asserted && !slot.masked) {
      this.trigger(index, subindex);
    }
  }

  #mask(slot: Slot): void {
    slot.masked = true;
    if (slot.mask !== undefined) this.#signaller.signal(slot.mask);
  }

  #unmask(index: number, subindex: number): void {
    const slot = this.#slot(index, subindex);
    if (!slot.masked) return;
    slot.masked = false;
    if (slot.pending || slot.asserted) this.trigger(index, subindex);
  }

  #clear(slot: Slot): void {
    if (slot.unmask !== undefined && slot.unmaskWatch !== undefined) this.#poller.remove(slot.unmask, slot.unmaskWatch);
    slot.trigger?.close();
    slot.mask?.close();
    slot.unmask?.close();
  }

  #slot(index: number, subindex: number): Slot {
    const slots = this.#slots.get(index) ?? new Map<number, Slot>();
    this.#slots.set(index, slots);
    const slot = slots.get(subindex) ?? { masked: false, pending: false, asserted: false };
    slots.set(subindex, slot);
    return slot;
  }

  #has(index: number, flag: number): boolean {
    return ((this.#irqs[index]?.flags ?? 0) & flag) !== 0;
  }
}

/**
 * Whether a device can do what SET_IRQS asks for.
 * @throws {VfioError} EINVAL for an index or range that is not there, an action that the interrupt does not know,
 * descriptors that are no eventfds, or other than none or one for each interrupt
 */
export function checkIrqSet(irqs: readonly (VfioIrq | undefined)[], set: IrqSet, fds: readonly Fd[]): void {
  const { index, start, count, action, data } = set;
  const irq = irqs[index];
  const fail = (why: string) => new VfioError("EINVAL", `SET_IRQS index ${index}, ${count} from ${start}: ${why}`);
  if (irq === undefined || start + count > irq.count) throw fail(`there are ${irq?.count ?? 0}`);
  if (count === 0 && (start !== 0 || action !== "trigger" || data.kind !== "none")) throw fail("none is named");
  if (action !== "trigger" && (irq.flags & VFIO_IRQ_INFO_MASKABLE) === 0) throw fail("it cannot be masked");
  if (data.kind !== "eventfd") {
    if (fds.length > 0) throw fail(`${fds.length} descriptors with data that needs none`);
    return;
  }
  if ((irq.flags & VFIO_IRQ_INFO_EVENTFD) === 0) throw fail("it cannot signal eventfds");
  if (fds.length !== 0 && fds.length !== count) throw fail(`${fds.length} descriptors`);
  if (!fds.every(isEventfd)) throw fail("a descriptor is no eventfd");
}
