import { textBytes, u32Bytes } from "../../devicetree/property.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";
import { splitAddress } from "../../pci/address.js";
import { MachineError } from "../error.js";
import { WITHERSPOON_GPU_ADDRESSES } from "../witherspoon.js";
import type { FirmwareBoard, GpuSlot, Npu } from "./board.js";
import type { Grower } from "./grower.js";
import { growEndpoint, growHostBridge, growPort, ROOT_PORT, SWITCH_PORT, V100_SXM2 } from "./pci_nodes.js";

/**
 * Makes the nodes of the GPUs that an NPU's links name, with the host bridge, root port and switch ports above them.
 * A tree from before the probe does not tell which slots are taken: each labelled one is given a V100. A slot behind a
 * host bridge that is disabled gets none, for the firmware would not find it.
 * @param socket place of the NPU among the machine's NPUs, from 0
 * @param locationCode prefix of the slots' location codes
 * @returns the GPUs' nodes by slot label
 */
export function growGpus(
  grower: Grower,
  board: FirmwareBoard,
  npu: Npu,
  socket: number,
  locationCode: string | undefined,
): Map<string, DeviceTreeNode> {
  const gpus = new Map<string, DeviceTreeNode>();
  for (const { label } of npu.links) {
    const slot = label === undefined ? undefined : board.slots.get(label);
    if (label === undefined || slot === undefined || gpus.has(label)) continue;
    const { chipId, hostBridge } = slot;
    const unit = board.hostBridges.find((bridge) => bridge.chipId === chipId && bridge.index === hostBridge);
    if (unit === undefined) continue;
    const upstream = growSwitch(grower, growHostBridge(grower, unit));
    const port = growPort(
      grower,
      upstream,
      SWITCH_PORT,
      { bus: 2, device: slot.port, function: 0 },
      {
        "ibm,slot-label": textBytes(label),
        "ibm,slot-location-code": textBytes(locationCode === undefined ? label : `${locationCode}-${label}`),
      },
    );
    const gpu = growEndpoint(grower, port, V100_SXM2, { bus: gpuBus(slot, socket), device: 0, function: 0 });
    gpu.properties.set("ibm,loc-code", textBytes(label));
    gpus.set(label, gpu);
  }
  return gpus;
}

/** Root port on bus 0, the switch's upstream port on bus 1; its downstream ports follow on bus 2. */
function growSwitch(grower: Grower, hostBridge: DeviceTreeNode): DeviceTreeNode {
  const rootPort = growPort(grower, hostBridge, ROOT_PORT, { bus: 0, device: 0, function: 0 });
  return growPort(grower, rootPort, SWITCH_PORT, { bus: 1, device: 0, function: 0 });
}

/**
 * Bus number of a GPU as seen on AC922. The first socket's begin at 4 and not at 3, since a device that the tree does
 * not show hangs at a lower port of its switch.
 */
function gpuBus({ position }: GpuSlot, socket: number): number {
  const address = WITHERSPOON_GPU_ADDRESSES[socket]?.[position];
  if (address === undefined) throw new MachineError(`no GPU slot ${position} on socket ${socket} is known of an AC922`);
  return splitAddress(address).bus;
}

/** Adds a bridge to the GPU's `ibm,npu`. */
export function addBridge(gpu: DeviceTreeNode, phandle: number): void {
  const bridges = gpu.properties.get("ibm,npu") ?? new Uint8Array();
  gpu.properties.set("ibm,npu", Buffer.concat([bridges, u32Bytes(phandle)]));
}
