import { readFileSync } from "node:fs";

/** Type of the auxiliary vector's entry with the page size (getauxval(3)). */
const AT_PAGESZ = 6n;
/** The largest that Linux has on any platform, and so right wherever pages are to be left out whole. */
const LARGEST = 65536;

/** Bytes of a page of this host's memory: 4096 on x86, 65536 on most POWER. */
export function hostPageSize(): number {
  let vector: Buffer;
  try {
    vector = readFileSync("/proc/self/auxv");
  } catch {
    return LARGEST;
  }
  for (let at = 0; at + 16 <= vector.length; at += 16) {
    if (vector.readBigUInt64LE(at) === AT_PAGESZ) return Number(vector.readBigUInt64LE(at + 8));
  }
  return LARGEST;
}
