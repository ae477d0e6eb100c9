import { FencedDevice } from "../../fence/fenced_device.js";
import { Fences } from "../../fence/fences.js";
import type { GpuPort } from "../../fence/gpu_port.js";
import type { FenceEvent } from "../../fence/progress.js";
import type { Plan } from "../../isolation/plan.js";
import type { Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { Container, ContainerMember } from "../../vfio/container.js";
import type { Steps, VfioDevice } from "../../vfio/index.js";
import { BridgeDevice } from "../../virtual/bridge_device.js";
import { GpuDevice } from "../../virtual/gpu_device.js";
import { VirtualMachine } from "../../virtual/virtual_machine.js";
import type { Hardware, OwnedFunction, ServedFunction } from "./hardware.js";
import type { ServingEvent, VirtualServingData } from "./messages.js";
import { socketPath } from "./socket_names.js";

/** A virtual machine, whose functions are models with memory of their own. */
export class VirtualHardware implements Hardware {
  readonly fences: Fences;
  readonly #machine: VirtualMachine;
  readonly #data: VirtualServingData;
  readonly #tell: (event: ServingEvent) => void;
  readonly #gpus = new Map<PciAddress, GpuDevice>();
  readonly #bridges = new Map<PciAddress, BridgeDevice>();
  readonly #containers = new Map<string, Container>();

  /**
   * Makes the machine, and a device of every GPU and bridge, at once: GPUs get their memory, by which BAR1's size goes,
   * before they are fenced.
   * @param machine there already, and without devices; made now when absent
   */
  constructor(
    plan: Plan,
    data: VirtualServingData,
    tell: (event: ServingEvent) => void,
    machine = new VirtualMachine(data.machine, { resetClearsMemory: data.resetClearsMemory }),
  ) {
    this.#machine = machine;
    this.#data = data;
    this.#tell = tell;
    this.fences = new Fences(plan, (address) => portOf(this.#machine, address), {
      onEvent: (event) => tell({ kind: "fence", event }),
    });
    try {
      this.#makeDevices();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  current(machine: Machine): Machine {
    return machine;
  }

  *begin(): Steps {}

  follow(owned: readonly OwnedFunction[]): void {
    const owners = new Set(owned.map(({ owner }) => owner));
    for (const name of this.#containers.keys()) if (!owners.has(name)) this.#containers.delete(name);
  }

  *handOver(): Steps {}

  *clear(address: PciAddress): Steps {
    const device = this.#gpus.get(address);
    if (device !== undefined) yield* device.afterClose();
  }

  serve(owned: OwnedFunction): ServedFunction {
    const { address, kind, owner } = owned;
    const inner = kind === "gpu" ? this.#gpus.get(address) : this.#bridges.get(address);
    if (inner === undefined) throw new Error(`no device was made for ${address}`);
    const { warnings } = inner;
    const container = this.#containers.get(owner) ?? new Container();
    this.#containers.set(owner, container);
    const device = new ContainerMember(kind === "gpu" ? this.#fenced(inner, address) : inner, container);
    return { ...owned, device, warnings, socket: socketPath(this.#machine.machine, this.#data.socketDir, address) };
  }

  pinnedBytes(owner: string): bigint {
    return this.#containers.get(owner)?.pinnedBytes ?? 0n;
  }

  close(): void {
    for (const bridge of this.#bridges.values()) bridge.dispose();
    for (const gpu of this.#gpus.values()) gpu.dispose();
  }

  #fenced(gpu: VfioDevice, address: PciAddress): VfioDevice {
    const onEvent = (event: FenceEvent) => this.#tell({ kind: "fence", event });
    return new FencedDevice(gpu, this.fences.of(address), { pageSize: this.#data.pageSize, onEvent });
  }

  #makeDevices(): void {
    const machine = this.#machine;
    const { gpuMemory: memorySize, pageSize, ramAsBar } = this.#data;
    const onUnmodelled = (what: string) => this.#tell({ kind: "unmodelled", what });
    for (const { address, bridges } of machine.machine.gpus) {
      const gpu = new GpuDevice(machine, address, { memorySize, pageSize, onUnmodelled });
      this.#gpus.set(address, gpu);
      for (const [index, bridge] of bridges.entries()) {
        if (this.#bridges.has(bridge) || !machine.machine.bridges.some((each) => each.address === bridge)) continue;
        const ram = ramAsBar && index === 0 ? gpu.coherentMemory : undefined;
        this.#bridges.set(bridge, new BridgeDevice(machine, bridge, { pageSize, ...(ram && { ram }) }));
      }
    }
  }
}

/**
 * A GPU's port for its fence. Its reset takes the time of a real one, and it is the raw one at the port above: that the
 * NPU's links are held meanwhile is the fence's doing.
 */
function portOf(machine: VirtualMachine, address: PciAddress): GpuPort {
  return { ...machine.port(address), secondaryBusReset: () => machine.resetSteps(address, "port") };
}
