import {
  createEventfd,
  drainEventfd,
  duplicateFd,
  EventSignaller,
  type Fd,
  POLLIN,
  type Poller,
} from "../../os/index.js";
import { type IrqSet, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX, type VfioIrq } from "../../vfio/index.js";
import { setKernelIrqs } from "./device_irqs.js";

/**
 * What the kernel tells of a device: it wants the device back, and asks again every ten seconds until its file is closed; or
 * the device has reported an error that is not correctable (AER).
 */
export type KernelNotice = "removal requested" | "error";

const NOTICES: readonly { index: number; notice: KernelNotice }[] = [
  { index: VFIO_PCI_ERR_IRQ_INDEX, notice: "error" },
  { index: VFIO_PCI_REQ_IRQ_INDEX, notice: "removal requested" },
];

interface Source {
  readonly index: number;
  readonly notice: KernelNotice;
  /** The kernel signals it. */
  readonly own: Fd;
  /** The client's. */
  client?: Fd;
}

/** A device's error and request interrupts: both this process and the client hear of them. */
export class KernelNotices {
  readonly #sources: Source[] = [];
  readonly #signaller = new EventSignaller();
  #poller: Poller | undefined;
  #tokens = new Map<Source, number>();

  /** @throws {VfioError} when the kernel does not take an eventfd */
  constructor(
    device: Fd,
    irqs: readonly (VfioIrq | undefined)[],
    private readonly onNotice: (notice: KernelNotice) => void,
  ) {
    for (const { index, notice } of NOTICES) {
      if (irqs[index] === undefined) continue;
      const source = { index, notice, own: createEventfd() };
      this.#sources.push(source);
      const set: IrqSet = { index, start: 0, count: 1, action: "trigger", data: { kind: "eventfd" } };
      setKernelIrqs(device, set, [source.own.number]);
    }
  }

  /** Has the loop with this poller deliver the notices. */
  watchWith(poller: Poller): void {
    this.#unwatch();
    this.#poller = poller;
    for (const source of this.#sources) {
      this.#tokens.set(source, poller.add(source.own, POLLIN, { onReady: () => this.#deliver(source) }));
    }
  }

  /** Whether an index is one of these. */
  has(index: number): boolean {
    return NOTICES.some((each) => each.index === index);
  }

  /** Does for the client what SET_IRQS asks for. The kernel's own eventfds stay. */
  set(set: IrqSet, eventfds: readonly number[]): void {
    const source = this.#sources.find(({ index }) => index === set.index);
    if (source === undefined || set.action !== "trigger") return;
    if (set.data.kind === "eventfd" || set.count === 0) {
      source.client?.close();
      delete source.client;
      const [number] = eventfds;
      if (number !== undefined) source.client = duplicateFd(number);
    } else if (source.client !== undefined && (set.data.kind === "none" || set.data.values[0] === true)) {
      this.#signaller.signal(source.client);
    }
  }

  /** The client is gone. */
  forgetClient(): void {
    for (const source of this.#sources) {
      source.client?.close();
      delete source.client;
    }
  }

  close(): void {
    this.#unwatch();
    this.forgetClient();
    for (const { own } of this.#sources.splice(0)) own.close();
    this.#signaller.close();
  }

  #deliver(source: Source): void {
    drainEventfd(source.own);
    if (source.client !== undefined) this.#signaller.signal(source.client);
    this.onNotice(source.notice);
  }

  #unwatch(): void {
    for (const [source, token] of this.#tokens) this.#poller?.remove(source.own, token);
    this.#tokens.clear();
  }
}
