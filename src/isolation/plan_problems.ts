import type { Assignment, Gpu, Machine } from "../machine/machine.js";
import { partFacts } from "../machine/part.js";
import type { PciAddress } from "../pci/address.js";
import { HOST } from "./assignment.js";
import type { JoinedPair } from "./isolation.js";
import type { LinkGraph } from "./links.js";
import { pcieCrossings } from "./pcie_crossings.js";
import type { CrossLink, GpuPlan } from "./plan.js";

/** Why a plan cannot isolate (`error`), or what weakens it (`warning`). */
export interface PlanProblem {
  kind:
    | "gpu-in-two-assignments"
    | "part-without-fence"
    | "bridge-in-another-assignment"
    | "host-gpu-bound"
    | "link-cannot-be-cut"
    | "link-out-of-range"
    | "far-end-cannot-be-cut-first"
    | "pcie-not-separated";
  severity: "error" | "warning";
  /** Names of the GPUs it is about. */
  gpus: string[];
  message: string;
  /** What to do about it. */
  action: string;
}

/** What the search for problems looks at. */
export interface PlanState {
  machine: Machine;
  assignments: readonly Assignment[];
  graph: LinkGraph;
  ownerOf: (address: string) => string;
  planOf: Map<PciAddress, GpuPlan>;
  crossLinks: readonly CrossLink[];
  drivers: Map<PciAddress, string | undefined>;
  /** What PCIe does not keep apart. */
  pcie: readonly JoinedPair[];
}

/** Everything that keeps a plan from isolating, or weakens it. */
export function planProblems(state: PlanState): PlanProblem[] {
  return [
    ...sharedMembers(state),
    ...state.machine.gpus.flatMap((gpu) => partProblems(gpu, state)),
    ...strayBridges(state),
    ...boundHostGpus(state),
    ...uncuttable(state),
    ...unsafeResets(state),
    ...sharedPcie(state),
  ];
}

function sharedMembers({ machine, assignments }: PlanState): PlanProblem[] {
  const names = new Map(machine.gpus.map((gpu) => [gpu.address, gpu.name]));
  const owners = new Map<PciAddress, string[]>();
  for (const { name, members } of assignments) {
    for (const member of members) owners.set(member, [...(owners.get(member) ?? []), name]);
  }
  return [...owners].flatMap(([member, by]) => {
    if (by.length < 2) return [];
    const name = names.get(member) ?? member;
    return {
      kind: "gpu-in-two-assignments",
      severity: "error",
      gpus: [name],
      message: `${name} is in ${by.length} assignments: ${by.join(", ")}`,
      action: "give it to one of them",
    };
  });
}

/** An unknown part is refused once it is handed out; links that its part does not have show a wrong description. */
function partProblems(gpu: Gpu, { ownerOf }: PlanState): PlanProblem[] {
  const facts = partFacts(gpu.part);
  const problems: PlanProblem[] = [];
  if (facts === undefined && gpu.nvlink !== "none" && ownerOf(gpu.address) !== HOST) {
    problems.push({
      kind: "part-without-fence",
      severity: "error",
      gpus: [gpu.name],
      message: `${gpu.name} (${gpu.address}) is no part that linkfence knows how to fence`,
      action: "leave it to the host; GP100, GV100 and GA100 can be fenced",
    });
  }
  const beyond = facts === undefined ? [] : gpu.links.filter((link) => link.number >= facts.links);
  if (facts !== undefined && beyond.length > 0) {
    problems.push({
      kind: "link-out-of-range",
      severity: "error",
      gpus: [gpu.name],
      message: `${gpu.name} lists link ${beyond.map((link) => link.number).join(", ")}, but a ${gpu.part} has links 0 to ${facts.links - 1}`,
      action: "correct the description of the machine",
    });
  }
  return problems;
}

function strayBridges({ machine, ownerOf }: PlanState): PlanProblem[] {
  const bridges = new Map(machine.bridges.map((bridge) => [bridge.address, bridge]));
  return machine.gpus.flatMap((gpu) =>
    gpu.bridges.flatMap((address): PlanProblem[] => {
      const bridge = bridges.get(address);
      const owner = ownerOf(address);
      const foreign = bridge?.gpu !== undefined && bridge.gpu !== gpu.address;
      if (owner === ownerOf(gpu.address) || (foreign && owner === ownerOf(bridge.gpu ?? ""))) return [];
      return [
        {
          kind: "bridge-in-another-assignment",
          severity: "error",
          gpus: [gpu.name],
          message: `${address}, an NPU bridge of ${gpu.name} (${ownerOf(gpu.address)}), is left in ${owner}`,
          action: `assign it to ${ownerOf(gpu.address)} together with ${gpu.name}`,
        },
      ];
    }),
  );
}

