import type { PciAddress } from "../pci/address.js";
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_BAR1_REGION_INDEX,
  VFIO_PCI_BAR3_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
} from "../vfio/constants.js";
import type { DeviceClient, VfioDevice, VfioIrq, VfioRegion } from "../vfio/device.js";
import { VfioError } from "../vfio/error.js";
import type { Steps } from "../vfio/steps.js";
import { type CoherentRamRegion, coherentRamRegion } from "./coherent_region.js";
import { GpuInterrupts } from "./gpu_interrupts.js";
import { GpuMemory } from "./gpu_memory.js";
import { MemoryClients } from "./memory_clients.js";
import { PRI_DECODE_ERROR } from "./pri_error.js";
import { UnmodelledAccesses } from "./unmodelled_accesses.js";
import type { VirtualGpu } from "./virtual_gpu.js";
import type { VirtualMachine } from "./virtual_machine.js";

/** The NVLink2 RAM region comes after the regions with fixed meanings. */
const RAM_REGION_INDEX = VFIO_PCI_NUM_REGIONS;

export interface GpuDeviceOptions {
  /** Bytes of the GPU's memory, a power of two; 16 GiB when absent. */
  memorySize?: number;
  /** The host's, in bytes; 4096 when absent. */
  pageSize?: number;
  /** Told of accesses to what is not modelled: each register once, and not without end. */
  onUnmodelled?: (what: string) => void;
}

/**
 * A GPU of a virtual machine as a hypervisor finds it on its host: nothing is hidden or added, its reset is a secondary
 * bus reset, and after that all of its links may come up. The hypervisor routes accesses to its BARs, so these answer
 * wherever they are, as soon as memory decoding is on and, for the registers, BAR0 is not 0.
 */
export class GpuDevice implements VfioDevice {
  readonly memory: GpuMemory;
  /** Who has the memory: the client of the bridge that shows it has it too. */
  readonly memoryClients: MemoryClients;
  readonly regions: readonly (VfioRegion | undefined)[];
  readonly irqs: readonly (VfioIrq | undefined)[];
  /** What the device goes without, one line each, without its name. */
  readonly warnings: readonly string[];
  readonly #machine: VirtualMachine;
  readonly #address: PciAddress;
  readonly #gpu: VirtualGpu;
  readonly #interrupts: GpuInterrupts;
  readonly #unmodelled: UnmodelledAccesses;
  readonly #ram: CoherentRamRegion | undefined;

  /**
   * Gives the GPU its memory, so there is one device for each.
   * @throws {VirtualError} when the machine has no such GPU; {@link VfioError} EBUSY when the GPU has a device already,
   * EINVAL for a memory size that cannot be
   */
  constructor(machine: VirtualMachine, address: PciAddress, options: GpuDeviceOptions = {}) {
    const gpu = machine.gpu(address);
    if (gpu.memory !== undefined) throw new VfioError("EBUSY", `${gpu.gpu.name} has a device already`);
    this.#machine = machine;
    this.#address = address;
    this.#gpu = gpu;
    this.memory = new GpuMemory(`linkfence ${gpu.gpu.name}`, options.memorySize);
    this.memoryClients = new MemoryClients(this.memory);
    gpu.memory = this.memory;
    this.#unmodelled = new UnmodelledAccesses((what) => options.onUnmodelled?.(`${gpu.gpu.name}: ${what}`));
    this.#interrupts = new GpuInterrupts(gpu);
    gpu.listener = {
      interruptsChanged: (rearmed) => this.#interrupts.update(rearmed),
      unmodelled: (access, offset) => this.#unmodelled.note(access, offset),
    };
    const ram = this.#findRam(options.pageSize);
    this.#ram = ram.region;
    this.warnings = ram.warnings;
    this.regions = this.#describeRegions();
    this.irqs = describeIrqs();
  }

  /** Those who have the memory, where its machine's CPUs address it: only such memory is a bridge's to show. */
  get coherentMemory(): MemoryClients | undefined {
    return this.#ram === undefined ? undefined : this.memoryClients;
  }

