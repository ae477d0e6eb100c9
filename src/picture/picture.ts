import { HOST, ownersOf } from "../isolation/assignment.js";
import { audit, type Finding } from "../isolation/findings.js";
import { effectiveGroups, type IsolationOptions, isolation } from "../isolation/isolation.js";
import { LinkGraph } from "../isolation/links.js";
import type { PlanProblem } from "../isolation/plan_problems.js";
import type { Assignment, Gpu, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { pcieTree, type TreeNode } from "./pcie_tree.js";
import { type Wire, wiresOf } from "./wires.js";

/** What there is to see of a machine, before anybody has said where: every rendering is made from this. */
export interface Picture {
  machine: string;
  virtual: boolean;
  /** It shows what is planned, not what registers say. */
  planned?: true;
  /** Where the machine was read from. */
  source: string;
  /** Sockets, and below them the PCIe tree down to the GPUs. */
  sockets: TreeNode[];
  /** From left to right: in the order of the tree's leaves. */
  gpus: PicturedGpu[];
  wires: Wire[];
  /** NVSwitches that links lead to, by name. */
  switches: string[];
  bridges: PicturedBridge[];
  /** Assignments with members, in the order given. */
  owners: string[];
  findings: PicturedFinding[];
}

/** A GPU, and what it belongs to. */
export interface PicturedGpu {
  name: string;
  address: PciAddress;
  part: string;
  /** The assignment's name; `host` for none, undefined where nothing is assigned at all. */
  owner?: string;
  /** Its IOMMU group, by the kernel's number or else the place in linkfence's own list. */
  group?: PicturedGroup;
  /** Numbers of findings about it that are about no link. */
  findings: number[];
}

/** An IOMMU group that has a GPU. */
export interface PicturedGroup {
  id: number;
  /** Its members that are neither GPUs nor NPU bridges: ports, other functions of the card. */
  others: number;
  /** Real hardware whose kernel's groups are not known: it is what our rules make of what was read. */
  computed?: true;
}

/** An NPU bridge, drawn below its GPU. */
export interface PicturedBridge {
  address: PciAddress;
  /** Index of the GPU it belongs to; undefined where nobody says. */
  gpu: number | undefined;
  linkIndex: number;
  npu: string;
  owner?: string;
}

/** A finding with the number by which the picture refers to it, from 1. */
export type PicturedFinding = Pick<Finding, "reason" | "action"> & {
  number: number;
  kind: Finding["kind"] | PlanProblem["kind"];
};

/** Makes the picture of a machine. Linear in the number of links, but for what sorting takes. */
export function pictureOf(
  machine: Machine,
  assignments: readonly Assignment[] = [],
  options: IsolationOptions = {},
): Picture {
  const { sockets, order } = pcieTree(machine);
  const given = assignments.filter(({ members }) => members.length > 0);
  const { findings } = audit(machine, given, options);
  const graph = new LinkGraph(machine);
  const index = new Map(order.map((gpu, place) => [gpu.address, place]));
  const ownerOf = given.length > 0 ? ownersOf(machine, given) : undefined;
  const owner = (address: PciAddress) => (ownerOf === undefined ? {} : { owner: ownerOf(address) });
  const groups = groupsOf(machine, options);
  return {
    machine: machine.name,
    virtual: machine.virtual,
    source: machine.source,
    sockets,
    gpus: order.map((gpu): PicturedGpu => {
      const { name, address, part } = gpu;
      const group = groups.get(address);
      return {
        name,
        address,
        part: gpu.nvlink === "none" ? "no NVLink" : part === "unknown" ? "unknown part" : part,
        ...owner(address),
        ...(group !== undefined && { group }),
        findings: findings.flatMap((finding, at) => (isAbout(finding, gpu) ? [at + 1] : [])),
      };
    }),
    wires: wiresOf(order, graph, findings),
    switches: [...graph.switches.keys()],
    bridges: machine.bridges.map(({ address, gpu, linkIndex, npu }) => ({
      address,
      gpu: index.get(gpu ?? "") ?? ownerByList(order, address),
      linkIndex,
      npu,
      ...owner(address),
    })),
    owners: given.map(({ name }) => name),
    findings: findings.map(({ kind, reason, action }, at) => ({ number: at + 1, kind, reason, action })),
  };
}

/** Whether anybody but the host owns it. */
export function isAssigned(owner: string | undefined): owner is string {
  return owner !== undefined && owner !== HOST;
}

/** Findings that name links are shown at the links. */
function isAbout(finding: Finding, gpu: Gpu): boolean {
  return finding.links.length === 0 && finding.functions.includes(gpu.address);
}

function ownerByList(gpus: readonly Gpu[], bridge: PciAddress): number | undefined {
  const place = gpus.findIndex((gpu) => gpu.bridges.includes(bridge));
  return place < 0 ? undefined : place;
}

/** The groups that have a GPU, by GPU. */
function groupsOf(machine: Machine, options: IsolationOptions): Map<PciAddress, PicturedGroup> {
  const gpus = new Set(machine.gpus.map(({ address }) => address));
  const bridges = new Set(machine.bridges.map(({ address }) => address));
  const computedOnly = machine.groups === undefined && !machine.virtual;
  const kernels = machine.groups?.map(({ id, members }) => ({ id, members }));
  const computed = () =>
    effectiveGroups(isolation(machine, options))
      .filter((members) => members.some((member) => gpus.has(member)))
      .map((members, id) => ({ id, members }));
  const groupOf = new Map<PciAddress, PicturedGroup>();
  for (const { id, members } of kernels ?? computed()) {
    const others = members.filter((member) => !gpus.has(member) && !bridges.has(member)).length;
    for (const member of members)
      if (gpus.has(member)) groupOf.set(member, { id, others, ...(computedOnly && { computed: true }) });
  }
  return groupOf;
}
