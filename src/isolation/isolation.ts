import type { IommuGroup, Machine } from "../machine/machine.js";
import { compareAddresses, type PciAddress } from "../pci/address.js";
import { Hierarchy } from "../pci/hierarchy.js";
import { enableAllAcs, type PcieJoin, pcieJoins } from "./acs_groups.js";
import { DisjointSets } from "./disjoint_sets.js";
import { isolateNvlink } from "./kernel_parameters.js";
import { canCut, type GpuPair, type LinkEnd, LinkGraph, linkNumbers } from "./links.js";
import { kernelHasNpu, powernvGroups } from "./powernv_groups.js";

/** Two functions (or a GPU and an NVSwitch) that are joined directly, why, and what would separate them. */
export interface JoinedPair {
  a: string;
  b: string;
  via: "pcie" | "nvlink" | "nvswitch";
  reason: string;
  /** The action that separates them; null when none is known. */
  action: string | null;
}

/** What the kernel's groups say, what linkfence computes, and what is separated now and could be. */
export interface Isolation {
  /** The kernel's own groups; for a virtual machine the groups its kernel would form. Empty when not known. */
  kernel: PciAddress[][];
  /** The groups by the kernel's rules, from what the source tells of the hardware. */
  computed: PciAddress[][];
  /** Sets that hardware state does not separate at this moment: no ACS, or a link that is not cut. */
  now: string[][];
  /** Sets that no known action separates. */
  possible: string[][];
  pairs: JoinedPair[];
  notes: string[];
}

/** Settings that stand in for what a running kernel would have been booted with. */
export interface IsolationOptions {
  /** The kernel parameter `isolate_nvlink`; by default what the machine's kernel command line says. */
  isolateNvlink?: boolean;
}

/**
 * Isolation now and possible, with a reason and an action for every pair that is joined directly.
 * @param graph the machine's links, where the caller has sorted them already
 */
export function isolation(
  machine: Machine,
  options: IsolationOptions = {},
  graph: LinkGraph = new LinkGraph(machine),
): Isolation {
  const pcie = machine.platform === "powernv" ? powernvIsolation(machine, options) : acsIsolation(machine);
  const links = linkJoins(graph);
  return {
    kernel: machine.groups?.map((group) => group.members) ?? (machine.virtual ? pcie.computed : []),
    computed: pcie.computed,
    now: setsOf(machine, [...pcie.now, ...links]),
    possible: setsOf(machine, [...pcie.possible, ...links.filter((join) => join.action === null)]),
    pairs: [...pcie.now, ...links],
    notes: [...isolateNvlinkNotes(machine), ...groupNotes(machine, pcie.computed)],
  };
}

/** The groups that count for passthrough: the kernel's own where they are known, else the computed ones. */
export function effectiveGroups({ kernel, computed }: Isolation): PciAddress[][] {
  return kernel.length > 0 ? kernel : computed;
}

/** What PCIe does not keep apart now, and what of it nothing known would separate. */
interface PcieIsolation {
  computed: PciAddress[][];
  now: JoinedPair[];
  possible: JoinedPair[];
}

/** A compound group is powernv's answer to NVLink, not to PCIe: below it every partitionable endpoint is apart. */
function powernvIsolation(machine: Machine, options: IsolationOptions): PcieIsolation {
  const computed = powernvGroups(machine, wantsIsolation(machine, options));
  const now = powernvGroups(machine, true).flatMap((group) => star(group, "one partitionable endpoint group"));
  return { computed, now, possible: now };
}

/** By ACS; the kernel's own groups stand where there are any. */
function acsIsolation(machine: Machine): PcieIsolation {
  const hierarchy = new Hierarchy(machine.functions);
  const now = pcieJoins(machine.functions, hierarchy);
  const possible = pcieJoins(machine.functions, hierarchy, enableAllAcs);
  const computed = setsOf(machine, pcie(now));
  if (machine.groups === undefined) return { computed, now: pcie(now), possible: pcie(possible) };
  return { computed, ...kernelJoins(machine, machine.groups, now, possible) };
}