function boundHostGpus({ machine, planOf, graph, drivers, ownerOf }: PlanState): PlanProblem[] {
  return machine.gpus.flatMap((gpu): PlanProblem[] => {
    const driver = drivers.get(gpu.address);
    const plan = planOf.get(gpu.address);
    if (plan === undefined || plan.assignment !== HOST || !plan.untouched || driver === undefined) return [];
    const peers = new Set(
      gpu.links.flatMap(({ far }) => {
        const peer = far.kind === "gpu" ? graph.gpus.get(far.gpu) : undefined;
        return peer !== undefined && ownerOf(peer.address) !== HOST ? [peer.name] : [];
      }),
    );
    if (peers.size === 0) return [];
    return [
      {
        kind: "host-gpu-bound",
        severity: "warning",
        gpus: [gpu.name],
        message: `${gpu.name} belongs to the host and ${driver} drives it: its links to ${[...peers].join(", ")} are cut at one end`,
        action: "unbind it, or give --include-host to cut at both ends",
      },
    ];
  });
}

function uncuttable({ graph, crossLinks }: PlanState): PlanProblem[] {
  const open = new Map<string, CrossLink[]>();
  for (const link of crossLinks) {
    if (link.cutAt !== "none") continue;
    const key = `${link.gpu} ${link.far}`;
    const links = open.get(key);
    if (links === undefined) open.set(key, [link]);
    else links.push(link);
  }
  const name = (address: PciAddress | null) =>
    address === null ? "an unknown far end" : (graph.gpus.get(address)?.name ?? address);
  return [...open.values()].flatMap((links): PlanProblem[] => {
    const [first] = links;
    if (first === undefined) return [];
    return [
      {
        kind: "link-cannot-be-cut",
        severity: "error",
        gpus: [name(first.gpu), ...(first.far === null ? [] : [name(first.far)])],
        message: `link ${links.map((link) => link.link).join(", ")} of ${name(first.gpu)} to ${name(first.far)} cannot be cut at either end`,
        action: "put both ends into one assignment, or give --include-host when a host driver is in the way",
      },
    ];
  });
}

/** A GPU that must be reset joins all its links again for a moment: every far end has to be cuttable beforehand. */
function unsafeResets({ planOf, graph }: PlanState): PlanProblem[] {
  return [...planOf.values()].flatMap((gpu): PlanProblem[] => {
    if (!gpu.resetNeeded) return [];
    const stuck = new Set(
      (graph.gpus.get(gpu.address)?.links ?? []).flatMap(({ far }) => {
        const other = far.kind === "gpu" ? planOf.get(far.gpu) : undefined;
        return other?.untouched && other.assignment !== gpu.assignment ? [other.name] : [];
      }),
    );
    if (stuck.size === 0) return [];
    return [
      {
        kind: "far-end-cannot-be-cut-first",
        severity: "error",
        gpus: [gpu.name, ...stuck],
        message: `${gpu.name} needs a reset, which joins its links to ${[...stuck].join(", ")} again until it is fenced`,
        action: "unbind those GPUs or give --include-host, so that their ends are cut first",
      },
    ];
  });
}

/** Cutting links does not help two owners that reach each other over PCIe. */
function sharedPcie({ machine, pcie, ownerOf, graph }: PlanState): PlanProblem[] {
  // A bridge that went astray has a problem of its own.
  const gpuOf = new Map(machine.bridges.map((bridge) => [bridge.address, bridge.gpu]));
  return pcieCrossings(machine, pcie, (address) => ownerOf(gpuOf.get(address) ?? address)).map(
    ({ owners, members, reason, action }) => {
      const assignments = owners.filter((owner) => owner !== HOST);
      return {
        kind: "pcie-not-separated",
        severity: assignments.length > 1 ? "error" : "warning",
        gpus: members.flatMap((address) => graph.gpus.get(address)?.name ?? []),
        message: `PCIe does not separate ${owners.join(" and ")}: ${reason}`,
        action,
      };
    },
  );
}
