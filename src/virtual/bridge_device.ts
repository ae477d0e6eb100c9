import type { PciAddress } from "../pci/address.js";
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_BAR4_REGION_INDEX,
  VFIO_PCI_BAR5_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
} from "../vfio/constants.js";
import type { VfioDevice, VfioIrq, VfioRegion } from "../vfio/device.js";
import { VfioError } from "../vfio/error.js";
import type { Steps } from "../vfio/steps.js";
import { type AtsdRegion, atsdRegion } from "./atsd_region.js";
import { deviceMemory } from "./device_memory.js";
import type { MemoryClients } from "./memory_clients.js";
import type { VirtualBridge } from "./virtual_bridge.js";
import type { VirtualMachine } from "./virtual_machine.js";

/** The ATSD region comes after the regions with fixed meanings. */
const ATSD_REGION_INDEX = VFIO_PCI_NUM_REGIONS;

export interface BridgeDeviceOptions {
  /** Its GPU's memory, to show as BAR4 at its real size: for the first of a GPU's bridges. */
  ram?: MemoryClients;
  /** The host's, in bytes; 4096 when absent. */
  pageSize?: number;
}

interface FoundAtsd {
  region: AtsdRegion | undefined;
  warnings: string[];
}

/**
 * An NPU bridge of a virtual machine as a hypervisor finds it on its host. Its link trains by itself, so there is nothing
 * to do for the registers behind its BARs (NTL and GENID): while memory decoding is on they read 0, and writes are lost.
 * Like vfio-pci it begins anew with each client.
 */
export class BridgeDevice implements VfioDevice {
  readonly regions: readonly (VfioRegion | undefined)[];
  readonly irqs: readonly (VfioIrq | undefined)[];
  /** What the device goes without, one line each, without its name. */
  readonly warnings: readonly string[];
  readonly #bridge: VirtualBridge;
  readonly #ram: MemoryClients | undefined;
  readonly #atsd: AtsdRegion | undefined;

  /**
   * @throws {VirtualError} when the machine has no such bridge; {@link OsError} when the host has no memory or descriptors
   * left
   */
  constructor(machine: VirtualMachine, address: PciAddress, options: BridgeDeviceOptions = {}) {
    const { ram, pageSize } = options;
    this.#bridge = machine.bridge(address);
    this.#ram = ram;
    if (ram !== undefined) this.#bridge.addRamBar(ram.memory.size);
    const { region, warnings } = findAtsd(machine, address, pageSize);
    this.#atsd = region;
    this.warnings = warnings;
    this.regions = this.#describeRegions();
    this.irqs = describeIrqs();
  }

