import type { Steps } from "../../vfio/index.js";

/** Memory of this process that a device is to reach. */
export interface MappedMemory {
  /** The device's address for it; as `size` a multiple of the host's page size. */
  iova: bigint;
  size: bigint;
  /** Where this process has it mapped. */
  address: number;
  readable: boolean;
  writable: boolean;
}

/**
 * One address space that devices do DMA in, kept by the kernel's IOMMU: a VFIO container's or an iommufd's. Pinning and
 * unpinning take long, so everything is steps; what is begun is done in order, and is not undone by cancelling.
 */
export interface AddressSpace {
  /**
   * Pins the memory and lets devices reach it.
   * @throws {VfioError} ENOMEM when it may not be pinned, with the limit in words; EINVAL for addresses the IOMMU does not
   * translate; EEXIST for an overlap; EFAULT for memory that is not there
   */
  map(memory: MappedMemory): Steps;
  /** Takes a range back that was mapped, whole. @throws {VfioError} */
  unmap(memory: MappedMemory): Steps;
}
