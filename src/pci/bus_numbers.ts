import { type PciAddress, splitAddress } from "./address.js";
import type { PciFunction } from "./function.js";

const BUSES = 256;

/** A bridge and the buses behind it, first to last. */
interface Range {
  bridge: PciFunction;
  domain: number;
  first: number;
  last: number;
}

/** A bus is taken by the range that begins nearest to it; by none (null) when two begin alike. */
interface Claim {
  first: number;
  range: Range | null;
}

/** What is known of a domain's 256 buses. */
interface Domain {
  /** Which bridge leads to a bus. */
  above: (Claim | undefined)[];
  /** Buses that show themselves as root buses. */
  roots: Set<number>;
}

/** The tree that bus numbers of bridges describe, as far as they make sense. */
export class BusNumbers {
  readonly #domains = new Map<number, Domain>();
  readonly #ranges: Range[] = [];
  readonly #damage: string[] = [];

  /** @throws AddressError when a function's address is none */
  constructor(functions: readonly PciFunction[]) {
    for (const fn of functions) {
      const { domain, bus } = splitAddress(fn.address);
      if (bus === 0 || isOnRootBus(fn)) this.#domain(domain).roots.add(bus);
      const range = this.#rangeOf(fn, domain, bus);
      if (range === undefined) continue;
      this.#ranges.push(range);
      this.#claim(range);
    }
  }

  /** The bridge that leads to a function's bus; null on a root bus; undefined when numbers cannot tell. */
  bridgeAbove(fn: PciFunction): PciFunction | null | undefined {
    const { domain, bus } = splitAddress(fn.address);
    const known = this.#domains.get(domain);
    const claim = known?.above[bus];
    if (claim !== undefined) return claim.range?.bridge;
    return known?.roots.has(bus) ? null : undefined;
  }

  /**
   * Reports numbers that make no sense, and ranges that overlap or leave that of the bridge above.
   * @param parentOf the bridge above a bridge; null on a root bus
   */
  report(parentOf: (bridge: PciAddress) => PciFunction | null | undefined, damage: string[]): void {
    for (const line of this.#damage) damage.push(line);
    const rangeOf = new Map(this.#ranges.map((range) => [range.bridge.address, range]));
    const siblings = new Map<string, Range[]>();
    for (const range of this.#ranges) {
      const parent = parentOf(range.bridge.address);
      const above = parent ? rangeOf.get(parent.address) : undefined;
      if (above?.domain === range.domain && (range.first < above.first || range.last > above.last)) {
        damage.push(`${describe(range)} reach outside ${describe(above)}, the bridge above`);
      }
      const key = `${parent?.address ?? ""} ${range.domain}`;
      const group = siblings.get(key);
      if (group === undefined) siblings.set(key, [range]);
      else group.push(range);
    }
    for (const group of siblings.values()) reportOverlaps(group, damage);
  }

  #rangeOf(bridge: PciFunction, domain: number, bus: number): Range | undefined {
    const { buses } = bridge;
    // Secondary bus 0 is what a bridge has before anyone gave it numbers.
    if (buses === undefined || buses.secondary === 0) return undefined;
    const { secondary: first, subordinate } = buses;
    if (!isBus(first) || !isBus(subordinate)) {
      this.#damage.push(`${bridge.address}: bus numbers ${first} and ${subordinate} are not all in 0..255`);
      return undefined;
    }
    if (first <= bus) {
      // Numbers grow downwards, so whoever follows them cannot go round in circles.
      this.#damage.push(`${bridge.address}: secondary bus ${hexBus(first)} is not beyond its own ${hexBus(bus)}`);
      return undefined;
    }
    if (subordinate < first) {
      const range = `${hexBus(first)} to ${hexBus(subordinate)}`;
      this.#damage.push(`${bridge.address}: bus range ${range} is inverted; only the first counts`);
    }
    return { bridge, domain, first, last: Math.max(first, subordinate) };
  }

  /** The innermost range has the highest first bus, for a bridge lies outside its own range. */
  #claim(range: Range): void {
    const { above } = this.#domain(range.domain);
    for (let bus = range.first; bus <= range.last; bus++) {
      const rival = above[bus];
      if (rival === undefined || rival.first < range.first) above[bus] = { first: range.first, range };
      else if (rival.first === range.first) rival.range = null;
    }
  }

  #domain(number: number): Domain {
    let domain = this.#domains.get(number);
    if (domain === undefined) {
      domain = { above: [], roots: new Set() };
      this.#domains.set(number, domain);
    }
    return domain;
  }
}

/** Root ports, integrated functions and host bridges are nowhere else. */
function isOnRootBus(fn: PciFunction): boolean {
  switch (fn.express?.type) {
    case "root-port":
    case "root-complex-endpoint":
    case "root-complex-event-collector":
      return true;
    case undefined:
      return fn.classCode !== undefined && fn.classCode >>> 8 === 0x0600;
    default:
      return false;
  }
}

function reportOverlaps(group: Range[], damage: string[]): void {
  group.sort((a, b) => a.first - b.first || a.last - b.last);
  let widest: Range | undefined;
  for (const range of group) {
    if (widest !== undefined && range.first <= widest.last) {
      damage.push(`${describe(range)} overlap ${describe(widest)}`);
    }
    if (widest === undefined || range.last > widest.last) widest = range;
  }
}

function describe({ bridge, first, last }: Range): string {
  return `buses ${hexBus(first)} to ${hexBus(last)} of ${bridge.address}`;
}

function isBus(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < BUSES;
}

function hexBus(bus: number): string {
  return bus.toString(16).padStart(2, "0");
}
