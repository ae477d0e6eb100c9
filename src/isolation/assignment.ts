import type { Assignment, Machine } from "../machine/machine.js";
import { isAddress, type PciAddress, parseAddress } from "../pci/address.js";

/** The owner of every GPU in no assignment. Reserved: nobody can name an assignment so. */
export const HOST = "host";

/** An assignment that makes no sense for the machine. */
export class AssignmentError extends Error {
  readonly code = "EASSIGN";
  constructor(message: string) {
    super(message);
    this.name = "AssignmentError";
  }
}

const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;

/**
 * Reads assignments as they are typed, `vm1=GPU0,GPU1`: members by slot label or address, NPU bridges and other
 * endpoints by address.
 * @throws AssignmentError for no `=`, an empty or reserved or repeated name, no members, or a member that the machine
 *   does not have or that is a PCI bridge.
 */
export function parseAssignments(machine: Machine, texts: readonly string[]): Assignment[] {
  const find = memberFinder(machine);
  const names = new Set<string>();
  return texts.map((text) => {
    const equals = text.indexOf("=");
    if (equals < 0) throw new AssignmentError(`--assign ${JSON.stringify(text)}: expected NAME=GPU[,GPU...]`);
    const name = text.slice(0, equals);
    const problem = nameProblem(name);
    if (problem !== undefined) throw new AssignmentError(problem);
    if (names.has(name))
      throw new AssignmentError(`assignment ${name} is given twice; list all its GPUs in one --assign`);
    names.add(name);
    const words = text.slice(equals + 1).split(",");
    if (words.every((word) => word.trim() === "")) throw new AssignmentError(`assignment ${name} has no GPUs`);
    return { name, members: [...new Set(words.map((word) => find(word.trim(), name)))] };
  });
}

/** Why an assignment cannot be called so: the name is empty, reserved or has characters that do not belong in a file name. */
export function nameProblem(name: string): string | undefined {
  // In any case, for whoever reads "HOST" in a table takes it for the host.
  if (name.toLowerCase() === HOST) return `"${name}" is reserved: GPUs in no assignment belong to the host already`;
  if (NAME.test(name)) return undefined;
  return `assignment name ${JSON.stringify(name)}: use 1 to 64 letters, digits, "_", "-" or ".", beginning with no "-" or "."`;
}

/** Members of more than one assignment, with the names of these. */
export function sharedMembers(assignments: readonly Assignment[]): Map<PciAddress, string[]> {
  const owners = new Map<PciAddress, string[]>();
  for (const { name, members } of assignments) {
    for (const member of members) {
      const names = owners.get(member);
      if (names === undefined) owners.set(member, [name]);
      else names.push(name);
    }
  }
  for (const [member, names] of owners) if (names.length < 2) owners.delete(member);
  return owners;
}

/**
 * Who owns each function: assignments own their members, the NPU bridges of their GPUs and the other functions of the
 * same device, unless an assignment names these itself; everything else belongs to the host.
 */
export function ownersOf(machine: Machine, assignments: readonly Assignment[]): (address: string) => string {
  const owners = new Map<PciAddress, string>();
  for (const { name, members } of assignments)
    for (const member of members) owners.set(member, owners.get(member) ?? name);
  const named = new Map(owners);
  for (const gpu of machine.gpus) {
    const owner = named.get(gpu.address);
    if (owner === undefined) continue;
    for (const bridge of gpu.bridges) if (!named.has(bridge)) owners.set(bridge, owner);
  }
  const devices = new Map([...named].map(([address, owner]) => [address.slice(0, -2), owner]));
  for (const { address } of machine.functions) {
    const owner = devices.get(address.slice(0, -2));
    if (owner !== undefined && !owners.has(address) && !isNpuBridge(machine, address)) owners.set(address, owner);
  }
  return (address) => owners.get(address) ?? HOST;
}

const bridgeSets = new WeakMap<Machine, Set<PciAddress>>();

/** NPU bridges of different GPUs are functions of one device, yet each goes with its own GPU. */
function isNpuBridge(machine: Machine, address: PciAddress): boolean {
  let bridges = bridgeSets.get(machine);
  if (bridges === undefined) {
    bridges = new Set(machine.bridges.map((bridge) => bridge.address));
    bridgeSets.set(machine, bridges);
  }
  return bridges.has(address);
}

function memberFinder(machine: Machine): (word: string, assignment: string) => PciAddress {
  const byName = new Map(machine.gpus.map((gpu) => [gpu.name.toLowerCase(), gpu.address]));
  const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
  const gpus = new Set(machine.gpus.map((gpu) => gpu.address));
  return (word, assignment) => {
    if (word === "")
      throw new AssignmentError(`assignment ${assignment} has an empty member; expected NAME=GPU[,GPU...]`);
    const named = byName.get(word.toLowerCase());
    if (named !== undefined) return named;
    if (isAddress(word)) {
      const address = parseAddress(word);
      if (functions.get(address)?.headerType === 1) {
        throw new AssignmentError(`assignment ${assignment}: ${address} is a PCI bridge, which nobody can own`);
      }
      if (gpus.has(address) || functions.has(address)) return address;
    }
    const known = machine.gpus.length === 0 ? "it has no GPUs" : `its GPUs are ${gpuNames(machine)}`;
    throw new AssignmentError(`assignment ${assignment}: ${machine.name} has no GPU ${JSON.stringify(word)}; ${known}`);
  };
}

function gpuNames(machine: Machine): string {
  const names = machine.gpus.slice(0, 16).map((gpu) => gpu.name);
  return `${names.join(", ")}${machine.gpus.length > names.length ? ", ..." : ""}`;
}
