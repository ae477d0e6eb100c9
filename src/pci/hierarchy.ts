import { compareAddresses, type PciAddress } from "./address.js";
import { BusNumbers } from "./bus_numbers.js";
import type { PciFunction } from "./function.js";

/** A PCIe switch: its upstream port and the downstream ports right below. */
export interface Switch {
  upstream: PciFunction;
  downstream: PciFunction[];
}

/** The way from one function to another through bridges. */
export interface Crossing {
  /** The deepest bridge above both; null when they meet at a host bridge or nobody knows where. */
  common: PciFunction | null;
  /** The bridges each side crosses before the common one, nearest first. */
  fromA: PciFunction[];
  fromB: PciFunction[];
}

interface Node {
  fn: PciFunction;
  /** The bridge above; null on a root bus; undefined when nobody knows. */
  parent: Node | null | undefined;
  children: Node[];
  /** Number of bridges above. */
  depth: number;
}

/**
 * Which function hangs under which bridge: by `parent` where the source says so, else by bus numbers. A function on a
 * bus that no known bridge leads to is on a root bus if that shows (bus 0, a root port, a host bridge); else its
 * parent is unknown. Loops and contradictions are cut open into unknown parents and reported, never followed.
 * Building takes time linear in the number of functions.
 */
export class Hierarchy {
  /** What is wrong with parents and bus numbers, in words; an address in each. */
  readonly damage: string[] = [];
  readonly switches: Switch[] = [];
  readonly #nodes = new Map<PciAddress, Node>();