  read(region: number, offset: number, data: Uint8Array): void {
    switch (region) {
      case VFIO_PCI_BAR0_REGION_INDEX:
        this.#readRegisters(offset, data);
        break;
      case VFIO_PCI_BAR1_REGION_INDEX:
        if (this.#gpu.decodesMemory) this.memory.read(offset, data);
        else data.fill(0xff);
        break;
      case VFIO_PCI_BAR3_REGION_INDEX:
        this.#readBar3(offset, data);
        break;
      case VFIO_PCI_CONFIG_REGION_INDEX:
        this.#gpu.readConfigBytes(offset, data);
        break;
      default:
        this.#ramAt(region).read(offset, data);
    }
  }

  write(region: number, offset: number, data: Uint8Array): void {
    switch (region) {
      case VFIO_PCI_BAR0_REGION_INDEX:
        this.#writeRegisters(offset, data);
        break;
      case VFIO_PCI_BAR1_REGION_INDEX:
        if (this.#gpu.decodesMemory) this.memory.write(offset, data);
        break;
      case VFIO_PCI_BAR3_REGION_INDEX:
        if (this.#gpu.decodesMemory) this.#unmodelled.note("write", "BAR3");
        break;
      case VFIO_PCI_CONFIG_REGION_INDEX:
        this.#gpu.writeConfigBytes(offset, data);
        break;
      default:
        this.#ramAt(region).write(offset, data);
    }
  }

  /** A secondary bus reset through firmware, which takes as long as a real one. */
  reset(): Steps {
    return this.#machine.resetSteps(this.#address, "firmware");
  }

  /** Waits until nobody of the memory's last owner is there any more. @throws {VfioError} EBUSY while somebody is */
  beforeOpen(): Steps {
    return this.memoryClients.beforeOpen();
  }

  /** @throws {VfioError} EBUSY as {@link beforeOpen} */
  open(client: DeviceClient): void {
    this.memoryClients.open("gpu");
    this.#interrupts.attach(client);
  }

  close(): void {
    this.#interrupts.detach();
    this.#ram?.release();
    this.memoryClients.close("gpu");
  }

  /** Nothing that a client left in the memory is there for the next, and nothing that it still maps is the next one's. */
  afterClose(): Steps {
    return this.memoryClients.afterClose();
  }

  mmap(region: number, offset: number, length: number): { fd: number; offset: number } {
    if (region !== VFIO_PCI_BAR1_REGION_INDEX) return this.#ramAt(region).mmap(offset, length);
    if (offset < 0 || length <= 0 || offset + length > this.memory.size) {
      throw new VfioError("EINVAL", `mmap of ${length} bytes at ${offset} of BAR1, which has ${this.memory.size}`);
    }
    return { fd: this.memory.fd, offset };
  }

  /** Takes the GPU's memory away and gives it back to the host. The device is not used any more. */
  dispose(): void {
    this.#interrupts.detach();
    this.#gpu.listener = undefined;
    this.#gpu.memory = undefined;
    this.memory.close();
  }

  #readRegisters(offset: number, data: Uint8Array): void {
    const { registers } = this.#gpu;
    if (registers === undefined) {
      data.fill(0xff);
    } else if (data.length === 4 && (offset & 3) === 0) {
      const value = registers.read(offset);
      data[0] = value;
      data[1] = value >>> 8;
      data[2] = value >>> 16;
      data[3] = value >>> 24;
    } else {
      registers.readBytes(offset, data);
    }
  }

  #writeRegisters(offset: number, data: Uint8Array): void {
    this.#gpu.registers?.writeBytes(offset, data);
  }

  #readBar3(offset: number, data: Uint8Array): void {
    if (!this.#gpu.decodesMemory) {
      data.fill(0xff);
      return;
    }
    this.#unmodelled.note("read", "BAR3");
    for (let i = 0; i < data.length; i++) data[i] = PRI_DECODE_ERROR >>> (8 * ((offset + i) & 3));
  }

  #ramAt(region: number): CoherentRamRegion {
    if (region === RAM_REGION_INDEX && this.#ram !== undefined) return this.#ram;
    throw new VfioError("EINVAL", `${this.#gpu.gpu.name} has no region ${region} for this`);
  }

  #findRam(pageSize: number | undefined): { region: CoherentRamRegion | undefined; warnings: string[] } {
    try {
      return { region: coherentRamRegion(this.#machine.machine, this.#address, this.memory, pageSize), warnings: [] };
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return { region: undefined, warnings: [`no NVLink2 RAM region: ${error.message}; works as over NVLink1`] };
    }
  }

  #describeRegions(): readonly (VfioRegion | undefined)[] {
    const { memory } = this;
    const open = { readable: true, writable: true };
    const bar = (index: number): VfioRegion | undefined => {
      const size = this.#gpu.barSize(index);
      return size === 0 ? undefined : { ...open, size };
    };
    const regions = new Array<VfioRegion | undefined>(VFIO_PCI_NUM_REGIONS).fill(undefined);
    regions[VFIO_PCI_BAR0_REGION_INDEX] = bar(VFIO_PCI_BAR0_REGION_INDEX);
    regions[VFIO_PCI_BAR1_REGION_INDEX] = bar(VFIO_PCI_BAR1_REGION_INDEX) && {
      ...open,
      size: memory.size,
      // The file is another one for each client.
      get mapping() {
        return { fd: memory.fd, offset: 0 };
      },
    };
    regions[VFIO_PCI_BAR3_REGION_INDEX] = bar(VFIO_PCI_BAR3_REGION_INDEX);
    regions[VFIO_PCI_CONFIG_REGION_INDEX] = { ...open, size: this.#gpu.configSize };
    if (this.#ram !== undefined) regions[RAM_REGION_INDEX] = this.#ram.region;
    return regions;
  }
}

/**
 * As vfio-pci describes them. It offers the one for errors with every Express function, and hypervisors warn where it is
 * missing; nothing here raises it. Nobody is ever asked to let go, so there is no interrupt for that.
 */
function describeIrqs(): (VfioIrq | undefined)[] {
  const irqs = new Array<VfioIrq | undefined>(VFIO_PCI_NUM_IRQS).fill(undefined);
  const intx = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
  irqs[VFIO_PCI_INTX_IRQ_INDEX] = { count: 1, flags: intx };
  irqs[VFIO_PCI_MSI_IRQ_INDEX] = { count: 1, flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE };
  irqs[VFIO_PCI_ERR_IRQ_INDEX] = { count: 1, flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE };
  return irqs;
}
