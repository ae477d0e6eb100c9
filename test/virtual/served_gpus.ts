import { builtinMachine } from "../../src/machine/builtin.js";
import type { Serving } from "../../src/vfio-user/index.js";
import { GpuDevice } from "../../src/virtual/gpu_device.js";
import { VirtualMachine } from "../../src/virtual/virtual_machine.js";

export interface ServedGpus {
  /** By the address of a GPU of a Sequoia, where it is served. */
  sockets: Record<string, string>;
  /** Bytes of memory of each. */
  memorySize: number;
}

/** GPUs of one virtual Sequoia as they are, with no fence around them. */
export function createDevices(data: unknown): Serving {
  const { sockets, memorySize } = data as ServedGpus;
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const devices = Object.entries(sockets).map(([address, socket]) => {
    return { socket, device: new GpuDevice(machine, address, { memorySize }) };
  });
  return {
    devices,
    close: () => {
      for (const { device } of devices) device.dispose();
    },
  };
}
