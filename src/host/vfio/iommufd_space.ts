import { type CallThread, type Fd, ioctlNumber, NativeMemory } from "../../os/index.js";
import type { Steps } from "../../vfio/index.js";
import type { AddressSpace, MappedMemory } from "./address_space.js";
import { asVfioError, calling } from "./calling.js";

/** `_IO(IOMMUFD_TYPE, nr)` of linux/iommufd.h. */
const IOMMU_IOAS_ALLOC = ioctlNumber(";", 0x81);
const IOMMU_IOAS_MAP = ioctlNumber(";", 0x85);
const IOMMU_IOAS_UNMAP = ioctlNumber(";", 0x86);
const FIXED_IOVA = 1 << 0;
const WRITEABLE = 1 << 1;
const READABLE = 1 << 2;
const ALLOC_SIZE = 12;
const MAP_SIZE = 40;
const UNMAP_SIZE = 24;

/**
 * An I/O address space of an iommufd, by the structures of `linux/iommufd.h`. No kernel that this was run on had iommufd:
 * it follows the header, and a test that the bytes do.
 */
export class IommufdSpace implements AddressSpace {
  private constructor(
    private readonly iommufd: Fd,
    private readonly thread: CallThread,
    /** What a device is attached to (`pt_id`). */
    readonly ioasId: number,
  ) {}

  /** Makes an empty one. @throws {VfioError} */
  static *create(iommufd: Fd, thread: CallThread): Steps<IommufdSpace> {
    const alloc = new NativeMemory(ALLOC_SIZE);
    alloc.view.setUint32(0, ALLOC_SIZE, true);
    try {
      yield* calling(thread, "ioctl", iommufd, IOMMU_IOAS_ALLOC, alloc);
    } catch (error) {
      throw asVfioError(error, "IOMMU_IOAS_ALLOC");
    }
    return new IommufdSpace(iommufd, thread, alloc.view.getUint32(8, true));
  }

  *map(memory: MappedMemory): Steps {
    const { iova, size } = memory;
    try {
      yield* calling(this.thread, "ioctl", this.iommufd, IOMMU_IOAS_MAP, encodeIoasMap(this.ioasId, memory));
    } catch (error) {
      throw asVfioError(error, `IOMMU_IOAS_MAP of ${size} bytes at 0x${iova.toString(16)}`);
    }
  }

  *unmap({ iova, size }: MappedMemory): Steps {
    const unmap = new NativeMemory(UNMAP_SIZE);
    unmap.view.setUint32(0, UNMAP_SIZE, true);
    unmap.view.setUint32(4, this.ioasId, true);
    unmap.view.setBigUint64(8, iova, true);
    unmap.view.setBigUint64(16, size, true);
    try {
      yield* calling(this.thread, "ioctl", this.iommufd, IOMMU_IOAS_UNMAP, unmap);
    } catch (error) {
      const refusal = asVfioError(error, `IOMMU_IOAS_UNMAP of ${size} bytes at 0x${iova.toString(16)}`);
      // Nothing is mapped there, which is what was asked for.
      if (refusal.code !== "ENOENT") throw refusal;
    }
  }
}

/** `struct iommu_ioas_map`. */
export function encodeIoasMap(ioasId: number, { iova, size, address, readable, writable }: MappedMemory): NativeMemory {
  const map = new NativeMemory(MAP_SIZE);
  map.view.setUint32(0, MAP_SIZE, true);
  map.view.setUint32(4, FIXED_IOVA | (writable ? WRITEABLE : 0) | (readable ? READABLE : 0), true);
  map.view.setUint32(8, ioasId, true);
  map.view.setBigUint64(16, BigInt(address), true);
  map.view.setBigUint64(24, size, true);
  map.view.setBigUint64(32, iova, true);
  return map;
}
