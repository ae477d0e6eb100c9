import { VfioError } from "../vfio/index.js";
import { viewOf } from "./header.js";

/** Bytes before the data of REGION_READ and REGION_WRITE. */
export const REGION_ACCESS_SIZE = 16;
/** Bytes before the writes of REGION_WRITE_MULTI, and its whole reply. */
export const WRITE_MULTI_SIZE = 8;
/** Bytes of each write in it. */
export const WRITE_MULTI_ENTRY_SIZE = 24;
/** Writes that one REGION_WRITE_MULTI may hold, so that no message keeps others waiting for long. */
export const MAX_MULTI_WRITES = 4096;

/** What REGION_READ, REGION_WRITE and their replies begin with. */
export interface RegionAccess {
  offset: bigint;
  region: number;
  count: number;
}

/** One write of REGION_WRITE_MULTI: 1 to 8 bytes. */
export interface RegionWrite {
  offset: bigint;
  region: number;
  data: Uint8Array;
}

/** The fixed part, for the data to follow. */
export function encodeRegionAccess(access: RegionAccess): Uint8Array {
  const bytes = new Uint8Array(REGION_ACCESS_SIZE);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, access.offset, true);
  view.setUint32(8, access.region, true);
  view.setUint32(12, access.count, true);
  return bytes;
}

/** @throws {VfioError} EINVAL when bytes are missing */
export function decodeRegionAccess(bytes: Uint8Array): RegionAccess {
  const view = viewOf(bytes, REGION_ACCESS_SIZE, "region access");
  return { offset: view.getBigUint64(0, true), region: view.getUint32(8, true), count: view.getUint32(12, true) };
}

export function encodeWriteMulti(writes: readonly RegionWrite[]): Uint8Array {
  const bytes = new Uint8Array(WRITE_MULTI_SIZE + WRITE_MULTI_ENTRY_SIZE * writes.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(writes.length), true);
  for (const [index, write] of writes.entries()) {
    const at = WRITE_MULTI_SIZE + WRITE_MULTI_ENTRY_SIZE * index;
    if (write.data.length < 1 || write.data.length > 8) {
      throw new VfioError("EINVAL", `write ${index} of REGION_WRITE_MULTI has ${write.data.length} bytes, not 1 to 8`);
    }
    view.setBigUint64(at, write.offset, true);
    view.setUint32(at + 8, write.region, true);
    view.setUint32(at + 12, write.data.length, true);
    bytes.set(write.data, at + 16);
  }
  return bytes;
}

/**
 * The writes share the memory of `bytes`.
 * @throws {VfioError} EINVAL for more than {@link MAX_MULTI_WRITES}, missing bytes, or a write of other than 1 to 8 bytes
 */
export function decodeWriteMulti(bytes: Uint8Array): RegionWrite[] {
  const view = viewOf(bytes, WRITE_MULTI_SIZE, "REGION_WRITE_MULTI");
  const count = view.getBigUint64(0, true);
  if (count > MAX_MULTI_WRITES) throw new VfioError("EINVAL", `REGION_WRITE_MULTI with ${count} writes`);
  viewOf(bytes, WRITE_MULTI_SIZE + WRITE_MULTI_ENTRY_SIZE * Number(count), `REGION_WRITE_MULTI with ${count} writes`);
  return Array.from({ length: Number(count) }, (_, index) => {
    const at = WRITE_MULTI_SIZE + WRITE_MULTI_ENTRY_SIZE * index;
    const length = view.getUint32(at + 12, true);
    if (length < 1 || length > 8)
      throw new VfioError("EINVAL", `write ${index} of REGION_WRITE_MULTI has ${length} bytes`);
    const data = bytes.subarray(at + 16, at + 16 + length);
    return { offset: view.getBigUint64(at, true), region: view.getUint32(at + 8, true), data };
  });
}

/** The reply to REGION_WRITE_MULTI: how many writes were done. */
export function encodeWriteMultiReply(count: number): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(count)]).buffer);
}

export function decodeWriteMultiReply(bytes: Uint8Array): bigint {
  return viewOf(bytes, WRITE_MULTI_SIZE, "REGION_WRITE_MULTI reply").getBigUint64(0, true);
}
