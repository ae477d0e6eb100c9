import { VFIO_DEVICE_FEATURE_MASK } from "../vfio/index.js";
import { viewOf } from "./header.js";

/** Bytes before the data of DEVICE_FEATURE. */
export const DEVICE_FEATURE_SIZE = 8;
/** Bytes before the data of MIG_DATA_READ and MIG_DATA_WRITE. */
export const MIG_DATA_SIZE = 8;

/** DEVICE_FEATURE: get, set or probe a feature, by its index in the low 16 bits of `flags`. */
export interface DeviceFeature {
  argsz: number;
  /** VFIO_DEVICE_FEATURE_* and the index */
  flags: number;
  data: Uint8Array;
}

/** MIG_DATA_READ and MIG_DATA_WRITE. */
export interface MigrationData {
  argsz: number;
  /** Bytes to read, or of data. */
  size: number;
  data: Uint8Array;
}

export function featureIndex(feature: DeviceFeature): number {
  return feature.flags & VFIO_DEVICE_FEATURE_MASK;
}

function encode(first: number, second: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, first, true);
  view.setUint32(4, second, true);
  bytes.set(data, 8);
  return bytes;
}

export function encodeDeviceFeature(feature: DeviceFeature): Uint8Array {
  return encode(feature.argsz, feature.flags, feature.data);
}

/** @throws {VfioError} EINVAL when bytes are missing */
export function decodeDeviceFeature(bytes: Uint8Array): DeviceFeature {
  const view = viewOf(bytes, DEVICE_FEATURE_SIZE, "DEVICE_FEATURE");
  const data = bytes.subarray(DEVICE_FEATURE_SIZE);
  return { argsz: view.getUint32(0, true), flags: view.getUint32(4, true), data };
}

export function encodeMigrationData(message: MigrationData): Uint8Array {
  return encode(message.argsz, message.size, message.data);
}

/** @throws {VfioError} EINVAL when bytes are missing */
export function decodeMigrationData(bytes: Uint8Array): MigrationData {
  const view = viewOf(bytes, MIG_DATA_SIZE, "migration data");
  return { argsz: view.getUint32(0, true), size: view.getUint32(4, true), data: bytes.subarray(MIG_DATA_SIZE) };
}
