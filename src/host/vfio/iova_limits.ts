import { VfioError } from "../../vfio/index.js";

/** Addresses that an IOMMU translates, both ends included. */
export interface IovaRange {
  first: bigint;
  last: bigint;
}

/** What an IOMMU can do for all functions in one address space. */
export interface IovaLimits {
  /** In no order; undefined when the kernel does not tell. */
  ranges: IovaRange[] | undefined;
  /** A bit for each page size; 0 when the kernel does not tell. */
  pageSizes: bigint;
}

/**
 * Whether addresses can be mapped.
 * @throws {VfioError} EINVAL in words, where the kernel has none: for an empty range, one that is no whole pages, and one that
 * is not within one of the IOMMU's ranges
 */
export function withinLimits({ iova, size }: { iova: bigint; size: bigint }, { ranges, pageSizes }: IovaLimits): void {
  const fail = (why: string) => new VfioError("EINVAL", `DMA range ${hex(iova)} + ${hex(size)}: ${why}`);
  const page = pageSizes & -pageSizes;
  if (size <= 0n) throw fail("it is empty");
  if (page > 0n && (iova % page !== 0n || size % page !== 0n)) throw fail(`the IOMMU has pages of ${page} bytes`);
  if (ranges === undefined || ranges.some(({ first, last }) => iova >= first && iova + size - 1n <= last)) return;
  const list = ranges.map(({ first, last }) => `${hex(first)} to ${hex(last)}`).join(", ");
  throw fail(`the IOMMU translates ${list === "" ? "nothing" : list}`);
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
