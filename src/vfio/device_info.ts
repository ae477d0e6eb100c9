import { VfioError } from "./error.js";

/** Bytes of `struct vfio_device_info` without its later additions. */
export const DEVICE_INFO_SIZE = 16;

/** `struct vfio_device_info`. */
export interface DeviceInfo {
  argsz: number;
  /** VFIO_DEVICE_FLAGS_* */
  flags: number;
  numRegions: number;
  numIrqs: number;
}

export function encodeDeviceInfo(info: DeviceInfo): Uint8Array {
  const bytes = new Uint8Array(DEVICE_INFO_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, info.argsz, true);
  view.setUint32(4, info.flags, true);
  view.setUint32(8, info.numRegions, true);
  view.setUint32(12, info.numIrqs, true);
  return bytes;
}

/** @throws {VfioError} EINVAL when there are fewer than {@link DEVICE_INFO_SIZE} bytes */
export function decodeDeviceInfo(bytes: Uint8Array): DeviceInfo {
  if (bytes.length < DEVICE_INFO_SIZE) {
    throw new VfioError("EINVAL", `device info of ${bytes.length} bytes, ${DEVICE_INFO_SIZE} are needed`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    argsz: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    numRegions: view.getUint32(8, true),
    numIrqs: view.getUint32(12, true),
  };
}
