import { builtinMachine } from "../../../src/machine/builtin.js";
import type { PciAddress } from "../../../src/pci/address.js";
import type { Serving } from "../../../src/vfio-user/index.js";
import { GpuDevice } from "../../../src/virtual/gpu_device.js";
import { VirtualMachine } from "../../../src/virtual/virtual_machine.js";

/** Sockets by the address of the GPU that is to be served there. */
export type UnfencedSockets = Readonly<Record<PciAddress, string>>;

/** GPUs of one virtual Sequoia as they are, with no fence around them: what a check must not pass with. */
export function createDevices(data: unknown): Serving {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const devices = Object.entries(data as UnfencedSockets).map(([address, socket]) => {
    return { socket, device: new GpuDevice(machine, address) };
  });
  return {
    devices,
    close: () => {
      for (const { device } of devices) device.dispose();
    },
  };
}
