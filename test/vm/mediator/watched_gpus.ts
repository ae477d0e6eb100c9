import { parseAssignments } from "../../../src/isolation/assignment.js";
import { makePlan } from "../../../src/isolation/plan.js";
import { builtinMachine } from "../../../src/machine/builtin.js";
import type { PciAddress } from "../../../src/pci/address.js";
import {
  type DeviceClient,
  type Steps,
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  type VfioDevice,
  type VfioRegion,
} from "../../../src/vfio/index.js";
import type { Serving } from "../../../src/vfio-user/index.js";
import { GpuDevice } from "../../../src/virtual/gpu_device.js";
import { VirtualMachine } from "../../../src/virtual/virtual_machine.js";

/** What a worker with {@link createDevices} is started with. */
export interface WatchedGpusData {
  /** A built-in machine. */
  machine: string;
  /** Sockets by the names of its GPUs; those without one are not served. */
  sockets: Readonly<Record<string, string>>;
  /** Who is to own what, as it is typed: what links are to be cut. */
  assign: readonly string[];
  /** Bytes of each GPU's memory. */
  memorySize: number;
}

/** What the hardware has seen of one GPU; numbers count up from the last `forget`. */
export interface SeenGpu {
  name: string;
  /** Accesses that only a client makes. */
  clientAccesses: number;
  /** Of these, while a link to another owner was not cut at this GPU's end. */
  uncutAccesses: number;
  /** Of these, while such a link was up: both ends uncut. */
  openAccesses: number;
  /** Moments of any kind in which a link to another owner was up. */
  openMoments: number;
  resets: number;
  /** Longest time from a reset to all links being cut again, in milliseconds. */
  longestUncut: number;
  /** Links that are cut at this end now. */
  cut: number[];
}

export type WatchedGpusRequest =
  | { kind: "seen" }
  | { kind: "forget" }
  /** From now on the GPU answers nothing at all, or again. */
  | { kind: "silence"; gpu: string; silent: boolean }
  /** The GPU does not come back from its next reset; or it is found again. */
  | { kind: "lose"; gpu: string; lost: boolean }
  /** From now on BAR0 of the GPU reads all ones, or again as it is. */
  | { kind: "blind"; gpu: string; blind: boolean };

/** Where clients in the guest touch a GPU and nobody else does: the window through links (`peer_window.ts`). */
const CLIENT_BEGIN = 0xfe0000;

/**
 * GPUs as they are, with no fence around them, which note what is done to them: the hardware's side of a check whose other
 * side runs on the host that has these GPUs. BAR0 is not mapped, so that nothing goes unseen.
 */
export function createDevices(input: unknown): Serving {
  const { machine, sockets, assign, memorySize } = input as WatchedGpusData;
  const hardware = new VirtualMachine(builtinMachine(machine));
  const plan = makePlan(hardware.machine, parseAssignments(hardware.machine, assign), { resetAll: true });
  const gpus = plan.gpus.flatMap(({ name, address, cutLinks }) => {
    const socket = sockets[name];
    if (socket === undefined) return [];
    return [{ socket, device: new WatchedGpu(hardware, name, address, cutLinks, memorySize) }];
  });
  const find = (name: string) => {
    const found = gpus.find(({ device }) => device.name === name);
    if (found === undefined) throw new Error(`no GPU ${name}`);
    return found.device;
  };
  return {
    devices: gpus,
    onMessage: (message) => {
      const request = message as WatchedGpusRequest;
      if (request.kind === "seen") return gpus.map(({ device }) => device.seen());
      if (request.kind === "forget") for (const { device } of gpus) device.forget();
      else if (request.kind === "silence") find(request.gpu).setSilent(request.silent);
      else if (request.kind === "lose") find(request.gpu).setLost(request.lost);
      else find(request.gpu).setBlind(request.blind);
      return undefined;
    },
    close: () => {
      for (const { device } of gpus) device.dispose();
    },
  };
}

