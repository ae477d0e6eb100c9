import type { StatusJson } from "../../../cli/serve/serving_json.js";
import { HOST, ownersOf } from "../../../isolation/assignment.js";
import { canCut } from "../../../isolation/links.js";
import type { GpuPlan, Plan } from "../../../isolation/plan.js";
import { isolationRefusal, servingPlan, servingRefusal, servingResets } from "../../../isolation/serving_plan.js";
import { isCutHere } from "../../../machine/link_state.js";
import type { Assignment, Gpu, Machine } from "../../../machine/machine.js";
import { isReadable, LINK_DISABLE, partFacts } from "../../../machine/part.js";
import type { PciAddress } from "../../../pci/address.js";
import { changesBetween, changeTexts } from "./assignment_changes.js";

/** What a plan would make of one GPU. */
export interface GpuPreview {
  name: string;
  address: PciAddress;
  part: string;
  owner: string;
  ownerNow: string;
  /** Who may not have it but the host, and why. */
  unassignable?: string;
  /** The disable mask as it was read: null where it was not. */
  maskNow: number | null;
  /** The disable mask as it is to be; null on a part that has none, and where nothing is touched. */
  mask: number | null;
  kept: number[];
  cut: number[];
  /** Links that are not cut now and will be. */
  newlyCut: number[];
  /** Links that are cut now and are to come up. */
  restored: number[];
  /** Nothing of it is written: why. */
  untouched?: string;
  /** It is reset when the plan is applied. */
  reset: boolean;
  /** Who is connected to it or one of its NPU bridges now. */
  client?: string;
}

/** What would be, and what stands in the way. */
export interface Preview {
  plan: Plan;
  gpus: GpuPreview[];
  /** As `linkfence assign` takes them. */
  texts: string[];
  /** Links between two owners, or to a far end nobody knows, that are cut at one end at least. */
  cutLinks: number;
  /** Why a server refuses this, a sentence each. */
  refusals: string[];
  /** Names of the GPUs that are reset when it is applied. */
  resets: string[];
}

/** Assignments that there are, as a plan takes them. */
export function currentAssignments({ assignments }: Pick<StatusJson, "assignments">): Assignment[] {
  return assignments.map(({ name, members }) => ({ name, members }));
}

/** What a server would make of these assignments, all that there are to be, from what the registers say now. */
export function previewOf(
  machine: Machine,
  assignments: readonly Assignment[],
  status: Pick<StatusJson, "assignments" | "functions">,
  planning: { includeHost: boolean; isolateNvlink?: boolean },
): Preview {
  const current = currentAssignments(status);
  const [ownerNow, owner] = [ownersOf(machine, current), ownersOf(machine, assignments)];
  const served = new Map(status.functions.map((each) => [each.address, each]));
  const leaving = machine.gpus.flatMap(({ address }) => {
    const isServed = (served.get(address)?.socket ?? null) !== null;
    return isServed && owner(address) !== ownerNow(address) ? [address] : [];
  });
  const plan = servingPlan(machine, assignments, { ...planning, leaving });
  const changes = changesBetween(current, assignments);
  const moved = machine.gpus.flatMap(({ address }) => {
    const unserved = owner(address) !== HOST && (served.get(address)?.socket ?? null) === null;
    return unserved || owner(address) !== ownerNow(address) ? [address] : [];
  });
  const resets = new Set(changes.length === 0 ? [] : servingResets(plan, new Set(moved)));
  const machines = new Map(machine.gpus.map((gpu) => [gpu.address, gpu]));
  return {
    plan,
    gpus: plan.gpus.flatMap((each) => {
      const gpu = machines.get(each.address);
      if (gpu === undefined) return [];
      const functions = [each.address, ...gpu.bridges].map((address) => served.get(address)?.client ?? null);
      const client = functions.find((occupant) => occupant !== null);
      return [
        {
          ...linksOf(gpu, each),
          ownerNow: ownerNow(each.address),
          reset: resets.has(each.address),
          ...(client !== undefined && client !== null && { client: `process ${client.pid}` }),
        },
      ];
    }),
    texts: changeTexts(machine, changes),
    cutLinks: plan.crossLinks.filter(({ cutAt }) => cutAt !== "none").length,
    refusals: refusalsOf(machine, assignments, plan, status),
    resets: plan.gpus.flatMap(({ name, address }) => (resets.has(address) ? [name] : [])),
  };
}

function linksOf(gpu: Gpu, plan: GpuPlan): Omit<GpuPreview, "ownerNow" | "reset"> {
  const { name, address, part, assignment, untouched } = plan;
  const known = canCut(gpu);
  const cutNow = new Set(gpu.links.flatMap((link) => (isCutHere(part, link) ? [link.number] : [])));
  const listed = new Set(gpu.links.map(({ number }) => number));
  return {
    name,
    address,
    part: gpu.nvlink === "none" ? "no NVLink" : known ? part : "unknown part",
    owner: assignment,
    ...(!known && { unassignable: "only the host can have it: linkfence has no fence for this part" }),
    ...(untouched && { untouched: known ? "not touched: a driver of the host has it" : "not touched" }),
    maskNow: maskNow(gpu),
    mask: untouched ? null : plan.disableMask,
    kept: plan.keptLinks,
    cut: untouched ? [] : plan.cutLinks,
    newlyCut: untouched ? [] : plan.cutLinks.filter((link) => listed.has(link) && !cutNow.has(link)),
    restored: untouched ? [] : plan.keptLinks.filter((link) => cutNow.has(link)),
  };
}

/** The disable mask, where it was read and says the same at every link. */
function maskNow({ part, links }: Gpu): number | null {
  if (partFacts(part)?.interface !== "mask") return null;
  const read = links.flatMap(({ evidence }) => evidence?.registers ?? []);
  const values = new Set(read.flatMap(({ offset, value }) => (offset === LINK_DISABLE ? [value] : [])));
  const [value] = values;
  return values.size === 1 && value !== undefined && isReadable(value) ? value >>> 0 : null;
}

/** A server refuses a plan before it looks at who is connected; both are to be mended. */
function refusalsOf(
  machine: Machine,
  assignments: readonly Assignment[],
  plan: Plan,
  { functions }: Pick<StatusJson, "functions">,
): string[] {
  const isolation = isolationRefusal(plan);
  const serving = isolation === undefined ? servingRefusal(machine, assignments, plan) : undefined;
  const owner = ownersOf(machine, assignments);
  const attached = functions.flatMap(({ name, address, assignment, client }) =>
    client === null || owner(address) === assignment
      ? []
      : [`process ${client.pid} is connected to ${name} of ${assignment}, which would change its owner; end it first`],
  );
  return [
    ...(isolation === undefined ? [] : [`the plan does not isolate: ${isolation}`]),
    ...(serving === undefined ? [] : [serving]),
    ...attached,
  ];
}
