import type { Picture } from "./picture.js";
import type { Wire, WireState } from "./wires.js";

/** All wires between the same two GPUs, or of one GPU to the same kind of end, that are in one state. */
export interface Bond {
  /** GPUs by index, the left one first. */
  gpus: readonly number[];
  /** Link numbers at each of these GPUs, in the order of the wires; undefined where a GPU does not say. */
  links: (number | undefined)[][];
  /** Whether any wire is proven cut at each of these GPUs. */
  cut: boolean[];
  to?: "bridge" | "unknown";
  state: WireState;
  /** Numbers of findings about any of them. */
  findings: number[];
}

/** NVSwitches that the same GPUs lead to in the same way. */
export interface SwitchBond {
  names: string[];
  gpus: { gpu: number; links: number[]; state: WireState; bad: boolean }[];
  findings: number[];
}

/** Wires gathered by what they join and their state: what a terminal has room for. */
export function bondsOf({ wires }: Picture): Bond[] {
  const found = new Map<string, Bond>();
  for (const wire of wires) {
    const { ends, to, state } = wire;
    if (to?.kind === "switch" || to?.kind === "none") continue;
    const gpus = ends.map(({ gpu }) => gpu);
    const key = [...gpus, to?.kind, state].join(" ");
    const bond = found.get(key) ?? {
      gpus,
      links: gpus.map(() => []),
      cut: gpus.map(() => false),
      ...(to !== undefined && { to: to.kind }),
      state,
      findings: [],
    };
    found.set(key, bond);
    ends.forEach(({ link, cut }, end) => {
      bond.links[end]?.push(link);
      bond.cut[end] ||= cut;
    });
    addFindings(bond, wire);
  }
  const order = [...found.values()];
  return order.sort((a, b) => (a.gpus[0] ?? 0) - (b.gpus[0] ?? 0) || (a.gpus[1] ?? -1) - (b.gpus[1] ?? -1));
}

/** NVSwitches that differ in nothing but their names and the numbers of links, as one. */
export function switchBondsOf({ wires, switches }: Picture): SwitchBond[] {
  const bySwitch = new Map(switches.map((name) => [name, [] as Wire[]]));
  for (const wire of wires) if (wire.to?.kind === "switch") bySwitch.get(wire.to.name)?.push(wire);
  const found = new Map<string, SwitchBond>();
  for (const [name, own] of bySwitch) {
    const key = own.map(({ ends: [{ gpu }], state, findings }) => `${gpu} ${state} ${findings.length > 0}`).join(", ");
    const bond = found.get(key) ?? { names: [], gpus: [], findings: [] };
    found.set(key, bond);
    bond.names.push(name);
    for (const wire of own) {
      const { state, ends, findings } = wire;
      const [{ gpu, link }] = ends;
      const bad = findings.length > 0;
      const there = bond.gpus.find((one) => one.gpu === gpu && one.state === state && one.bad === bad);
      if (there === undefined) bond.gpus.push({ gpu, links: [link ?? 0], state, bad });
      else there.links.push(link ?? 0);
      addFindings(bond, wire);
    }
  }
  return [...found.values()];
}

function addFindings(bond: { findings: number[] }, { findings }: Wire): void {
  for (const number of findings) if (!bond.findings.includes(number)) bond.findings.push(number);
}
