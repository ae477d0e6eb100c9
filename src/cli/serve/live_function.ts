import type { GpuPort } from "../../fence/gpu_port.js";
import { vfioPort } from "../../fence/vfio_port.js";
import { LivePort } from "../../host/live_port.js";
import type { KernelContainer } from "../../host/vfio/kernel_container.js";
import type { KernelDevice } from "../../host/vfio/kernel_device.js";
import { HOST } from "../../isolation/assignment.js";
import type { PciAddress } from "../../pci/address.js";
import { type Steps, VfioError } from "../../vfio/index.js";

/** Where an owner's functions are opened. */
export interface OwnersContainer {
  container: KernelContainer;
  onOpen(device: KernelDevice): void;
}

/** A function that is open for an owner. */
interface Held {
  owner: string;
  device: KernelDevice;
  container: KernelContainer;
}

/**
 * One function of this host: open for its owner by the kernel's VFIO, or the host's. Opening and closing reset it, so that a
 * GPU changes hands only when its fence resets it: behind its far ends, and cut again at once.
 */
export class LiveFunction {
  /** Whose it is to be: an assignment's name, or the host. */
  wanted: string = HOST;
  #held: Held | undefined;
  #port: { of: KernelDevice; port: GpuPort } | undefined;
  readonly #hostPort: LivePort;

  constructor(
    readonly address: PciAddress,
    private readonly containerOf: (owner: string) => OwnersContainer,
  ) {
    this.#hostPort = new LivePort(address, { write: true });
  }

  /** The device, while it is open. */
  get device(): KernelDevice | undefined {
    return this.#held?.device;
  }

  /** Opens it for whom it is to be, or closes it when that is the host. Nothing happens when it is so already. */
  *move(): Steps {
    if (this.#held?.owner === this.wanted || (this.#held === undefined && this.wanted === HOST)) return;
    yield* this.shut();
    if (this.wanted === HOST) return;
    const owner = this.wanted;
    const { container, onOpen } = this.containerOf(owner);
    const device = yield* container.open(this.address);
    this.#held = { owner, device, container };
    onOpen(device);
  }

  /** Closes it, which resets it. */
  *shut(): Steps {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) yield* held.container.release(held.device);
  }

  /**
   * Resets it by the bus where that hits nothing of others, for nothing else clears what cuts links; else as the kernel
   * resets this function alone.
   * @throws {VfioError} ENOTSUP when it can be reset in neither way
   */
  *reset(): Steps {
    const { device } = this;
    if (device === undefined) throw new VfioError("ENODEV", `${this.address} is not open`);
    const hitsOthers = affected(device)?.some((address) => address !== this.address) ?? true;
    if (!hitsOthers) yield* device.hotReset();
    else if (device.reset !== undefined) yield* device.reset();
    else throw new VfioError("ENOTSUP", `the kernel cannot reset ${this.address} alone`);
  }

  /** It as its fence sees it: through VFIO while it is open, else by its files in sysfs. */
  get port(): GpuPort {
    const now = () => this.#openPort() ?? this.#hostPort;
    return {
      readConfig: (offset, size) => now().readConfig(offset, size),
      writeConfig: (offset, size, value) => now().writeConfig(offset, size, value),
      readBar0: (offset) => now().readBar0(offset),
      writeBar0: (offset, value) => now().writeBar0(offset, value),
      secondaryBusReset: () => this.#secondaryBusReset(),
    };
  }

  *#secondaryBusReset(): Steps {
    yield* this.move();
    if (this.#held === undefined) yield* this.#hostPort.secondaryBusReset();
    else yield* this.reset();
  }

  #openPort(): GpuPort | undefined {
    const { device } = this;
    if (device === undefined) return undefined;
    if (this.#port?.of !== device) this.#port = { of: device, port: vfioPort(device) };
    return this.#port.port;
  }
}

/** What a hot reset would reset; undefined when the kernel does not say, because it cannot. */
function affected(device: KernelDevice): PciAddress[] | undefined {
  try {
    return device.affectedByHotReset().map(({ address }) => address);
  } catch (error) {
    if (error instanceof VfioError) return undefined;
    throw error;
  }
}