class WatchedGpu implements VfioDevice {
  readonly regions: readonly (VfioRegion | undefined)[];
  readonly irqs;
  readonly #device: GpuDevice;
  #clientAccesses = 0;
  #uncutAccesses = 0;
  #openAccesses = 0;
  #openMoments = 0;
  #resets = 0;
  #uncutSince: number | undefined;
  #longestUncut = 0;
  #blind = false;
  #losesItself = false;

  constructor(
    private readonly hardware: VirtualMachine,
    readonly name: string,
    private readonly address: PciAddress,
    private readonly cutLinks: readonly number[],
    memorySize: number,
  ) {
    this.#device = new GpuDevice(hardware, address, { memorySize });
    this.regions = this.#device.regions.map((region, index) => {
      if (index !== VFIO_PCI_BAR0_REGION_INDEX || region === undefined) return region;
      const { mapping: _, ...trapped } = region;
      return trapped;
    });
    this.irqs = this.#device.irqs;
  }

  seen(): SeenGpu {
    const cut = this.hardware
      .gpu(this.address)
      .gpu.links.flatMap(({ number }) => (this.#isCut(number) ? [number] : []));
    return {
      name: this.name,
      clientAccesses: this.#clientAccesses,
      uncutAccesses: this.#uncutAccesses,
      openAccesses: this.#openAccesses,
      openMoments: this.#openMoments,
      resets: this.#resets,
      longestUncut: this.#longestUncut,
      cut,
    };
  }

  forget(): void {
    this.#clientAccesses = 0;
    this.#uncutAccesses = 0;
    this.#openAccesses = 0;
    this.#openMoments = 0;
    this.#resets = 0;
    this.#longestUncut = 0;
  }

  setSilent(silent: boolean): void {
    this.hardware.gpu(this.address).faults.configUnreadable = silent;
  }

  setLost(lost: boolean): void {
    this.#losesItself = lost;
    if (!lost) this.setSilent(false);
  }

  setBlind(blind: boolean): void {
    this.#blind = blind;
  }

  dispose(): void {
    this.#device.dispose();
  }

  read(region: number, offset: number, data: Uint8Array): void {
    this.#look(region, offset);
    this.#device.read(region, offset, data);
    const isConfig = region === VFIO_PCI_CONFIG_REGION_INDEX;
    if (this.#blind && !isConfig) data.fill(0xff);
  }

  write(region: number, offset: number, data: Uint8Array): void {
    this.#look(region, offset);
    this.#device.write(region, offset, data);
    this.#look(VFIO_PCI_CONFIG_REGION_INDEX, 0);
  }

  *reset(): Steps {
    this.#resets++;
    if (this.#losesItself) this.setSilent(true);
    yield* this.#device.reset();
    this.#look(VFIO_PCI_CONFIG_REGION_INDEX, 0);
  }

  open(client: DeviceClient): void {
    this.#device.open(client);
  }

  close(): void {
    this.#device.close();
  }

  afterClose(): Steps {
    return this.#device.afterClose();
  }

  #isCut(link: number): boolean {
    return !this.hardware.gpu(this.address).linkEnabled(link);
  }

  /** Notes how things stand at this moment. */
  #look(region: number, offset: number): void {
    const isOpen = this.cutLinks.some((link) => this.hardware.linkUp(this.address, link));
    const isUncut = !this.cutLinks.every((link) => this.#isCut(link));
    if (isOpen) this.#openMoments++;
    if (isUncut) {
      this.#uncutSince ??= performance.now();
    } else if (this.#uncutSince !== undefined) {
      this.#longestUncut = Math.max(this.#longestUncut, performance.now() - this.#uncutSince);
      this.#uncutSince = undefined;
    }
    if (region !== VFIO_PCI_BAR0_REGION_INDEX || offset < CLIENT_BEGIN) return;
    this.#clientAccesses++;
    if (isUncut) this.#uncutAccesses++;
    if (isOpen) this.#openAccesses++;
  }
}
