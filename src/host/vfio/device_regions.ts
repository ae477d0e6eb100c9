import type { Fd } from "../../os/index.js";
import {
  decodeRegionInfo,
  REGION_INFO_SIZE,
  type RegionArea,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VfioError,
  type VfioRegion,
} from "../../vfio/index.js";
import { asVfioError } from "./calling.js";
import { askFor, VFIO_DEVICE_GET_REGION_INFO } from "./requests.js";

/** A region as the kernel's VFIO has it. */
export interface DeviceRegion extends VfioRegion {
  /** Where it begins in the device's file. */
  readonly fileOffset: number;
  /** The pieces that the kernel lets be mapped; empty: none. */
  readonly mappable: readonly RegionArea[];
}

const MAX = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * A device's region; undefined for one that it has not.
 * @throws {VfioError} EIO when what the kernel says makes no sense
 */
export function readRegion(device: Fd, index: number): DeviceRegion | undefined {
  let bytes: Uint8Array;
  try {
    const name = `VFIO_DEVICE_GET_REGION_INFO ${index}`;
    bytes = askFor(device, VFIO_DEVICE_GET_REGION_INFO, name, REGION_INFO_SIZE, (view) =>
      view.setUint32(8, index, true),
    ).bytes;
  } catch (error) {
    const refusal = asVfioError(error, `region ${index}`);
    // As the kernel says it of the VGA region of what is no VGA.
    if (refusal.code === "EINVAL") return undefined;
    throw refusal;
  }
  return decodeDeviceRegion(bytes, index);
}

/** What `struct vfio_region_info` says of a region. @throws {VfioError} as {@link readRegion} */
export function decodeDeviceRegion(bytes: Uint8Array, index: number): DeviceRegion | undefined {
  const { flags, size, offset, capabilities } = decodeRegionInfo(bytes);
  if (size === 0n) return undefined;
  if (offset + size > MAX) throw new VfioError("EIO", `region ${index} of ${size} bytes at ${offset} of its file`);
  const others = capabilities.filter(({ kind }) => kind !== "sparse-mmap");
  const sparse = capabilities.find((each) => each.kind === "sparse-mmap");
  const areas = sparse?.areas ?? [{ offset: 0n, size }];
  if (areas.some((area) => area.offset + area.size > size)) {
    throw new VfioError("EIO", `region ${index} of ${size} bytes has mappable pieces beyond its end`);
  }
  const isMappable = (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0;
  const pieces = areas
    .filter((area) => area.size > 0n)
    .map((area) => ({ offset: Number(area.offset), size: Number(area.size) }));
  return {
    size: Number(size),
    readable: (flags & VFIO_REGION_INFO_FLAG_READ) !== 0,
    writable: (flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0,
    ...(others.length > 0 && { capabilities: others }),
    fileOffset: Number(offset),
    mappable: isMappable ? pieces : [],
  };
}
