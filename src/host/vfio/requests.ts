import { constants } from "node:os";
import { checked, type Fd, ioctlNumber, libc, NativeMemory, OsError } from "../../os/index.js";

/** `_IO(VFIO_TYPE, VFIO_BASE + n)` of linux/vfio.h. */
function vfio(n: number): number {
  return ioctlNumber(";", 100 + n);
}

/** Numbers of VFIO's ioctls (linux/vfio.h), as this machine's architecture has them. */
export const VFIO_GET_API_VERSION = vfio(0);
export const VFIO_CHECK_EXTENSION = vfio(1);
export const VFIO_SET_IOMMU = vfio(2);
export const VFIO_GROUP_GET_STATUS = vfio(3);
export const VFIO_GROUP_SET_CONTAINER = vfio(4);
export const VFIO_GROUP_UNSET_CONTAINER = vfio(5);
export const VFIO_GROUP_GET_DEVICE_FD = vfio(6);
export const VFIO_DEVICE_GET_INFO = vfio(7);
export const VFIO_DEVICE_GET_REGION_INFO = vfio(8);
export const VFIO_DEVICE_GET_IRQ_INFO = vfio(9);
export const VFIO_DEVICE_SET_IRQS = vfio(10);
export const VFIO_DEVICE_RESET = vfio(11);
export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = vfio(12);
export const VFIO_DEVICE_PCI_HOT_RESET = vfio(13);
export const VFIO_DEVICE_FEATURE = vfio(17);
export const VFIO_DEVICE_BIND_IOMMUFD = vfio(18);
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = vfio(19);
/** Those of an address space begin where those of a device end, with the same numbers. */
export const VFIO_IOMMU_GET_INFO = vfio(12);
export const VFIO_IOMMU_MAP_DMA = vfio(13);
export const VFIO_IOMMU_UNMAP_DMA = vfio(14);
export const VFIO_IOMMU_SPAPR_TCE_GET_INFO = vfio(12);
export const VFIO_IOMMU_SPAPR_REGISTER_MEMORY = vfio(17);
export const VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY = vfio(18);
export const VFIO_IOMMU_SPAPR_TCE_CREATE = vfio(19);
export const VFIO_IOMMU_SPAPR_TCE_REMOVE = vfio(20);

/** Extensions of a container: the kinds of IOMMU that there are. */
export const VFIO_TYPE1V2_IOMMU = 3;
export const VFIO_SPAPR_TCE_V2_IOMMU = 7;

export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;

/** The most that the kernel is believed to want for a structure: a guard against nonsense. */
const MAX_STRUCTURE = 1 << 16;

/**
 * Asks for a structure that begins with its size (`argsz`), and again with more room when the kernel wants that.
 * @param size bytes of its fixed part
 * @param fill puts in what is asked for
 * @throws {OsError} what the kernel says, and EOVERFLOW when it wants more than any such structure takes
 */
export function askFor(
  fd: Fd,
  request: number,
  name: string,
  size: number,
  fill: (view: DataView) => void = () => {},
): NativeMemory {
  for (let room = size; ; ) {
    const memory = new NativeMemory(room);
    memory.view.setUint32(0, room, true);
    fill(memory.view);
    const result = libc().ioctl(fd.number, request, "uintptr_t", memory.address);
    const wanted = memory.view.getUint32(0, true);
    if (result >= 0 && wanted <= room) return memory;
    if (result < 0) checked(result, "ioctl", name);
    if (wanted > MAX_STRUCTURE) throw new OsError("ioctl", constants.errno.EOVERFLOW, `${name} wants ${wanted} bytes`);
    room = wanted;
  }
}

/** A structure of 32-bit words, to hand to the kernel. */
export function words(...values: readonly number[]): NativeMemory {
  const memory = new NativeMemory(4 * values.length);
  for (const [index, value] of values.entries()) memory.view.setUint32(4 * index, value >>> 0, true);
  return memory;
}