  read(region: number, offset: number, data: Uint8Array): void {
    if (region === VFIO_PCI_CONFIG_REGION_INDEX) this.#bridge.readConfigBytes(offset, data);
    else if (region === ATSD_REGION_INDEX) this.#atsdOr(region).read(offset, data);
    else if (!this.#decodesMemory) data.fill(0xff);
    else if (region === VFIO_PCI_BAR4_REGION_INDEX && this.#ram !== undefined) this.#ram.memory.read(offset, data);
    else data.fill(0);
  }

  write(region: number, offset: number, data: Uint8Array): void {
    if (region === VFIO_PCI_CONFIG_REGION_INDEX) this.#writeConfig(offset, data);
    else if (region === ATSD_REGION_INDEX) this.#atsdOr(region).write(offset, data);
    else if (region === VFIO_PCI_BAR4_REGION_INDEX && this.#decodesMemory) this.#ram?.memory.write(offset, data);
  }

  /**
   * A function level reset, which takes no time. It puts the link into reset and leaves it to the driver to train it
   * again; a virtual driver has done so by the end. A link that was in reset before is the platform's to let go: its GPU
   * is being reset, or was left in a state that nobody knows.
   * @throws {VfioError} EIO when the bridge is frozen: that ends only with a reset of the NPU's host bridge
   */
  // biome-ignore lint/correctness/useYield: the function is emulated by firmware
  *reset(): Steps {
    if (this.#bridge.frozen) throw new VfioError("EIO", "the bridge is frozen until its host bridge is reset");
    this.#bridge.config.reset();
  }

  *beforeOpen(): Steps {
    if (this.#ram !== undefined) yield* this.#ram.beforeOpen();
  }

  /** @throws {VfioError} EBUSY while a client of the last owner has the memory */
  open(): void {
    this.#atsd?.renew();
    this.#ram?.open("bridge");
    this.#bridge.config.reset();
  }

  close(): void {
    this.#ram?.close("bridge");
  }

  *afterClose(): Steps {
    if (this.#ram !== undefined) yield* this.#ram.afterClose();
  }

  mmap(region: number, offset: number, length: number): { fd: number; offset: number } {
    if (region === ATSD_REGION_INDEX) return this.#atsdOr(region).mmap(offset, length);
    const memory = region === VFIO_PCI_BAR4_REGION_INDEX ? this.#ram?.memory : undefined;
    if (memory === undefined || !(offset >= 0 && length > 0 && offset + length <= memory.size)) {
      throw new VfioError("EINVAL", `mmap of ${length} bytes at ${offset} of region ${region}`);
    }
    return { fd: memory.fd, offset };
  }

  /** Gives the register page back to the host. The device is not used any more. */
  dispose(): void {
    this.#atsd?.close();
  }

  get #decodesMemory(): boolean {
    return !this.#bridge.frozen && this.#bridge.config.memoryDecoding;
  }

  /** A write of the Initiate bit resets the function, as through vfio-pci: a guest that writes it has no other way. */
  #writeConfig(offset: number, data: Uint8Array): void {
    const wasInReset = this.#bridge.inReset;
    this.#bridge.writeConfigBytes(offset, data);
    if (wasInReset || !this.#bridge.inReset) return;
    this.#bridge.inReset = false;
    this.#bridge.config.reset();
  }

  #atsdOr(region: number): AtsdRegion {
    if (this.#atsd !== undefined) return this.#atsd;
    throw new VfioError("EINVAL", `the bridge has no region ${region}`);
  }

  #describeRegions(): readonly (VfioRegion | undefined)[] {
    const { config } = this.#bridge;
    const open = { readable: true, writable: true };
    const regions = new Array<VfioRegion | undefined>(VFIO_PCI_NUM_REGIONS).fill(undefined);
    for (let index = 0; index <= VFIO_PCI_BAR5_REGION_INDEX; index++) {
      const size = Number(config.barSize(index));
      if (size > 0 && Number.isSafeInteger(size)) regions[index] = { ...open, size };
    }
    if (this.#ram !== undefined) regions[VFIO_PCI_BAR4_REGION_INDEX] = ramBar(this.#ram);
    regions[VFIO_PCI_CONFIG_REGION_INDEX] = { ...open, size: config.size };
    if (this.#atsd !== undefined) regions[ATSD_REGION_INDEX] = this.#atsd.region;
    return regions;
  }
}

function ramBar({ memory }: MemoryClients): VfioRegion {
  return {
    size: memory.size,
    readable: true,
    writable: true,
    // The file is another one for each owner.
    get mapping() {
      return { fd: memory.fd, offset: 0 };
    },
    get deviceMemory() {
      return deviceMemory(memory);
    },
  };
}

function findAtsd({ machine }: VirtualMachine, address: PciAddress, pageSize: number | undefined): FoundAtsd {
  try {
    const region = atsdRegion(machine, address, pageSize);
    const warning = "its link has no ATSD register, so the region has size 0";
    return { region, warnings: region.region.size === 0 ? [warning] : [] };
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return { region: undefined, warnings: [`no ATSD region: ${error.message}`] };
  }
}

/** As vfio-pci describes them: INTA, and the one for errors, as with every Express function. Nothing here raises either. */
function describeIrqs(): (VfioIrq | undefined)[] {
  const irqs = new Array<VfioIrq | undefined>(VFIO_PCI_NUM_IRQS).fill(undefined);
  const flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
  irqs[VFIO_PCI_INTX_IRQ_INDEX] = { count: 1, flags };
  irqs[VFIO_PCI_ERR_IRQ_INDEX] = { count: 1, flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE };
  return irqs;
}
