import type { Bar } from "../pci/function.js";

/** One assigned range of a function as the kernel keeps it, by its BAR. */
export interface Resource {
  index: Bar["index"];
  /** First address as the CPU sees it; on most platforms that is the bus address too. */
  start: bigint;
  /** Bytes, 1 to 2^64. */
  size: bigint;
  flags: bigint;
}

// include/linux/ioport.h; the file has been printed in this form since 2.6.
const IORESOURCE_IO = 0x100n;
const IORESOURCE_MEM = 0x200n;
const IORESOURCE_PREFETCH = 0x2000n;
const IORESOURCE_MEM_64 = 0x100000n;
const IORESOURCE_DISABLED = 0x10000000n;
const IORESOURCE_UNSET = 0x20000000n;

/** The first lines are BAR 0..5 and the expansion ROM; SR-IOV BARs and bridge windows follow. */
const LINES: readonly Bar["index"][] = [0, 1, 2, 3, 4, 5, "rom"];
const EMPTY = "0x0000000000000000 0x0000000000000000 0x0000000000000000";
const RANGE = /^0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16}$/i;

/** Reads the text of a function's `resource` file: what it says of the BARs, and the numbers of lines that are no range. */
export function parseResources(text: string): { resources: Resource[]; malformed: number[] } {
  const resources: Resource[] = [];
  const malformed: number[] = [];
  let number = 0;
  for (const line of text.split("\n", LINES.length)) {
    const index = LINES[number++];
    if (index === undefined || line === EMPTY || line === "") continue;
    if (!RANGE.test(line)) {
      malformed.push(number);
      continue;
    }
    const [start = 0n, end = 0n, flags = 0n] = line.split(" ").map(BigInt);
    if (flags !== 0n && end > start) resources.push({ index, start, size: end - start + 1n, flags });
  }
  return { resources, malformed };
}

/**
 * Adds to the BARs of config space the sizes of the kernel's resources, and those BARs that only the kernel knows:
 * registers that read 0 now (after a reset nobody restored), and virtual functions, whose registers always do.
 */
export function addResources(bars: Bar[], resources: readonly Resource[]): void {
  let added = false;
  for (const resource of resources) {
    const own = bars.find((bar) => bar.index === resource.index);
    if (own === undefined) bars.push(fromResource(resource));
    else {
      own.size = resource.size;
      own.address ||= assigned(resource);
    }
    added ||= own === undefined;
  }
  if (added) bars.sort((a, b) => place(a) - place(b));
}

function place(bar: Bar): number {
  return bar.index === "rom" ? LINES.length : bar.index;
}

function fromResource(resource: Resource): Bar {
  const { index, size, flags } = resource;
  return {
    index,
    kind: (flags & IORESOURCE_IO) !== 0n && (flags & IORESOURCE_MEM) === 0n ? "io" : "memory",
    address: assigned(resource),
    size,
    width: (flags & IORESOURCE_MEM_64) === 0n ? 32 : 64,
    prefetchable: (flags & IORESOURCE_PREFETCH) !== 0n,
    // The kernel keeps the ROM's range although its register is 0 and it answers nothing.
    disabled: index === "rom" || (flags & (IORESOURCE_DISABLED | IORESOURCE_UNSET)) !== 0n,
  };
}

/** A range without a place is counted from 0. */
function assigned({ start, flags }: Resource): bigint {
  return (flags & IORESOURCE_UNSET) === 0n ? start : 0n;
}
