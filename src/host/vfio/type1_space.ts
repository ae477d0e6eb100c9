import { type CallThread, type Fd, NativeMemory } from "../../os/index.js";
import { type Steps, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VfioError } from "../../vfio/index.js";
import type { AddressSpace, MappedMemory } from "./address_space.js";
import { asVfioError, calling } from "./calling.js";
import { type IovaLimits, withinLimits } from "./iova_limits.js";
import { VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from "./requests.js";

/** Bytes of `struct vfio_iommu_type1_info` with room for some hundred ranges. */
const INFO_ROOM = 4096;
const INFO_PGSIZES = 1 << 0;
const INFO_CAPS = 1 << 1;
const CAP_IOVA_RANGE = 1;
const CAP_HEADER = 8;
const MAP_SIZE = 32;
const UNMAP_SIZE = 24;

/**
 * The address space of a container whose IOMMU is of type 1, version 2 (`vfio_iommu_type1.c`): x86, arm64 and most others.
 * The container must have a group.
 */
export class Type1Space implements AddressSpace {
  constructor(
    private readonly container: Fd,
    private readonly thread: CallThread,
  ) {}

  *map(memory: MappedMemory): Steps {
    const { iova, size, address, readable, writable } = memory;
    const map = new NativeMemory(MAP_SIZE);
    map.view.setUint32(0, MAP_SIZE, true);
    map.view.setUint32(4, (readable ? VFIO_DMA_MAP_FLAG_READ : 0) | (writable ? VFIO_DMA_MAP_FLAG_WRITE : 0), true);
    map.view.setBigUint64(8, BigInt(address), true);
    map.view.setBigUint64(16, iova, true);
    map.view.setBigUint64(24, size, true);
    try {
      yield* calling(this.thread, "ioctl", this.container, VFIO_IOMMU_MAP_DMA, map);
    } catch (error) {
      const refusal = asVfioError(error, `VFIO_IOMMU_MAP_DMA of ${size} bytes at 0x${iova.toString(16)}`);
      if (refusal.code === "EINVAL") withinLimits(memory, yield* this.limits());
      throw refusal;
    }
  }

  /**
   * Which addresses the IOMMU translates, as all functions together allow it now. The kernel answers when it is not mapping.
   * @throws {VfioError}
   */
  *limits(): Steps<IovaLimits> {
    const info = new NativeMemory(INFO_ROOM);
    info.view.setUint32(0, INFO_ROOM, true);
    try {
      yield* calling(this.thread, "ioctl", this.container, VFIO_IOMMU_GET_INFO, info);
    } catch (error) {
      throw asVfioError(error, "the IOMMU does not tell which addresses it translates");
    }
    return decodeInfo(info.bytes);
  }

  *unmap({ iova, size }: MappedMemory): Steps {
    const unmap = new NativeMemory(UNMAP_SIZE);
    unmap.view.setUint32(0, UNMAP_SIZE, true);
    unmap.view.setBigUint64(8, iova, true);
    unmap.view.setBigUint64(16, size, true);
    try {
      yield* calling(this.thread, "ioctl", this.container, VFIO_IOMMU_UNMAP_DMA, unmap);
    } catch (error) {
      throw asVfioError(error, `VFIO_IOMMU_UNMAP_DMA of ${size} bytes at 0x${iova.toString(16)}`);
    }
  }
}

/** `struct vfio_iommu_type1_info` with its capabilities. @throws {VfioError} EINVAL when the chain leaves the structure */
export function decodeInfo(bytes: Uint8Array): IovaLimits {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = view.getUint32(4, true);
  const limits: IovaLimits = {
    ranges: undefined,
    pageSizes: (flags & INFO_PGSIZES) === 0 ? 0n : view.getBigUint64(8, true),
  };
  let at = (flags & INFO_CAPS) === 0 ? 0 : view.getUint32(16, true);
  for (let before = 0; at !== 0; before = at, at = view.getUint32(at + 4, true)) {
    // Ascending only, so it cannot loop.
    if (at <= before || at + 2 * CAP_HEADER > bytes.length) throw new VfioError("EINVAL", `IOMMU capability at ${at}`);
    if (view.getUint16(at, true) !== CAP_IOVA_RANGE) continue;
    const count = view.getUint32(at + CAP_HEADER, true);
    const first = at + 2 * CAP_HEADER;
    if (first + 16 * count > bytes.length)
      throw new VfioError("EINVAL", `${count} IOVA ranges in ${bytes.length} bytes`);
    limits.ranges = Array.from({ length: count }, (_, index) => ({
      first: view.getBigUint64(first + 16 * index, true),
      last: view.getBigUint64(first + 16 * index + 8, true),
    }));
  }
  return limits;
}
