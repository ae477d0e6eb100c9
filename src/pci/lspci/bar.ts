import type { Bar } from "../function.js";

/** A BAR as a listing prints it. */
export interface LspciBar {
  bar: Omit<Bar, "index">;
  /** Region number of `-vv`, `rom` for the expansion ROM; absent where the listing does not number regions. */
  index?: Bar["index"];
  /** The device holds no address, the kernel knows one: BARs of virtual functions. */
  virtual: boolean;
}

const BAR =
  /^(?:\[virtual\] )?(?:Region ([0-5]): )?(?:\[(?:virtual|enhanced)\] ){0,2}(Memory|I\/O ports|Expansion ROM) at (\S+)/;

/** Whether a line is one of a BAR. */
export function isBarLine(text: string): boolean {
  return BAR.test(text);
}

const UNIT: Readonly<Record<string, bigint>> = { "": 1n, K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

/** Reads a BAR line of any `lspci`; undefined when its address is none. `<unassigned>` and `<ignored>` are address 0. */
export function readBar(text: string): LspciBar | undefined {
  const [, region, what, place] = BAR.exec(text) ?? [];
  if (what === undefined || place === undefined) return undefined;
  const address = readPlace(place);
  if (address === undefined) return undefined;
  const size = readSize(text);
  const index = what === "Expansion ROM" ? "rom" : region === undefined ? undefined : Number(region);
  return {
    bar: {
      kind: what === "I/O ports" ? "io" : "memory",
      address,
      ...(size !== undefined && { size }),
      width: text.includes("(64-bit,") ? 64 : 32,
      prefetchable: /, prefetchable\)/.test(text),
      disabled: /\[disabled(?: by cmd)?\]/.test(text),
    },
    ...(index !== undefined && { index }),
    virtual: text.includes("[virtual]"),
  };
}

function readPlace(place: string): bigint | undefined {
  if (/^<[\w-]+>$/.test(place)) return 0n;
  return /^[0-9a-f]{1,16}$/i.test(place) ? BigInt(`0x${place}`) : undefined;
}

function readSize(text: string): bigint | undefined {
  const [, count, unit] = /\[size=(\d{1,12})([KMGT]?)\]/.exec(text) ?? [];
  return count === undefined ? undefined : BigInt(count) * (UNIT[unit ?? ""] ?? 1n);
}

const LAST_BAR = 5;

/**
 * Numbers the BARs of one function. `-v` prints them in order without numbers, so they are counted, 64-bit ones twice:
 * right unless the function leaves one out.
 * @returns the BARs, and how many were left over because there are only six
 */
export function numberBars(lines: readonly LspciBar[]): { bars: Bar[]; left: number } {
  const bars: Bar[] = [];
  let next = 0;
  let left = 0;
  let before: LspciBar | undefined;
  for (const line of lines) {
    const { bar, index = next } = line;
    const last = index === "rom" ? -1 : bar.width === 64 ? index + 1 : index;
    if (isUpperHalf(line, before)) continue;
    if (last > LAST_BAR || bars.some((other) => other.index === index)) {
      left++;
      continue;
    }
    if (index !== "rom") next = last + 1;
    bars.push({ index, ...bar });
    before = { ...line, index };
  }
  return { bars, left };
}

const FOUR_GIB = 1n << 32n;

/**
 * `lspci -F` of pciutils 3.6 and later shows the upper half of a 64-bit BAR as a region of its own, without an address,
 * when there are bits in it.
 */
function isUpperHalf({ bar, index }: LspciBar, before: LspciBar | undefined): boolean {
  if (before?.bar.width !== 64 || typeof before.index !== "number") return false;
  if (index !== undefined) return index === before.index + 1;
  return bar.address === 0n && bar.size === undefined && before.bar.address >= FOUR_GIB;
}
