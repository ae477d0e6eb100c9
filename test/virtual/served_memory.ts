import { builtinMachine } from "../../src/machine/builtin.js";
import type { Serving } from "../../src/vfio-user/index.js";
import { BridgeDevice } from "../../src/virtual/bridge_device.js";
import { GpuDevice } from "../../src/virtual/gpu_device.js";
import { VirtualMachine } from "../../src/virtual/virtual_machine.js";

export interface ServedMemory {
  /** Sockets of a Sequoia's GPU0 and of its first bridge. */
  gpu: string;
  bridge: string;
  /** Bytes. */
  memorySize: number;
}

/** A GPU, with no fence around it, and the bridge that shows its memory too. */
export function createDevices(data: unknown): Serving {
  const { gpu, bridge, memorySize } = data as ServedMemory;
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const gpuDevice = new GpuDevice(machine, "0004:04:00.0", { memorySize });
  const bridgeDevice = new BridgeDevice(machine, "0006:00:00.0", { ram: gpuDevice.memoryClients });
  return {
    devices: [
      { socket: gpu, device: gpuDevice },
      { socket: bridge, device: bridgeDevice },
    ],
    close: () => {
      bridgeDevice.dispose();
      gpuDevice.dispose();
    },
  };
}
