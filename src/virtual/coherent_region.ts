import type { CoherentMemory, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM, VFIO_REGION_TYPE_PCI_VENDOR_TYPE } from "../vfio/constants.js";
import type { VfioRegion } from "../vfio/device.js";
import { VfioError } from "../vfio/error.js";
import { deviceMemory } from "./device_memory.js";
import type { GpuMemory } from "./gpu_memory.js";
import { clipped, clippedLength } from "./region_clip.js";

const PCI_VENDOR_NVIDIA = 0x10de;

/**
 * The NVLink2 RAM region of a GPU whose memory its machine's CPUs address: a window over the memory, which is smaller.
 * Its operations are those of Linux 5.12 (drivers/vfio/pci/vfio_pci_nvlink2.c), save that what lies beyond the memory is
 * EIO, where the hardware would stop the machine.
 */
export class CoherentRamRegion {
  readonly region: VfioRegion;
  readonly #memory: GpuMemory;
  #isMapped = false;

  /** @param size of the window in bytes */
  constructor(memory: GpuMemory, size: number, tgt: bigint) {
    this.#memory = memory;
    const areas = [{ offset: 0, size: Math.min(size, memory.size) }];
    this.region = {
      size,
      readable: true,
      writable: true,
      clips: true,
      capabilities: [
        {
          kind: "type",
          type: VFIO_REGION_TYPE_PCI_VENDOR_TYPE + PCI_VENDOR_NVIDIA,
          subtype: VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM,
        },
        { kind: "nvlink2-ssatgt", tgt },
      ],
      // The file is another one for each owner.
      get mapping() {
        return { fd: memory.fd, offset: 0, areas };
      },
      get deviceMemory() {
        return deviceMemory(memory);
      },
    };
  }

  /**
   * Fills `data` from the region, as far as that reaches.
   * @returns how many bytes: by so much a file's position advances
   * @throws {VfioError} EINVAL from the region's end on, EIO for what reaches beyond the memory, with nothing moved
   */
  read(offset: number, data: Uint8Array): number {
    const length = clippedLength(this.region.size, offset, data.length);
    this.#memory.read(offset, clipped(data, length));
    return length;
  }

  /** As {@link read}. */
  write(offset: number, data: Uint8Array): number {
    const length = clippedLength(this.region.size, offset, data.length);
    this.#memory.write(offset, clipped(data, length));
    return length;
  }

  /**
   * Where to map the region: once until {@link release}. A mapping may reach beyond the memory, since hypervisors map the
   * whole window; whoever touches it there gets SIGBUS.
   * @throws {VfioError} EPERM for a second mapping, EINVAL for one that is longer than the region or not inside it
   */
  mmap(offset: number, length: number): { fd: number; offset: number } {
    if (this.#isMapped) throw new VfioError("EPERM", "the NVLink2 RAM region is mapped already");
    const isInside = offset >= 0 && length > 0 && offset + length <= this.region.size;
    if (!isInside || !Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) {
      throw new VfioError("EINVAL", `mmap of ${length} bytes at ${offset} of a region of ${this.region.size} bytes`);
    }
    this.#isMapped = true;
    return { fd: this.#memory.fd, offset };
  }

  /** The mapping is gone, or whoever made it. */
  release(): void {
    this.#isMapped = false;
  }
}

/**
 * The region of this GPU. Whether it has one is up to the platform and not to ids: without it the GPU works as over
 * NVLink1.
 * @param pageSize the host's, in bytes
 * @throws {VfioError} ENODEV for a GPU without an NPU bridge; EINVAL when the machine does not say where its memory is,
 * or the window is empty, not made of pages, or beyond 2^53; EFAULT when its TGT address is not known
 */
export function coherentRamRegion(
  machine: Machine,
  gpu: PciAddress,
  memory: GpuMemory,
  pageSize = 4096,
): CoherentRamRegion {
  const bridges = machine.gpus.find(({ address }) => address === gpu)?.bridges ?? [];
  if (!machine.bridges.some(({ address }) => bridges.includes(address))) {
    throw new VfioError("ENODEV", "no NPU bridge leads to it");
  }
  const window = machine.memory.find((each) => each.gpu === gpu);
  if (window === undefined) throw new VfioError("EINVAL", "the platform does not say where its memory is");
  const size = windowSize(window, pageSize);
  if (window.tgt === undefined) throw new VfioError("EFAULT", "its bridge has no ibm,device-tgt-addr");
  return new CoherentRamRegion(memory, size, window.tgt);
}

function windowSize({ base, size }: CoherentMemory, pageSize: number): number {
  const page = BigInt(pageSize);
  const isUsable = size > 0n && size <= Number.MAX_SAFE_INTEGER && base % page === 0n && size % page === 0n;
  if (isUsable) return Number(size);
  throw new VfioError(
    "EINVAL",
    `its memory of 0x${size.toString(16)} bytes at 0x${base.toString(16)} cannot be a region`,
  );
}
