import { FencedDevice } from "../../fence/fenced_device.js";
import type { Fences } from "../../fence/fences.js";
import type { FenceEvent } from "../../fence/progress.js";
import { HOST, ownersOf } from "../../isolation/assignment.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { type Container, ContainerMember } from "../../vfio/container.js";
import type { VfioDevice } from "../../vfio/index.js";
import { BridgeDevice } from "../../virtual/bridge_device.js";
import { GpuDevice } from "../../virtual/gpu_device.js";
import type { VirtualMachine } from "../../virtual/virtual_machine.js";
import type { ServingData, ServingEvent } from "./messages.js";
import { socketPath } from "./socket_names.js";

/** A function and who is to have it. */
export interface OwnedFunction {
  address: PciAddress;
  kind: "gpu" | "bridge";
  /** An assignment's name. */
  owner: string;
}

/** A function as it is served to its owner. */
export interface ServedFunction extends OwnedFunction {
  /** Absolute path. */
  socket: string;
  /** What the server serves: fenced where it is a GPU, and sharing its owner's DMA space. */
  device: VfioDevice;
  warnings: readonly string[];
}

/** The functions that are served for these assignments: their GPUs, each followed by its bridges. */
export function ownedFunctions(machine: Machine, assignments: readonly Assignment[]): OwnedFunction[] {
  const ownerOf = ownersOf(machine, assignments);
  const known = new Set(machine.bridges.map(({ address }) => address));
  const all = machine.gpus.flatMap((gpu): OwnedFunction[] => [
    { address: gpu.address, kind: "gpu", owner: ownerOf(gpu.address) },
    ...gpu.bridges
      .filter((address) => known.has(address))
      .map((address): OwnedFunction => ({ address, kind: "bridge", owner: ownerOf(address) })),
  ]);
  const addresses = new Set<PciAddress>();
  return all.filter(({ address, owner }) => {
    const first = !addresses.has(address);
    addresses.add(address);
    return first && owner !== HOST;
  });
}

/** What served functions are made of, whoever has them. */
export class Hardware {
  readonly gpus = new Map<PciAddress, GpuDevice>();
  readonly #bridges = new Map<PciAddress, BridgeDevice>();

  /**
   * Makes a device of every GPU and bridge, at once: GPUs get their memory, by which BAR1's size goes, before they are
   * fenced.
   */
  constructor(
    readonly machine: VirtualMachine,
    readonly fences: Fences,
    readonly data: ServingData,
    readonly tell: (event: ServingEvent) => void,
  ) {
    try {
      this.#makeDevices();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** What is served of a function to its owner. Touches nothing. */
  serve(owned: OwnedFunction, container: Container): ServedFunction {
    const { address, kind } = owned;
    const inner = kind === "gpu" ? this.gpus.get(address) : this.#bridges.get(address);
    if (inner === undefined) throw new Error(`no device was made for ${address}`);
    const { warnings } = inner;
    const device = new ContainerMember(kind === "gpu" ? this.#fenced(inner, address) : inner, container);
    return { ...owned, device, warnings, socket: socketPath(this.machine.machine, this.data.socketDir, address) };
  }

  dispose(): void {
    for (const bridge of this.#bridges.values()) bridge.dispose();
    for (const gpu of this.gpus.values()) gpu.dispose();
  }

  #fenced(gpu: VfioDevice, address: PciAddress): VfioDevice {
    const onEvent = (event: FenceEvent) => this.tell({ kind: "fence", event });
    return new FencedDevice(gpu, this.fences.of(address), { pageSize: this.data.pageSize, onEvent });
  }

  #makeDevices(): void {
    const { machine, data } = this;
    const { gpuMemory: memorySize, pageSize, ramAsBar } = data;
    const onUnmodelled = (what: string) => this.tell({ kind: "unmodelled", what });
    for (const { address, bridges } of machine.machine.gpus) {
      const gpu = new GpuDevice(machine, address, { memorySize, pageSize, onUnmodelled });
      this.gpus.set(address, gpu);
      for (const [index, bridge] of bridges.entries()) {
        if (this.#bridges.has(bridge) || !machine.machine.bridges.some((each) => each.address === bridge)) continue;
        const ram = ramAsBar && index === 0 ? gpu.coherentMemory : undefined;
        this.#bridges.set(bridge, new BridgeDevice(machine, bridge, { pageSize, ...(ram && { ram }) }));
      }
    }
  }
}
