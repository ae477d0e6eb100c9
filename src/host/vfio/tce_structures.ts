import { NativeMemory } from "../../os/index.js";
import { VfioError } from "../../vfio/index.js";

/** Bytes of `struct vfio_iommu_spapr_tce_info`, with what tells of further windows. */
export const TCE_INFO_SIZE = 32;
const INFO_DDW = 1 << 0;

/** What a TCE IOMMU can do. */
export interface TceInfo {
  /** The window that is there from the start, in bytes. */
  start: bigint;
  size: bigint;
  /** A bit for each page size that a further window may have. */
  pageSizes: bigint;
  /** Most windows, the first among them; 0 and 1 mean that there are no others. */
  windows: number;
  /** Most levels of a window's table, at least 1. */
  levels: number;
}

/** `struct vfio_iommu_spapr_tce_info`. @throws {VfioError} EINVAL when there is no first window */
export function decodeTceInfo(view: DataView): TceInfo {
  const hasMore = (view.getUint32(4, true) & INFO_DDW) !== 0;
  const start = BigInt(view.getUint32(8, true));
  const size = BigInt(view.getUint32(12, true));
  if (size === 0n) throw new VfioError("EINVAL", "the IOMMU has no window for DMA");
  return {
    start,
    size,
    pageSizes: hasMore ? view.getBigUint64(16, true) : 0n,
    windows: hasMore ? view.getUint32(24, true) : 0,
    levels: Math.max(1, hasMore ? view.getUint32(28, true) : 1),
  };
}

/** `struct vfio_iommu_spapr_tce_create`; the kernel puts the window's first address at byte 32. */
export function encodeTceCreate(pageShift: number, size: bigint, levels: number): NativeMemory {
  const create = structure(40);
  create.view.setUint32(8, pageShift, true);
  create.view.setBigUint64(16, size, true);
  create.view.setUint32(24, levels, true);
  return create;
}

/** `struct vfio_iommu_spapr_tce_remove`. */
export function encodeTceRemove(start: bigint): NativeMemory {
  const remove = structure(16);
  remove.view.setBigUint64(8, start, true);
  return remove;
}

/** `struct vfio_iommu_spapr_register_memory` and `struct vfio_iommu_type1_dma_unmap`, which look the same. */
export function encodeTceRange(address: bigint, size: bigint): NativeMemory {
  const range = structure(24);
  range.view.setBigUint64(8, address, true);
  range.view.setBigUint64(16, size, true);
  return range;
}

/** `struct vfio_iommu_type1_dma_map`. @param flags VFIO_DMA_MAP_FLAG_* */
export function encodeTceMap(flags: number, address: bigint, iova: bigint, size: bigint): NativeMemory {
  const map = structure(32);
  map.view.setUint32(4, flags, true);
  map.view.setBigUint64(8, address, true);
  map.view.setBigUint64(16, iova, true);
  map.view.setBigUint64(24, size, true);
  return map;
}

/** One that begins with its size. */
function structure(size: number): NativeMemory {
  const memory = new NativeMemory(size);
  memory.view.setUint32(0, size, true);
  return memory;
}
