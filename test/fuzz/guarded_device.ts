import type { Serving } from "../../src/vfio-user/index.js";
import type { TestCommand } from "../vfio_user/test_device.js";
import { createDevices as createTestDevices, TestDevice } from "../vfio_user/test_device.js";
import { collectGarbage } from "./collect_garbage.js";

let complaint: string | undefined;

/** A test device that notes every access which should not have reached it. */
class GuardedDevice extends TestDevice {
  override read(region: number, offset: number, data: Uint8Array): void {
    this.#check(region, offset, data, "readable");
    super.read(region, offset, data);
  }

  override write(region: number, offset: number, data: Uint8Array): void {
    this.#check(region, offset, data, "writable");
    super.write(region, offset, data);
  }

  #check(index: number, offset: number, data: Uint8Array, right: "readable" | "writable"): void {
    const region = this.regions[index];
    const inside = region !== undefined && offset >= 0 && data.length > 0 && offset + data.length <= region.size;
    if (!inside || !region[right]) complaint ??= `access of ${data.length} bytes at ${offset} in region ${index}`;
  }
}

/** Numbers become DMA of some size at some address; "complaints" asks what was noted. */
export function createDevices(data: unknown): Serving {
  const { devices, close } = createTestDevices([]);
  const device = new GuardedDevice();
  const onMessage = (message: unknown): unknown => {
    if (message === "complaints") return complaint;
    if (message === "collect garbage") return collectGarbage();
    const [kind = 0, number = 0] = message as number[];
    const address = BigInt(number % 5) * 4096n;
    const command: TestCommand =
      kind % 3 === 0
        ? { do: "trigger", index: number % 4, subindex: kind % 70 }
        : { do: "dma", access: kind % 2 ? "read" : "write", address, data: new Uint8Array(number % 70_000) };
    return device.do(command);
  };
  const socket = (data as string[])[0] ?? "";
  return { devices: [...devices, { socket, device }], onMessage, close: () => [close?.(), device.dispose()] };
}
