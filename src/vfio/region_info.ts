import { VFIO_REGION_INFO_FLAG_CAPS } from "./constants.js";
import { VfioError } from "./error.js";
import { decodeCapabilityChain, encodeCapabilityChain, type RegionCapability } from "./region_capability.js";

/** Bytes of `struct vfio_region_info` without capabilities. */
export const REGION_INFO_SIZE = 32;

/** `struct vfio_region_info` with its capabilities. */
export interface RegionInfo {
  /** Bytes that the whole structure needs, capabilities included. */
  argsz: number;
  /** VFIO_REGION_INFO_FLAG_* */
  flags: number;
  index: number;
  /** Bytes. */
  size: bigint;
  /** Where the region begins in the file that it is mapped from. */
  offset: bigint;
  capabilities: RegionCapability[];
}

/**
 * The structure as a client gets it who has `room` bytes for it. With room for the fixed part only, that part says in
 * `argsz` how much is needed, with FLAG_CAPS set and a capability offset of 0, as the kernel does.
 * `info.argsz` and FLAG_CAPS in `info.flags` are ignored: they follow from the capabilities.
 */
export function encodeRegionInfo(info: RegionInfo, room = Number.POSITIVE_INFINITY): Uint8Array {
  const chain = encodeCapabilityChain(info.capabilities, REGION_INFO_SIZE);
  const needed = REGION_INFO_SIZE + chain.length;
  const complete = room >= needed;
  const bytes = new Uint8Array(complete ? needed : REGION_INFO_SIZE);
  const view = new DataView(bytes.buffer);
  const flags = info.flags & ~VFIO_REGION_INFO_FLAG_CAPS;
  view.setUint32(0, needed, true);
  view.setUint32(4, chain.length > 0 ? flags | VFIO_REGION_INFO_FLAG_CAPS : flags, true);
  view.setUint32(8, info.index, true);
  view.setUint32(12, complete && chain.length > 0 ? REGION_INFO_SIZE : 0, true);
  view.setBigUint64(16, info.size, true);
  view.setBigUint64(24, info.offset, true);
  if (complete) bytes.set(chain, REGION_INFO_SIZE);
  return bytes;
}

/** @throws {VfioError} EINVAL for a short structure or a broken capability chain */
export function decodeRegionInfo(bytes: Uint8Array): RegionInfo {
  if (bytes.length < REGION_INFO_SIZE) {
    throw new VfioError("EINVAL", `region info of ${bytes.length} bytes, ${REGION_INFO_SIZE} are needed`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = view.getUint32(4, true);
  const start = view.getUint32(12, true);
  if ((flags & VFIO_REGION_INFO_FLAG_CAPS) !== 0 && start !== 0 && start < REGION_INFO_SIZE) {
    throw new VfioError("EINVAL", `region capabilities at ${start} lie inside the fixed part`);
  }
  return {
    argsz: view.getUint32(0, true),
    flags,
    index: view.getUint32(8, true),
    size: view.getBigUint64(16, true),
    offset: view.getBigUint64(24, true),
    capabilities: (flags & VFIO_REGION_INFO_FLAG_CAPS) !== 0 ? decodeCapabilityChain(bytes, start) : [],
  };
}
