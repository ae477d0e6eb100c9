import { HOST, nameProblem, ownersOf } from "../../../isolation/assignment.js";
import type { Assignment, Gpu, Machine } from "../../../machine/machine.js";
import type { PciAddress } from "../../../pci/address.js";
import { changesBetween } from "./assignment_changes.js";

/** Assignments as somebody would have them: those that there are, and what is to be different. */
export interface Draft {
  /** The assignments that it began with. */
  base: readonly Assignment[];
  /** New owners, in order. */
  added: readonly string[];
  /** Owners of the base that are taken out; they had no GPU left. */
  removed: readonly string[];
  /** GPUs that are given to somebody, by address. */
  moved: ReadonlyMap<PciAddress, string>;
}

/** A plan in which all stays as it is. */
export function newDraft(base: readonly Assignment[]): Draft {
  return { base, added: [], removed: [], moved: new Map() };
}

/** Whether nothing is to be different. */
export function isUntouched({ moved, removed }: Draft): boolean {
  return moved.size === 0 && removed.length === 0;
}

/** Everybody who may have a GPU: the host first, then the assignments in their order, then new owners. */
export function ownersIn({ base, added, removed }: Draft): string[] {
  return [HOST, ...base.map(({ name }) => name).filter((name) => !removed.includes(name)), ...added];
}

/** The draft with a GPU given to an owner. */
export function withMove(machine: Machine, draft: Draft, gpu: PciAddress, owner: string): Draft {
  const moved = new Map(draft.moved);
  if (ownersOf(machine, draft.base)(gpu) === owner) moved.delete(gpu);
  else moved.set(gpu, owner);
  return { ...draft, moved };
}

/** The draft with one more owner, who has nothing yet. */
export function withOwner(draft: Draft, name: string): Draft {
  return draft.removed.includes(name)
    ? { ...draft, removed: draft.removed.filter((each) => each !== name) }
    : { ...draft, added: [...draft.added, name] };
}

/** The draft without an owner who has no GPU. */
export function withoutOwner(draft: Draft, name: string): Draft {
  return draft.added.includes(name)
    ? { ...draft, added: draft.added.filter((each) => each !== name) }
    : { ...draft, removed: [...draft.removed, name] };
}

/** Why nobody new can be called so; undefined where somebody can. */
export function newOwnerProblem(draft: Draft, name: string): string | undefined {
  return ownersIn(draft).includes(name) ? `there is ${name} already` : nameProblem(name);
}

/** A name that nobody has: `vm1`, or the next. */
export function freeName(draft: Draft): string {
  const taken = new Set([...ownersIn(draft), ...draft.removed]);
  for (let number = 1; ; number++) if (!taken.has(`vm${number}`)) return `vm${number}`;
}

/**
 * All assignments as the draft has them, in the order in which a server would have them. What an assignment names of a GPU
 * that moves (its NPU bridges, other functions of its device) goes with it.
 */
export function assignmentsOf(machine: Machine, draft: Draft): Assignment[] {
  const { base, moved } = draft;
  const ownerBefore = ownersOf(machine, base);
  const gpuOf = gpuFinder(machine);
  const given = base.flatMap(({ name, members }) =>
    members.map((member) => {
      const gpu = gpuOf(member)?.address;
      const goes = gpu !== undefined && ownerBefore(gpu) === name;
      return { member, from: name, to: (goes ? moved.get(gpu) : undefined) ?? name };
    }),
  );
  const fromHost = machine.gpus.flatMap(({ address }) => {
    const to = ownerBefore(address) === HOST ? moved.get(address) : undefined;
    return to === undefined ? [] : [{ member: address, from: HOST, to }];
  });
  const owners = ownersIn(draft).filter((name) => name !== HOST);
  return owners.flatMap((name) => {
    const stay = given.filter(({ from, to }) => from === name && to === name);
    const come = [...given, ...fromHost].filter(({ from, to }) => from !== name && to === name);
    const members = [...stay, ...come].map(({ member }) => member);
    return members.length === 0 ? [] : [{ name, members }];
  });
}

/** The GPU that a member goes with: itself, or the GPU of this NPU bridge or device. */
function gpuFinder({ gpus, bridges }: Machine): (member: PciAddress) => Gpu | undefined {
  const byDevice = new Map(gpus.map((gpu) => [gpu.address.slice(0, -2), gpu]));
  const byAddress = new Map(gpus.flatMap((gpu) => gpu.bridges.map((bridge) => [bridge, gpu] as const)));
  for (const gpu of gpus) byAddress.set(gpu.address, gpu);
  const stray = new Set(bridges.map(({ address }) => address));
  return (member) => byAddress.get(member) ?? (stray.has(member) ? undefined : byDevice.get(member.slice(0, -2)));
}

/**
 * The draft by what is assigned now: what has come true, or has no wish of its own, begins with that. A draft whose base is
 * no more what is assigned is left as it is, for its owner to decide.
 */
export function settled(machine: Machine, draft: Draft, current: readonly Assignment[]): Draft {
  if (changesBetween(draft.base, current).length === 0) return draft;
  if (changesBetween(current, assignmentsOf(machine, draft)).length === 0) {
    return { ...newDraft(current), added: stillNew(draft.added, current) };
  }
  return isUntouched(draft) ? rebased(machine, draft, current) : draft;
}

/** The same moves, from other assignments. */
export function rebased(machine: Machine, draft: Draft, base: readonly Assignment[]): Draft {
  const ownerNow = ownersOf(machine, base);
  const known = new Set(base.map(({ name }) => name));
  const moved = new Map([...draft.moved].filter(([gpu, owner]) => ownerNow(gpu) !== owner));
  const wanted = [...moved.values()].filter((owner) => owner !== HOST);
  const removed = draft.removed.filter((name) => known.has(name) && !wanted.includes(name));
  return { base, added: stillNew([...draft.added, ...wanted], base), removed, moved };
}

function stillNew(names: readonly string[], base: readonly Assignment[]): string[] {
  const known = new Set(base.map(({ name }) => name));
  return [...new Set(names)].filter((name) => !known.has(name));
}