  /** @throws AddressError when a function's address is none */
  constructor(functions: readonly PciFunction[]) {
    for (const fn of functions) {
      if (this.#nodes.has(fn.address)) this.damage.push(`${fn.address} is listed twice; the first one counts`);
      else this.#nodes.set(fn.address, { fn, parent: undefined, children: [], depth: 0 });
    }
    const buses = new BusNumbers([...this.#nodes.values()].map(({ fn }) => fn));
    for (const node of this.#nodes.values()) node.parent = this.#parentOf(node.fn, buses);
    this.#cutLoops();
    for (const node of this.#nodes.values()) node.parent?.children.push(node);
    this.#measure();
    buses.report((bridge) => this.parent(bridge), this.damage);
    for (const node of this.#nodes.values()) {
      if (node.fn.express?.type === "upstream-port") this.switches.push(toSwitch(node));
    }
  }

  /** The bridge above a function; null on a root bus; undefined when it is not known. */
  parent(address: PciAddress): PciFunction | null | undefined {
    const parent = this.#nodes.get(address)?.parent;
    return parent ? parent.fn : parent;
  }

  /** The functions right below a bridge, in address order. */
  children(bridge: PciAddress): PciFunction[] {
    return inOrder((this.#nodes.get(bridge)?.children ?? []).map(({ fn }) => fn));
  }

  /** The bridges above a function, nearest first, as far as they are known. */
  path(address: PciAddress): PciFunction[] {
    const bridges: PciFunction[] = [];
    for (let node = this.#nodes.get(address)?.parent; node; node = node.parent) bridges.push(node.fn);
    return bridges;
  }

  /**
   * The bus at the top of a function's path as `0000:00`: functions of one root bus share a host bridge. Undefined when
   * the path to it is not known.
   */
  rootBus(address: PciAddress): string | undefined {
    let node = this.#nodes.get(address);
    while (node?.parent) node = node.parent;
    return node?.parent === null ? node.fn.address.slice(0, -":00.0".length) : undefined;
  }

  /** The root port above a function, or the function itself if it is one; null when its path has none. */
  rootPort(address: PciAddress): PciFunction | null {
    const node = this.#nodes.get(address);
    const path = node === undefined ? [] : [node.fn, ...this.path(address)];
    return path.find((fn) => fn.express?.type === "root-port") ?? null;
  }

  /** Everything that a secondary bus reset of a bridge resets: all functions below, recursively, in address order. */
  resetBy(bridge: PciAddress): PciFunction[] {
    const hit: PciFunction[] = [];
    const pending = [...(this.#nodes.get(bridge)?.children ?? [])];
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      hit.push(node.fn);
      for (const child of node.children) pending.push(child);
    }
    return inOrder(hit);
  }

  /** The deepest bridge above both functions; null when they meet at a host bridge or nobody knows where. */
  common(a: PciAddress, b: PciAddress): PciFunction | null {
    return this.#commonNode(a, b)?.fn ?? null;
  }

  /** The bridges between two functions. */
  crossing(a: PciAddress, b: PciAddress): Crossing {
    const common = this.#commonNode(a, b);
    return { common: common?.fn ?? null, fromA: this.#pathBelow(a, common), fromB: this.#pathBelow(b, common) };
  }

  /** The switch nearest above a function; null when it has none. A downstream port is below its own switch. */
  switchAbove(address: PciAddress): Switch | null {
    return switchFrom(this.#nodes.get(address)?.parent);
  }

  /** The deepest switch that both functions are below; null when they share none. */
  sharedSwitch(a: PciAddress, b: PciAddress): Switch | null {
    return switchFrom(this.#commonNode(a, b));
  }

  #parentOf(fn: PciFunction, buses: BusNumbers): Node | null | undefined {
    if (fn.parent === null) return null;
    if (fn.parent !== undefined) {
      const parent = this.#nodes.get(fn.parent);
      if (parent === undefined) this.damage.push(`${fn.address}: the bridge above it, ${fn.parent}, is not listed`);
      return parent;
    }
    const bridge = buses.bridgeAbove(fn);
    return bridge ? this.#nodes.get(bridge.address) : bridge;
  }

  /** Follows every path upwards once; one that comes back to itself loses the step that closes the loop. */
  #cutLoops(): void {
    const sound = new Set<Node>();
    for (const start of this.#nodes.values()) {
      const path = new Set<Node>();
      let node: Node = start;
      while (!sound.has(node)) {
        path.add(node);
        const parent = node.parent;
        if (!parent) break;
        if (path.has(parent)) {
          this.damage.push(`${node.fn.address}: the bridge above it, ${parent.fn.address}, is also below it`);
          node.parent = undefined;
          break;
        }
        node = parent;
      }
      for (const passed of path) sound.add(passed);
    }
  }

  #measure(): void {
    const pending = [...this.#nodes.values()].filter((node) => !node.parent);
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      for (const child of node.children) {
        child.depth = node.depth + 1;
        pending.push(child);
      }
    }
  }

  #commonNode(a: PciAddress, b: PciAddress): Node | null {
    let left = this.#nodes.get(a)?.parent;
    let right = this.#nodes.get(b)?.parent;
    while (left && right && left !== right) {
      if (left.depth >= right.depth) left = left.parent;
      else right = right.parent;
    }
    return left && right ? left : null;
  }

  #pathBelow(address: PciAddress, end: Node | null): PciFunction[] {
    const bridges: PciFunction[] = [];
    for (let node = this.#nodes.get(address)?.parent; node && node !== end; node = node.parent) bridges.push(node.fn);
    return bridges;
  }
}

function toSwitch(upstream: Node): Switch {
  const ports = upstream.children.map(({ fn }) => fn).filter((fn) => fn.express?.type === "downstream-port");
  return { upstream: upstream.fn, downstream: inOrder(ports) };
}

/** The switch nearest at or above a bridge. */
function switchFrom(start: Node | null | undefined): Switch | null {
  for (let node = start; node; node = node.parent) {
    if (node.fn.express?.type === "upstream-port") return toSwitch(node);
  }
  return null;
}

function inOrder(functions: PciFunction[]): PciFunction[] {
  return functions.sort((a, b) => compareAddresses(a.address, b.address));
}
