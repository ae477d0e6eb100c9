import type { Picture } from "./picture.js";
import { type Net, orderEnds, packRows } from "./routing.js";
import type { Wire } from "./wires.js";

/** A place at the lower edge of a GPU: a link's pin, a cell of an NPU bridge far below, or one above the other. */
export interface Column {
  /** Index of the wire; undefined above a bridge that no link is known to end at. */
  wire?: number;
  /** Which end of the wire; undefined where only the bridge at its far end is here. */
  end?: number;
  /** Index of the bridge. */
  bridge?: number;
}

/** Wires between the same two GPUs (or a GPU and another one's bridge), which run side by side. */
export interface Bundle {
  from: number;
  to: number;
  /** Indexes of wires, the one nearest to the GPUs first. */
  wires: number[];
  row: number;
}

/** An NVSwitch as a bar below the GPUs it joins. */
export interface Bar {
  name: string;
  from: number;
  to: number;
  wires: number[];
  row: number;
  /** At which side of the picture its name is. */
  side: "left" | "right";
}

/** Which column everything that leaves a GPU downwards is in, and which row it goes to. */
export interface Columns {
  /** By GPU, from left to right. */
  columns: Column[][];
  bundles: Bundle[];
  bars: Bar[];
}

const BARS = 1e6;
const BRIDGES = 2e6;

/** Works out rows and columns. */
export function columnsOf({ gpus, wires, bridges, switches }: Picture): Columns {
  const bridgeAt = new Map(bridges.map(({ address }, index) => [address, index]));
  const bridgeOf = ({ to }: Wire) => (to?.kind === "bridge" ? bridgeAt.get(to.address) : undefined);
  const spans = wires.map((wire) => spanOf(wire, bridges[bridgeOf(wire) ?? -1]?.gpu));
  const bundles = bundlesOf(wires, spans);
  const bars = barsOf(switches, wires, gpus.length);
  const depths = depthsOf(wires, bundles, bars);
  const nets: Net[] = wires.map((_, index) => ({ slots: spans[index] ?? [], depth: depths[index] ?? 0 }));
  const wired = new Set(wires.map(bridgeOf));
  const lonely = bridges.flatMap(({ gpu }, bridge) =>
    gpu === undefined || wired.has(bridge) ? [] : [{ gpu, bridge }],
  );
  nets.push(...lonely.map(({ gpu, bridge }) => ({ slots: [gpu], depth: 2 * BRIDGES + bridge })));
  const column = (net: number, end: number): Column => {
    const wire = wires[net];
    if (wire === undefined) return { bridge: lonely[net - wires.length]?.bridge ?? 0 };
    const bridge = bridgeOf(wire);
    if (bridge === undefined) return { wire: net, end };
    const [pin] = wire.ends;
    const slots = spans[net] ?? [];
    if (slots.length === 1)
      return bridges[bridge]?.gpu === pin.gpu ? { wire: net, end: 0, bridge } : { wire: net, end: 0 };
    return slots[end] === pin.gpu ? { wire: net, end: 0 } : { wire: net, bridge };
  };
  return {
    columns: orderEnds(gpus.length, nets).map((ends) => ends.map(({ net, end }) => column(net, end))),
    bundles,
    bars,
  };
}

/** The slots that a wire needs columns in, the left one first. */
function spanOf({ ends, to }: Wire, bridgeGpu: number | undefined): number[] {
  const slots = ends.map(({ gpu }) => gpu);
  if (to?.kind === "bridge" && bridgeGpu !== undefined && bridgeGpu !== slots[0]) slots.push(bridgeGpu);
  return slots.sort((a, b) => a - b);
}

function bundlesOf(wires: readonly Wire[], spans: readonly number[][]): Bundle[] {
  const found = new Map<string, Bundle>();
  wires.forEach((_, index) => {
    const [from, to] = spans[index] ?? [];
    if (from === undefined || to === undefined) return;
    const bundle = found.get(`${from} ${to}`) ?? { from, to, wires: [], row: 0 };
    bundle.wires.push(index);
    found.set(`${from} ${to}`, bundle);
  });
  const bundles = [...found.values()];
  packRows(bundles).forEach((row, index) => {
    const bundle = bundles[index];
    if (bundle === undefined) return;
    bundle.row = row;
    bundle.wires.reverse();
  });
  return bundles;
}

/** A row has a bar whose name is at the left, and one with its name at the right where they do not overlap. */
function barsOf(switches: readonly string[], wires: readonly Wire[], slots: number): Bar[] {
  const bars = switches.map((name): Bar => {
    return { name, from: slots, to: -1, wires: [], row: 0, side: "left" };
  });
  const byName = new Map(bars.map((bar) => [bar.name, bar]));
  wires.forEach(({ to, ends: [{ gpu }] }, index) => {
    const bar = to?.kind === "switch" ? byName.get(to.name) : undefined;
    if (bar === undefined) return;
    bar.wires.push(index);
    bar.from = Math.min(bar.from, gpu);
    bar.to = Math.max(bar.to, gpu);
  });
  const right = bars.filter((bar) => bar.from + bar.to > slots - 1 && bar.from > 0);
  const left = bars.filter((bar) => !right.includes(bar));
  left.forEach((bar, row) => {
    bar.row = row;
  });
  const leftEnd = left.reduce((most, { to }) => Math.max(most, to), -1);
  const apart = right.every(({ from }) => from > leftEnd);
  right.forEach((bar, row) => {
    bar.side = "right";
    bar.row = apart ? row : left.length + row;
  });
  return bars;
}

function depthsOf(wires: readonly Wire[], bundles: readonly Bundle[], bars: readonly Bar[]): number[] {
  const depths = wires.map(({ to }, index) => (to?.kind === "bridge" ? BRIDGES + index : 0));
  for (const { row, wires: members } of bundles) {
    members.forEach((wire, place) => {
      depths[wire] = (row * members.length + place) / members.length;
    });
  }
  for (const { row, wires: members } of bars) for (const wire of members) depths[wire] = BARS + row;
  return depths;
}