function wantsIsolation(machine: Machine, options: IsolationOptions): boolean {
  return options.isolateNvlink ?? isolateNvlink(machine.kernel?.commandLine ?? "").on;
}

function pcie(joins: readonly PcieJoin[]): JoinedPair[] {
  return joins.map((join) => ({ ...join, via: "pcie" }));
}

/** All functions (and whatever else is joined to them) in sets that the pairs join. */
function setsOf(machine: Machine, joins: readonly JoinedPair[]): string[][] {
  const sets = new DisjointSets<string>();
  for (const fn of machine.functions) sets.add(fn.address);
  for (const { a, b } of joins) sets.join(a, b);
  return sets.sets();
}

/** Pairs that make a set of a list: everybody with the first. */
function star(members: readonly PciAddress[], reason: string): JoinedPair[] {
  const [first, ...rest] = members;
  return first === undefined ? [] : rest.map((b) => ({ a: first, b, via: "pcie", reason, action: null }));
}

/**
 * The kernel's groups as pairs, with our reasons where our rules explain the group, and split for "possible" only where
 * they do: a group we cannot explain is one we know no way to split.
 */
function kernelJoins(
  machine: Machine,
  groups: readonly IommuGroup[],
  computed: readonly PcieJoin[],
  possible: readonly PcieJoin[],
): { now: JoinedPair[]; possible: JoinedPair[] } {
  const byRules = new DisjointSets<PciAddress>();
  for (const { a, b } of computed) byRules.join(a, b);
  const groupOf = new Map(groups.flatMap(({ id, members }) => members.map((member) => [member, id] as const)));
  const known = new Set(machine.functions.map((fn) => fn.address));
  const inside = ({ a, b }: PcieJoin) => groupOf.has(a) && groupOf.get(a) === groupOf.get(b);
  const explained = new Set<number>();
  const unexplained: JoinedPair[] = [];
  for (const { id, members } of groups) {
    const [first] = members;
    const present = members.filter((member) => known.has(member));
    if (first !== undefined && members.every((member) => byRules.joined(first, member))) explained.add(id);
    else unexplained.push(...star(present, `IOMMU group ${id} of the kernel`));
  }
  const within = (joins: readonly PcieJoin[]) =>
    pcie(joins.filter((join) => inside(join) && explained.has(groupOf.get(join.a) ?? -1)));
  return { now: [...within(computed), ...unexplained], possible: [...within(possible), ...unexplained] };
}

/** Every pair that NVLink joins now. A link whose far end is unknown may end at any other such link. */
function linkJoins(graph: LinkGraph): JoinedPair[] {
  const joins: JoinedPair[] = [];
  for (const pair of graph.pairs) {
    const join = pairJoin(graph, pair);
    if (join !== undefined) joins.push(join);
  }
  for (const end of uncut(graph, graph.toBridges)) {
    if (end.link.far.kind !== "bridge") continue;
    const own = end.gpu.bridges.includes(end.link.far.bridge);
    joins.push({
      a: end.gpu.address,
      b: end.link.far.bridge,
      via: "nvlink",
      reason: `NVLink ${end.link.number} of ${end.gpu.name} to ${own ? "its own" : "another GPU's"} NPU bridge`,
      action: own || !canCut(end.gpu) ? null : `cut link ${end.link.number} of ${end.gpu.name}`,
    });
  }
  for (const [name, ends] of graph.switches) {
    for (const { gpu, ends: own } of byGpu(uncut(graph, ends))) {
      joins.push({
        a: gpu.address,
        b: name,
        via: "nvswitch",
        reason: `${own.length} NVLinks of ${gpu.name} into NVSwitch ${name} not cut (${linkNumbers(own)})`,
        action: canCut(gpu) ? `cut ${linkNumbers(own)} of ${gpu.name}` : null,
      });
    }
  }
  const lost = byGpu(uncut(graph, graph.toUnknown));
  for (const { gpu, ends } of lost.slice(1)) {
    joins.push({
      a: lost[0]?.gpu.address ?? gpu.address,
      b: gpu.address,
      via: "nvlink",
      reason: `far ends of ${linkNumbers(ends)} of ${gpu.name} are not known and may be there`,
      action: canCut(gpu) ? `cut ${linkNumbers(ends)} of ${gpu.name}` : null,
    });
  }
  return joins;
}

