import type { Assignment, Machine, Unknown } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { acsOverrides } from "./acs_overrides.js";
import { ownersOf } from "./assignment.js";
import {
  byGpu,
  effectiveGroups,
  type Isolation,
  type IsolationOptions,
  isolation,
  pairJoin,
  uncut,
} from "./isolation.js";
import { canCut, type LinkEnd, LinkGraph, linkNumbers } from "./links.js";
import { pcieCrossings } from "./pcie_crossings.js";

/** A link as a finding names it. */
export interface FindingLink {
  gpu: string;
  link: number;
}

/** A path between two owners that should not be there, or something that may hide one. */
export interface Finding {
  kind: "nvlink" | "nvswitch" | "unknown-far-end" | "pcie" | "acs-override" | "disagreement";
  /** Addresses of the functions it is about. */
  functions: string[];
  links: FindingLink[];
  reason: string;
  action: string;
}

/** What an audit says. */
export interface Audit {
  findings: Finding[];
  unknown: Unknown[];
  notes: string[];
}

/** Whether two functions have one owner, and how to name an owner in a sentence. */
interface Ownership {
  ownerOf(address: string): string;
  /** Set when assignments were given; without, every IOMMU group is an owner. */
  byAssignment: boolean;
}

/**
 * Everything that crosses between two owners. With assignments each of them is an owner (and the host); without, each
 * IOMMU group is, since that is what passthrough goes by. A GPU without a group is its own.
 */
export function audit(machine: Machine, assignments: readonly Assignment[], options: IsolationOptions = {}): Audit {
  const graph = new LinkGraph(machine);
  const state = isolation(machine, options, graph);
  const ownership =
    assignments.length > 0
      ? { ownerOf: ownersOf(machine, assignments), byAssignment: true }
      : { ownerOf: groupOwners(state), byAssignment: false };
  const findings = [
    ...pairFindings(graph, ownership),
    ...bridgeFindings(machine, graph, ownership),
    ...switchFindings(graph, ownership),
    ...unknownFindings(machine, graph),
    ...(ownership.byAssignment ? pcieFindings(machine, state, ownership) : []),
    ...overrideFindings(machine),
    ...disagreementFindings(machine),
  ];
  return { findings, unknown: machine.unknown, notes: state.notes };
}

function groupOwners(state: Isolation): (address: string) => string {
  const groups = effectiveGroups(state);
  const owner = new Map<PciAddress, string>();
  groups.forEach((members, index) => {
    for (const member of members) owner.set(member, `group ${index}`);
  });
  return (address) => owner.get(address) ?? address;
}

function pairFindings(graph: LinkGraph, { ownerOf, byAssignment }: Ownership): Finding[] {
  return graph.pairs.flatMap((pair): Finding[] => {
    const [ownerA, ownerB] = [ownerOf(pair.a.address), ownerOf(pair.b.address)];
    const join = ownerA === ownerB ? undefined : pairJoin(graph, pair);
    if (join === undefined) return [];
    const reason = byAssignment
      ? `${ownerA} (${pair.a.name}) and ${ownerB} (${pair.b.name}) reach each other: ${join.reason}`
      : `IOMMU groups separate ${pair.a.name} and ${pair.b.name}, NVLink joins them: ${join.reason}`;
    return [
      {
        kind: "nvlink",
        functions: [pair.a.address, pair.b.address],
        links: [...uncut(graph, pair.atA), ...uncut(graph, pair.atB)].map(findingLink),
        reason,
        action: `${join.action ?? "no fence is known for these parts"}, or give both to one owner`,
      },
    ];
  });
}

