/** What an index finds by its address. */
export interface AddressRange {
  readonly address: bigint;
  /** At least 1. */
  readonly size: bigint;
}

/** Ranges in one list: adding to a list takes the longer, the longer it is. */
const MOST = 256;

/**
 * Ranges of an address space that do not overlap, by address. Looking one up takes logarithmic time, and adding and
 * removing next to no more: they lie in short lists.
 */
export class RangeIndex<T extends AddressRange> {
  /** In the order of their addresses; none is empty. */
  readonly #lists: T[][] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** A range that shares an address with `size` bytes at `address`; undefined when none does. */
  overlapping(address: bigint, size: bigint): T | undefined {
    // Of all that begin before the end the last one is the one that reaches furthest.
    const list = this.#lists[this.#listOf(address + size - 1n)];
    const last = list?.[countUpTo(list, beginOf, address + size - 1n) - 1];
    return last !== undefined && last.address + last.size > address ? last : undefined;
  }

  /** Adds a range that overlaps none. */
  add(range: T): void {
    const at = this.#listOf(range.address);
    const list = this.#lists[at];
    this.#count++;
    if (list === undefined) {
      this.#lists.push([range]);
      return;
    }
    list.splice(countUpTo(list, beginOf, range.address), 0, range);
    if (list.length > MOST) this.#lists.splice(at + 1, 0, list.splice(MOST / 2));
  }

  /** Removes a range that was added. */
  remove(range: T): void {
    const at = this.#listOf(range.address);
    const list = this.#lists[at] ?? [];
    const index = countUpTo(list, beginOf, range.address) - 1;
    if (list[index] !== range) return;
    list.splice(index, 1);
    this.#count--;
    if (list.length === 0) this.#lists.splice(at, 1);
  }

  /** Which list a range that begins at an address is in, or would be. */
  #listOf(address: bigint): number {
    return Math.max(0, countUpTo(this.#lists, beginOfList, address) - 1);
  }
}

function beginOf(range: AddressRange): bigint {
  return range.address;
}

function beginOfList([first]: readonly AddressRange[]): bigint {
  return first?.address ?? 0n;
}

/** How many of the items, which are in order, begin at or before an address. */
function countUpTo<T>(items: readonly T[], begin: (item: T) => bigint, address: bigint): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = items[middle];
    if (item !== undefined && begin(item) <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}
