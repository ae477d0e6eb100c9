import { builtinMachine } from "../../../src/machine/builtin.js";
import type { PciAddress } from "../../../src/pci/address.js";
import type { Steps } from "../../../src/vfio/index.js";
import type { Serving } from "../../../src/vfio-user/index.js";
import { GpuDevice } from "../../../src/virtual/gpu_device.js";
import { VirtualMachine } from "../../../src/virtual/virtual_machine.js";

/** Sockets by the address that the GPU there has in the built-in machine. */
export type RawSockets = Readonly<Record<PciAddress, string>>;

/** What the harness asks of the hardware, past everything that runs in the guest. `gpu` counts the sockets. */
export type HardwareRequest =
  /** The disable register of each GPU, all ones while it does not answer, and which links are up. */
  | { kind: "masks" }
  /** Sizes of accesses to BAR0 since the last time, with how often each came. */
  | { kind: "access sizes" }
  /** This GPU's next reset is one that it does not come back from; `on: false` brings it back. */
  | { kind: "lost in reset"; gpu: number; on: boolean }
  /** Its first register reads all ones, or what it is. */
  | { kind: "ones"; gpu: number; on: boolean };

export interface Masks {
  masks: number[];
  linksUp: number[][];
}

const MEMORY = 2 ** 28;
const BOOT_0 = 0;
const LINK_DISABLE = 0xa00148;
const ALL_ONES = 0xffffffff;

/** A GPU without any fence, that counts who touches its registers how. */
class CountingDevice extends GpuDevice {
  readonly sizes = new Map<number, number>();
  onReset = () => {};

  override reset(): Steps {
    this.onReset();
    return super.reset();
  }

  override read(region: number, offset: number, data: Uint8Array): void {
    this.#count(region, data.length);
    super.read(region, offset, data);
  }

  override write(region: number, offset: number, data: Uint8Array): void {
    this.#count(region, data.length);
    super.write(region, offset, data);
  }

  #count(region: number, size: number): void {
    if (region === 0) this.sizes.set(size, (this.sizes.get(size) ?? 0) + 1);
  }
}

/** The four GPUs of one virtual carrier as they are: what the guest takes for a host's own. */
export function createDevices(data: unknown): Serving {
  const machine = new VirtualMachine(builtinMachine("c4140"));
  const sockets = Object.entries(data as RawSockets);
  const devices = sockets.map(([address]) => new CountingDevice(machine, address, { memorySize: MEMORY }));
  const gpus = sockets.map(([address]) => machine.gpu(address));
  const answer = (request: HardwareRequest): unknown => {
    switch (request.kind) {
      case "masks": {
        const linksUp = sockets.map(([address]) => machine.linksUp(address));
        return { masks: gpus.map((gpu) => gpu.registers?.read(LINK_DISABLE) ?? ALL_ONES), linksUp } satisfies Masks;
      }
      case "access sizes": {
        const sizes: Record<number, number> = {};
        for (const device of devices) {
          for (const [size, count] of device.sizes) sizes[size] = (sizes[size] ?? 0) + count;
          device.sizes.clear();
        }
        return sizes;
      }
      case "lost in reset": {
        const { gpu: index, on } = request;
        const [gpu, device] = [gpus[index], devices[index]];
        if (gpu === undefined || device === undefined) return null;
        const lose = () => {
          gpu.faults.configUnreadable = true;
        };
        device.onReset = on ? lose : () => {};
        if (!on) gpu.faults.configUnreadable = false;
        return null;
      }
      case "ones": {
        const reads = gpus[request.gpu]?.faults.stuckReads;
        if (request.on) reads?.set(BOOT_0, ALL_ONES);
        else reads?.delete(BOOT_0);
        return null;
      }
    }
  };
  return {
    devices: sockets.map(([, socket], index) => ({ socket, device: devices[index] as CountingDevice })),
    onMessage: (message) => answer(message as HardwareRequest),
    close: () => {
      for (const device of devices) device.dispose();
    },
  };
}