function bridgeFindings(machine: Machine, graph: LinkGraph, { ownerOf }: Ownership): Finding[] {
  const gpuOf = new Map(machine.bridges.map((bridge) => [bridge.address, bridge.gpu]));
  return uncut(graph, graph.toBridges).flatMap((end): Finding[] => {
    const { gpu, link } = end;
    if (link.far.kind !== "bridge") return [];
    const { bridge } = link.far;
    const other = gpuOf.get(bridge);
    // Without a group of its own a bridge goes with the GPU that it belongs to.
    const owner = ownerOf(bridge) === bridge && other !== undefined ? ownerOf(other) : ownerOf(bridge);
    if (owner === ownerOf(gpu.address)) return [];
    return [
      {
        kind: "nvlink",
        functions: [gpu.address, bridge],
        links: [findingLink(end)],
        reason: `link ${link.number} of ${gpu.name} ends at NPU bridge ${bridge}, which has another owner`,
        action: canCut(gpu) ? `cut link ${link.number} of ${gpu.name}` : `give ${bridge} to the owner of ${gpu.name}`,
      },
    ];
  });
}

function switchFindings(graph: LinkGraph, { ownerOf }: Ownership): Finding[] {
  return [...graph.switches].flatMap(([name, ends]): Finding[] => {
    const open = byGpu(uncut(graph, ends));
    const owners = new Set(open.map(({ gpu }) => ownerOf(gpu.address)));
    if (owners.size < 2) return [];
    const gpus = open.map(({ gpu }) => gpu);
    return [
      {
        kind: "nvswitch",
        functions: gpus.map((gpu) => gpu.address),
        links: open.flatMap(({ ends: own }) => own.map(findingLink)),
        reason: `NVSwitch ${name} joins ${owners.size} owners: ${gpus.map((gpu) => gpu.name).join(", ")}`,
        action: gpus.every(canCut)
          ? "cut their links into it, or give all these GPUs to one owner"
          : "partition the switch with the Fabric Manager, or give all these GPUs to one owner",
      },
    ];
  });
}

/** One finding per GPU whose links may end anywhere. */
function unknownFindings(machine: Machine, graph: LinkGraph): Finding[] {
  const open = new Map(byGpu(uncut(graph, graph.toUnknown)).map(({ gpu, ends }) => [gpu, ends]));
  return machine.gpus.flatMap((gpu): Finding[] => {
    const ends = open.get(gpu) ?? [];
    const silent = gpu.links.length === 0 && gpu.nvlink !== "none";
    if (ends.length === 0 && !silent) return [];
    const what = silent ? "its NVLinks are not known" : `far ends not known (${linkNumbers(ends)})`;
    const part = gpu.part === "unknown" ? "a part without a fence" : gpu.part;
    return [
      {
        kind: "unknown-far-end",
        functions: [gpu.address],
        links: ends.map(findingLink),
        reason: `${gpu.name === gpu.address ? gpu.address : `${gpu.name} (${gpu.address})`}, ${part}: ${what}`,
        action: "tell where its links end: --nvlink FILE with the output of nvidia-smi nvlink -p, or a device tree",
      },
    ];
  });
}

function pcieFindings(machine: Machine, state: Isolation, { ownerOf }: Ownership): Finding[] {
  const pcie = state.pairs.filter((pair) => pair.via === "pcie");
  return pcieCrossings(machine, pcie, ownerOf).map(({ owners, members, reason, action }) => ({
    kind: "pcie",
    functions: members,
    links: [],
    reason: `PCIe does not separate ${owners.join(" and ")} (${members.slice(0, 8).join(" ")}${members.length > 8 ? " ..." : ""}): ${reason}`,
    action,
  }));
}

function overrideFindings(machine: Machine): Finding[] {
  return acsOverrides(machine).map(({ parameter, gpus, functions, reason }) => ({
    kind: "acs-override",
    functions,
    links: [],
    reason: `${parameter} weakens the path of ${gpus.join(", ")}: ${reason}`,
    action: `boot without ${parameter}`,
  }));
}

function disagreementFindings(machine: Machine): Finding[] {
  return (machine.disagreements ?? []).map(({ gpus, reason }) => ({
    kind: "disagreement",
    functions: [...gpus],
    links: [],
    reason,
    action: "find out which source is right before you rely on either",
  }));
}

function findingLink({ gpu, link }: LinkEnd): FindingLink {
  return { gpu: gpu.name, link: link.number };
}