/** Why two GPUs are joined by NVLink now, or undefined when every link between them is proven cut. */
export function pairJoin(graph: LinkGraph, { a, b, atA, atB }: GpuPair): JoinedPair | undefined {
  const [openA, openB] = [uncut(graph, atA), uncut(graph, atB)];
  const open = openA.length > 0 ? { gpu: a, ends: openA } : { gpu: b, ends: openB };
  if (open.ends.length === 0) return undefined;
  const cutter = [
    { gpu: a, ends: openA },
    { gpu: b, ends: openB },
  ].find(({ gpu, ends }) => ends.length > 0 && canCut(gpu));
  const count = Math.max(openA.length, openB.length);
  return {
    a: a.address,
    b: b.address,
    via: "nvlink",
    reason: `${count} NVLink${count === 1 ? "" : "s"} between ${a.name} and ${b.name} not cut (${linkNumbers(open.ends)} of ${open.gpu.name})`,
    action: cutter === undefined ? null : `cut ${linkNumbers(cutter.ends)} of ${cutter.gpu.name}`,
  };
}

/** The ends whose links nothing proves cut. */
export function uncut(graph: LinkGraph, ends: readonly LinkEnd[]): LinkEnd[] {
  return ends.filter((end) => graph.cutAt(end) === "none");
}

/** Link ends gathered by their GPU, in order. */
export function byGpu(ends: readonly LinkEnd[]): { gpu: LinkEnd["gpu"]; ends: LinkEnd[] }[] {
  const gathered = new Map<LinkEnd["gpu"], LinkEnd[]>();
  for (const end of ends) {
    const own = gathered.get(end.gpu);
    if (own === undefined) gathered.set(end.gpu, [end]);
    else own.push(end);
  }
  return [...gathered].map(([gpu, own]) => ({ gpu, ends: own }));
}

function isolateNvlinkNotes(machine: Machine): string[] {
  return isolateNvlink(machine.kernel?.commandLine ?? "").refused.map(
    (value) => `isolate_nvlink=${value} on the kernel command line is no truth value; the kernel ignores it`,
  );
}

/** Where the kernel's groups and ours differ, with the likely reason. */
function groupNotes(machine: Machine, computed: readonly PciAddress[][]): string[] {
  if (machine.groups === undefined) return [];
  const spelled = (members: readonly PciAddress[]) => [...members].sort(compareAddresses).join(" ");
  const ours = new Set(computed.map(spelled));
  const shown = new Set(machine.functions.map((fn) => fn.address));
  return machine.groups
    .filter(({ members }) => !ours.has(spelled(members.filter((member) => shown.has(member)))))
    .map(
      ({ id, members }) => `IOMMU group ${id} (${members.join(" ")}) differs from our rules: ${likelyReason(machine)}`,
    );
}

function likelyReason(machine: Machine): string {
  if (machine.platform === "powernv" && !kernelHasNpu(machine)) {
    return `Linux ${machine.kernel?.release} has no NPU support any more (removed in 5.13)`;
  }
  if (machine.platform === "powernv") return "the firmware may form other partitionable endpoints";
  if (machine.functions.every((fn) => fn.capabilities.length === 0)) {
    return "capabilities could not be read, so ours cannot see ACS; run as root";
  }
  return "likely an ACS quirk of the kernel's for this part, or an override on its command line";
}
