import { VfioError } from "../vfio/index.js";
import { viewOf } from "./header.js";

/** Bytes before the sub-regions. */
export const REGION_IO_FDS_SIZE = 16;
/** Bytes of each sub-region of either type. */
export const SUB_REGION_SIZE = 40;

export const IO_FD_TYPE_IOEVENTFD = 0;
export const IO_FD_TYPE_IOREGIONFD = 1;
/** `datamatch` counts (linux/kvm.h). */
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1 << 0;

/** A piece of a region that is accessed by a descriptor. */
export interface SubRegion {
  offset: bigint;
  /** Bytes of the access; 0 for any. */
  size: bigint;
  /** Which of the descriptors that came along. */
  fdIndex: number;
  /** IO_FD_TYPE_* */
  type: number;
  flags: number;
  /** `datamatch` of an ioeventfd, `user_data` of an ioregionfd. */
  data: bigint;
}

/** DEVICE_GET_REGION_IO_FDS; the request has no sub-regions. */
export interface RegionIoFds {
  argsz: number;
  flags: number;
  index: number;
  count: number;
  subRegions: SubRegion[];
}

/** The structure as a client gets it who has `room` bytes: without sub-regions when they do not fit. */
export function encodeRegionIoFds(info: RegionIoFds, room = Number.POSITIVE_INFINITY): Uint8Array {
  const needed = REGION_IO_FDS_SIZE + SUB_REGION_SIZE * info.subRegions.length;
  const subRegions = room >= needed ? info.subRegions : [];
  const bytes = new Uint8Array(REGION_IO_FDS_SIZE + SUB_REGION_SIZE * subRegions.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, info.argsz, true);
  view.setUint32(4, info.flags, true);
  view.setUint32(8, info.index, true);
  view.setUint32(12, info.count, true);
  for (const [index, sub] of subRegions.entries()) {
    const at = REGION_IO_FDS_SIZE + SUB_REGION_SIZE * index;
    view.setBigUint64(at, sub.offset, true);
    view.setBigUint64(at + 8, sub.size, true);
    view.setUint32(at + 16, sub.fdIndex, true);
    view.setUint32(at + 20, sub.type, true);
    view.setUint32(at + 24, sub.flags, true);
    view.setBigUint64(at + 32, sub.data, true);
  }
  return bytes;
}

/**
 * The sub-regions that are there, at most `count` of them.
 * @throws {VfioError} EINVAL for a short structure, or one that stops within a sub-region
 */
export function decodeRegionIoFds(bytes: Uint8Array): RegionIoFds {
  const view = viewOf(bytes, REGION_IO_FDS_SIZE, "region io fds");
  const there = (bytes.length - REGION_IO_FDS_SIZE) / SUB_REGION_SIZE;
  const count = view.getUint32(12, true);
  if (!Number.isInteger(there) || there > count) {
    throw new VfioError("EINVAL", `region io fds of ${bytes.length} bytes for ${count} sub-regions`);
  }
  const subRegions = Array.from({ length: there }, (_, index) => {
    const at = REGION_IO_FDS_SIZE + SUB_REGION_SIZE * index;
    return {
      offset: view.getBigUint64(at, true),
      size: view.getBigUint64(at + 8, true),
      fdIndex: view.getUint32(at + 16, true),
      type: view.getUint32(at + 20, true),
      flags: view.getUint32(at + 24, true),
      data: view.getBigUint64(at + 32, true),
    };
  });
  return {
    argsz: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    index: view.getUint32(8, true),
    count,
    subRegions,
  };
}
