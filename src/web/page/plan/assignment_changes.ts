import { shellWord } from "../../../cli/serve/qemu_arguments.js";
import { parseAssignments } from "../../../isolation/assignment.js";
import type { Assignment, Machine } from "../../../machine/machine.js";

/** What leads from some assignments to others: those that are new or have other members, and those that end, with none. */
export function changesBetween(before: readonly Assignment[], after: readonly Assignment[]): Assignment[] {
  const old = new Map(before.map(({ name, members }) => [name, members]));
  const kept = new Set(after.map(({ name }) => name));
  const changed = after.filter(({ name, members }) => !isSame(members, old.get(name)));
  return [...changed, ...before.flatMap(({ name }) => (kept.has(name) ? [] : [{ name, members: [] }]))];
}

function isSame(members: readonly string[], others: readonly string[] | undefined): boolean {
  return others !== undefined && members.length === others.length && members.every((each) => others.includes(each));
}

/**
 * Changes as `linkfence assign` and the API take them: `vm1=GPU0,GPU1`, and `vm3=` for one that ends. GPUs go by name
 * where every name of an assignment is read as that GPU, else by address.
 */
export function changeTexts(machine: Machine, changes: readonly Assignment[]): string[] {
  const names = new Map(machine.gpus.map(({ address, name }) => [address, name]));
  return changes.map(({ name, members }) => {
    const named = `${name}=${members.map((member) => names.get(member) ?? member).join()}`;
    return isReadAs(machine, named, members) ? named : `${name}=${members.join()}`;
  });
}

function isReadAs(machine: Machine, text: string, members: readonly string[]): boolean {
  try {
    const [read] = parseAssignments(machine, [text]);
    return read?.members.join() === members.join();
  } catch {
    return false;
  }
}

/** The command that makes these changes, for a POSIX shell. */
export function assignCommand(socketDir: string, texts: readonly string[]): string {
  return ["linkfence", "assign", ...texts, "--socket-dir", socketDir].map(shellWord).join(" ");
}
