/**
 * A copy engine: a PCI device that moves data between the guest's memory and its own, served by vfio-user.
 *
 * BAR0, 4 KiB of registers, each access a message:
 *   0x00 ID       0x4c464345, read only          0x18 OFFSET   byte offset in BAR2
 *   0x04 SCRATCH  keeps what is written          0x1c STATUS   0 idle, 1 busy, 2 done, 3 failed
 *   0x08 ADDRESS  of guest memory, 64 bits       0x20 ACK      any write ends INTx
 *   0x10 LENGTH   bytes, at most 1 MiB           0x24 DOORBELL any write is counted, also by ioeventfd
 *   0x14 COMMAND  1: guest to BAR2, 2: BAR2 to guest, 3: only raise the interrupt
 *   0x800 MSI-X table, two vectors               0xc00 MSI-X pending bits
 * BAR2, 1 MiB of memory that the guest maps.
 * A finished command raises MSI-X vector 0, or INTx while the guest has not enabled MSI-X.
 * Run it: node --import tsx examples/serve.ts /tmp/copy-engine.sock
 */

import {
  ConfigSpace,
  type DeviceClient,
  pause,
  type Steps,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  type VfioDevice,
} from "../src/vfio/index.js";
import { createMemfd, Mapping, type Serving } from "../src/vfio-user/index.js";

const ID = 0x00;
const ADDRESS = 0x08;
const LENGTH = 0x10;
const COMMAND = 0x14;
const OFFSET = 0x18;
const STATUS = 0x1c;
const ACK = 0x20;
const DOORBELL = 0x24;
const MEMORY_SIZE = 1 << 20;
const Status = { IDLE: 0, BUSY: 1, DONE: 2, FAILED: 3 };

export class CopyEngine implements VfioDevice {
  readonly #config = new ConfigSpace({ vendorId: 0x1234, deviceId: 0x4c46, classCode: 0x088000, interruptPin: 1 });
  readonly #registers = new Uint8Array(4096);
  readonly #view = new DataView(this.#registers.buffer);
  readonly #memfd = createMemfd("copy-engine", MEMORY_SIZE);
  readonly #memory = new Mapping(this.#memfd, 0, MEMORY_SIZE, "read-write");
  #client: DeviceClient | undefined;

  readonly regions = [
    { size: 4096, readable: true, writable: true, ioeventfds: [{ offset: DOORBELL, size: 4 as const }] },
    undefined,
    { size: MEMORY_SIZE, readable: true, writable: true, mapping: { fd: this.#memfd.number, offset: 0 } },
    undefined,
    undefined,
    undefined,
    undefined,
    { size: 256, readable: true, writable: true },
  ];
  readonly irqs = [
    { flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, count: 1 },
    undefined,
    { flags: VFIO_IRQ_INFO_EVENTFD, count: 2 },
  ];

  constructor() {
    this.#config.addBar(0, 4096);
    this.#config.addBar(2, MEMORY_SIZE, { wide: true, prefetchable: true });
    this.#config.addPowerManagement();
    this.#config.addExpress();
    this.#config.addMsix(2, { bar: 0, offset: 0x800 }, { bar: 0, offset: 0xc00 });
    this.#view.setUint32(ID, 0x4c464345, true);
  }

  open(client: DeviceClient): void {
    this.#client = client;
  }

  close(): void {
    this.#client = undefined;
  }

  read(region: number, offset: number, data: Uint8Array): void {
    const bytes = region === 0 ? this.#registers : this.#memory.bytes;
    if (region === VFIO_PCI_CONFIG_REGION_INDEX) this.#config.read(offset, data);
    else for (let at = 0; at < data.length; at++) data[at] = bytes[offset + at] ?? 0;
  }

  write(region: number, offset: number, data: Uint8Array): void {
    if (region === VFIO_PCI_CONFIG_REGION_INDEX) this.#config.write(offset, data);
    else if (region === 2) this.#memory.bytes.set(data, offset);
    else if (offset === DOORBELL) this.ioevent();
    else if (offset >= 4 && offset !== STATUS) {
      this.#registers.set(data, offset);
      if (offset === COMMAND) this.#client?.start(this.#run());
      if (offset === ACK) this.#setIntx(false);
    }
  }

  ioevent(): void {
    this.#view.setUint32(DOORBELL, this.#view.getUint32(DOORBELL, true) + 1, true);
  }

  *reset(): Steps {
    this.#setIntx(false);
    this.#registers.fill(0, 4);
    this.#memory.bytes.fill(0);
    this.#config.reset();
    yield* pause(1); // a real one takes its time; the server serves others meanwhile
  }

  /** Lets the memory go; the device must not be served any more. */
  dispose(): void {
    this.#memory.unmap();
    this.#memfd.close();
  }

  *#run(): Steps {
    const client = this.#client;
    const view = this.#view;
    if (client === undefined) return;
    view.setUint32(STATUS, Status.BUSY, true);
    let status = Status.FAILED;
    try {
      const offset = view.getUint32(OFFSET, true);
      const length = view.getUint32(LENGTH, true);
      const command = view.getUint32(COMMAND, true);
      const address = view.getBigUint64(ADDRESS, true);
      if (offset + length > MEMORY_SIZE) return;
      const data = this.#memory.bytes.subarray(offset, offset + length);
      if (command === 1) yield* client.dma.read(address, data);
      if (command === 2) yield* client.dma.write(address, data);
      status = Status.DONE;
    } finally {
      view.setUint32(STATUS, status, true);
      if (!client.trigger(VFIO_PCI_MSIX_IRQ_INDEX, 0)) this.#setIntx(true);
    }
  }

  #setIntx(asserted: boolean): void {
    this.#config.setInterruptStatus(asserted);
    this.#client?.setIntx(asserted);
  }
}

/** What the server's worker calls: one engine for each socket path. */
export function createDevices(data: unknown): Serving {
  const engines = (data as string[]).map((socket) => ({ socket, device: new CopyEngine() }));
  return { devices: engines, close: () => engines.forEach(({ device }) => void device.dispose()) };
}
