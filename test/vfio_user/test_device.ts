import {
  type DeviceClient,
  type DmaRange,
  type Ioeventfd,
  pause,
  type Steps,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_REGION_TYPE_PCI_VENDOR_TYPE,
  type VfioDevice,
  VfioError,
  type VfioRegion,
} from "../../src/vfio/index.js";
import { createMemfd, Mapping, type Serving } from "../../src/vfio-user/index.js";

const ALL = { readable: true, writable: true };
const MAPPED_SIZE = 1 << 16;
const WINDOW_SIZE = 2 ** 37;
/** Where the window's last bytes begin, which are kept; the rest of it reads as zeros. */
const TAIL = WINDOW_SIZE - 16;

/** What {@link TestDevice.do} understands. */
export type TestCommand =
  | { do: "trigger"; index: number; subindex: number }
  | { do: "intx"; asserted: boolean }
  | { do: "dma"; access: "read" | "write"; address: bigint; data: Uint8Array }
  | { do: "result" }
  | { do: "log" }
  | { do: "fail to open" }
  | { do: "memory"; offset: number };

/** A device with something of everything, which tests drive from the main thread. */
export class TestDevice implements VfioDevice {
  readonly #memfd = createMemfd("test-device", MAPPED_SIZE);
  readonly #mapping = new Mapping(this.#memfd, 0, MAPPED_SIZE, "read-write");
  readonly #plain = new Uint8Array(2 << 20);
  readonly #tail = new Uint8Array(WINDOW_SIZE - TAIL).fill(0x99);
  readonly #log: string[] = [];
  #client: DeviceClient | undefined;
  #result: unknown = null;
  #failsToOpen = false;

  readonly regions: (VfioRegion | undefined)[] = [
    {
      size: 2 << 20,
      ...ALL,
      ioeventfds: [
        { offset: 8, size: 4 },
        { offset: 16, size: 8, value: 5n },
      ],
    },
    { size: 4096, readable: true, writable: false },
    {
      size: MAPPED_SIZE,
      ...ALL,
      mapping: { fd: this.#memfd.number, offset: 0, areas: [{ offset: 4096, size: 8192 }] },
    },
    { size: 16, readable: false, writable: true },
    // Fails in every way there is.
    { size: 4096, ...ALL },
    undefined,
    // Forgets to fill in what is read.
    { size: 4096, readable: true, writable: false },
    { size: 256, ...ALL },
    undefined,
    {
      size: WINDOW_SIZE,
      ...ALL,
      clips: true,
      capabilities: [
        { kind: "type", type: VFIO_REGION_TYPE_PCI_VENDOR_TYPE + 0x10de, subtype: 1 },
        { kind: "nvlink2-ssatgt", tgt: 0x4000000000000n },
        { kind: "nvlink2-lnkspd", linkSpeed: 9 },
      ],
    },
  ];
  readonly irqs = [
    { flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, count: 1 },
    { flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE, count: 4 },
    { flags: VFIO_IRQ_INFO_EVENTFD, count: 64 },
  ];

  open(client: DeviceClient): void {
    if (this.#failsToOpen) {
      this.#failsToOpen = false;
      throw new TypeError("a bug in the device");
    }
    this.#client = client;
    this.#log.push("open");
  }

  close(): void {
    this.#client = undefined;
    this.#log.push("close");
  }

  read(region: number, offset: number, data: Uint8Array): void {
    if (region === 4) fail(offset);
    if (region === 6) return;
    const end = offset + data.length;
    const inTail = Math.max(offset, TAIL);
    if (region !== 9) data.set(this.#bytes(region).subarray(offset, end));
    else if (inTail < end) data.set(this.#tail.subarray(inTail - TAIL, end - TAIL), inTail - offset);
  }

  write(region: number, offset: number, data: Uint8Array): void {
    if (region === 4) fail(offset);
    if (region !== 9) this.#bytes(region).set(data, offset);
    else if (offset >= TAIL) this.#tail.set(data, offset - TAIL);
  }

  ioevent(region: number, { offset, value }: Ioeventfd): void {
    this.#log.push(`ioevent ${region} ${offset} ${value ?? "any"}`);
  }

  *reset(): Steps {
    this.#log.push("reset begins");
    yield* pause(200);
    this.#plain.fill(0);
    this.#log.push("reset ends");
  }

  dmaMapped({ address, size }: DmaRange): void {
    if (address === 0xbad000n) throw new VfioError("EPERM", "not there");
    this.#log.push(`map ${address.toString(16)} ${size.toString(16)}`);
  }

  dmaUnmapped({ address }: DmaRange): void {
    this.#log.push(`unmap ${address.toString(16)}`);
  }

  do(command: TestCommand): unknown {
    switch (command.do) {
      case "trigger":
        return this.#client?.trigger(command.index, command.subindex);
      case "intx":
        return this.#client?.setIntx(command.asserted);
      case "dma":
        this.#result = null;
        this.#client?.start(this.#dma(this.#client, command));
        return this.#result;
      case "result":
        return this.#result;
      case "log":
        return this.#log.splice(0);
      case "fail to open":
        this.#failsToOpen = true;
        return undefined;
      case "memory":
        return this.#mapping.bytes[command.offset];
    }
  }

  dispose(): void {
    this.#mapping.unmap();
    this.#memfd.close();
  }

  #bytes(region: number): Uint8Array {
    return region === 2 ? this.#mapping.bytes : this.#plain;
  }

  *#dma(client: DeviceClient, { access, address, data }: Extract<TestCommand, { do: "dma" }>): Steps {
    let result: unknown = "cancelled";
    try {
      if (access === "read") yield* client.dma.read(address, data);
      else yield* client.dma.write(address, data);
      result = access === "read" ? data : "done";
    } catch (error) {
      result = error instanceof VfioError ? error.code : String(error);
    } finally {
      this.#result = result;
    }
  }
}

function fail(offset: number): never {
  if (offset === 0) throw new VfioError("EPERM", "refused");
  if (offset === 4) throw new TypeError("a bug in the device");
  throw "not even an error";
}

/** One device for each socket; messages are `[index, command]`. */
export function createDevices(data: unknown): Serving {
  const devices = (data as string[]).map((socket) => ({ socket, device: new TestDevice() }));
  return {
    devices,
    onMessage: (message) => {
      const [index, command] = message as [number, TestCommand];
      return devices[index]?.device.do(command);
    },
    close: () => {
      for (const { device } of devices) device.dispose();
    },
  };
}
