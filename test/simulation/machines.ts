import { planToServe } from "../../src/cli/serve/servable_plan.js";
import { parseAssignments } from "../../src/isolation/assignment.js";
import { BUILTIN_MACHINES, builtinMachine } from "../../src/machine/builtin.js";
import type { Assignment, Bridge, FarEnd, Gpu, Machine, Part } from "../../src/machine/machine.js";
import { PART_FACTS } from "../../src/machine/part.js";
import type { Random } from "../fuzz/random.js";
import { gpu, machineOf, made, to } from "../made_up_machine.js";

const OWNERS = ["vm1", "vm2", "vm3", "vm4"] as const;
const PARTS = ["GV100", "GV100", "GA100", "GP100"] as const satisfies readonly Part[];

/** A machine that is built in, or a made-up one. */
export function randomMachine(random: Random): Machine {
  if (random.once(2)) {
    const names = BUILTIN_MACHINES.map(({ name }) => name);
    return builtinMachine(names[random.below(names.length)] ?? "sequoia");
  }
  return madeUpMachine(random);
}

/** Two to eight GPUs, of one part or of several, with links wherever there is room for one. */
function madeUpMachine(random: Random): Machine {
  const count = 2 + random.below(7);
  const mixed = random.once(3);
  const part = random.pick(PARTS);
  const parts = Array.from({ length: count }, () => (mixed ? random.pick(PARTS) : part));
  const addresses = parts.map((_, index) => `000${index}:01:00.0`);
  const ends = parts.map((each) => new Array<FarEnd>(PART_FACTS[each as "GV100"].links).fill({ kind: "none" }));
  const bridges = random.once(2) ? addBridges(random, parts, addresses, ends) : [];
  const free = (of: number) => ends[of]?.findIndex(({ kind }) => kind === "none") ?? -1;
  for (let left = 1 + random.below(4 * count); left > 0; left--) {
    const [a, b] = [random.below(count), random.below(count)];
    const [here, there] = [free(a), free(b)];
    if (a === b || here < 0 || there < 0) continue;
    (ends[a] as FarEnd[])[here] = to(addresses[b] ?? "", there);
    (ends[b] as FarEnd[])[there] = to(addresses[a] ?? "", here);
  }
  if (random.once(4)) {
    const last = free(0);
    if (last >= 0) (ends[0] as FarEnd[])[last] = { kind: "unknown" };
  }
  const gpus = addresses.map((address, index): Gpu => {
    const of = bridges.filter((bridge) => bridge.gpu === address).map((bridge) => bridge.address);
    return { ...gpu(address, `GPU${index}`, ends[index] ?? [], parts[index]), bridges: of };
  });
  const base = machineOf(gpus);
  const functions = bridges.map(({ address }) =>
    made(address, { parent: null, vendorId: 0x1014, classCode: 0x068001 }),
  );
  return { ...base, bridges, functions: [...base.functions, ...functions] };
}

/** One or two NPU bridges at the first links of each GPU whose part has them. */
function addBridges(random: Random, parts: Part[], addresses: string[], ends: FarEnd[][]): Bridge[] {
  return parts.flatMap((part, index) => {
    if (part === "GA100") return [];
    return Array.from({ length: 1 + random.below(2) }, (_, link): Bridge => {
      const address = `0100:0${index}:00.${link}`;
      (ends[index] as FarEnd[])[link] = { kind: "bridge", bridge: address };
      return { address, gpu: addresses[index] ?? "", linkIndex: link, npu: `npu${index >> 1}`, origin: "wiring" };
    });
  });
}

/** Assignments of some GPUs, as they are typed; perhaps ones that cannot be. */
export function randomAssignments(random: Random, machine: Machine): string[] {
  const members = new Map<string, string[]>();
  const owners = OWNERS.slice(0, 1 + random.below(OWNERS.length));
  for (const { name } of machine.gpus) {
    if (random.once(5)) continue;
    const owner = owners[random.below(owners.length)] ?? "vm1";
    members.set(owner, [...(members.get(owner) ?? []), name]);
  }
  return [...members].map(([owner, names]) => `${owner}=${names.join(",")}`);
}

/** Assignments that a server can begin with. */
export function firstAssignments(random: Random, machine: Machine): Assignment[] {
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      const assignments = parseAssignments(machine, randomAssignments(random, machine));
      planToServe(machine, assignments, { includeHost: false });
      return assignments;
    } catch {
      // Not these.
    }
  }
  return [];
}

/** A change as it is typed: mostly one that can be, of what is assigned now. */
export function randomChange(random: Random, machine: Machine, now: readonly Assignment[]): string[] {
  const name = random.pick(OWNERS);
  const way = random.below(10);
  if (way === 0) return [`${name}=`];
  if (way === 1) return randomAssignments(random, machine);
  const moved = machine.gpus[random.below(machine.gpus.length)]?.name ?? "";
  const namesOf = (members: readonly string[]) =>
    machine.gpus.filter(({ address }) => members.includes(address)).map((each) => each.name);
  const owner = now.find(({ members }) => namesOf(members).includes(moved))?.name;
  const rest = now.flatMap((each) => (each.name === owner ? namesOf(each.members).filter((gpu) => gpu !== moved) : []));
  const left = owner === undefined ? [] : [`${owner}=${rest.join(",")}`];
  if (owner === name || (owner !== undefined && way < 4)) return left;
  const others = now.flatMap((each) => (each.name === name ? namesOf(each.members) : []));
  return [...left, `${name}=${[...others, moved].join(",")}`];
}
