import { VfioError } from "../vfio/error.js";

/**
 * How many bytes of an access to a device region are there, as the kernel's device regions have it: an access that
 * begins inside is cut at the end.
 * @throws {VfioError} EINVAL when it begins at the end or beyond
 */
export function clippedLength(size: number, offset: number, length: number): number {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset < size) return Math.min(length, size - offset);
  throw new VfioError("EINVAL", `an access at ${offset} of a region of ${size} bytes`);
}

/** The part of `data` with so many bytes; `data` itself when that is all of it. */
export function clipped(data: Uint8Array, length: number): Uint8Array {
  return length === data.length ? data : data.subarray(0, length);
}
