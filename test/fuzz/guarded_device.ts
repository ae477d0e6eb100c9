import { VfioError } from "../../src/vfio/index.js";
import type { Serving } from "../../src/vfio-user/index.js";
import { createDevices as createTestDevices, type TestCommand, TestDevice } from "../vfio_user/test_device.js";
import { collectGarbage } from "./collect_garbage.js";

/** The region that the test device fails in. */
const FAILING = 4;

let complaint: string | undefined;

/** A test device that notes every access which should not have reached it, and fails only as devices may. */
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
    const inside =
      region !== undefined &&
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      data.length > 0 &&
      offset + data.length <= region.size;
    if (!inside || !region[right]) complaint ??= `access of ${data.length} bytes at ${offset} in region ${index}`;
    if (index === FAILING) throw new VfioError("EPERM", "refused");
  }
}

/** The guarded device and a bystander's. Numbers become interrupts or DMA; "complaints" asks what was noted. */
export function createDevices(data: unknown): Serving {
  const [attacked = "", bystander = ""] = data as string[];
  const { devices, close } = createTestDevices([bystander]);
  const device = new GuardedDevice();
  const onMessage = (message: unknown): unknown => {
    // What happened is of no interest here, and must not fill memory.
    device.do({ do: "log" });
    if (message === "complaints") return complaint;
    if (message === "collect garbage") return collectGarbage();
    const [kind = 0, number = 0] = message as number[];
    const address = BigInt(number % 6) * 4096n + (kind % 7 === 0 ? 3n : 0n);
    const length = 1 + (number % ([2_000_000, 9000, 64, 64, 64][kind % 5] ?? 1));
    const commands: TestCommand[] = [
      { do: "trigger", index: number % 4, subindex: kind % 70 },
      { do: "intx", asserted: number % 2 === 0 },
      { do: "dma", access: "read", address, data: new Uint8Array(length) },
      { do: "dma", access: "write", address, data: new Uint8Array(length) },
    ];
    const command = commands[kind % commands.length];
    return command && device.do(command);
  };
  return { devices: [{ socket: attacked, device }, ...devices], onMessage, close: () => [close?.(), device.dispose()] };
}
