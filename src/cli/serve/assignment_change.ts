import { parseAssignments } from "../../isolation/assignment.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { UsageError } from "../failure.js";

/**
 * The assignments after a change as it is typed: each `NAME=GPU,...` is added, or takes the place of the one of its name;
 * `NAME=` ends one.
 * @throws UsageError for a name that ends nothing; AssignmentError as `parseAssignments`
 */
export function changedAssignments(
  machine: Machine,
  current: readonly Assignment[],
  texts: readonly string[],
): Assignment[] {
  const empty = texts.filter((text) => text.indexOf("=") === text.length - 1 && text.length > 1);
  const given = parseAssignments(
    machine,
    texts.filter((text) => !empty.includes(text)),
  );
  const ended = empty.map((text) => text.slice(0, -1));
  const twice = ended.find((name, at) => ended.indexOf(name) !== at || given.some((each) => each.name === name));
  if (twice !== undefined) throw new UsageError(`assignment ${twice} is given twice`);
  const left = ended.reduce<readonly Assignment[]>(withoutAssignment, current);
  const replaced = left.map((old) => given.find(({ name }) => name === old.name) ?? old);
  const added = given.filter(({ name }) => !left.some((old) => old.name === name));
  return [...replaced, ...added];
}

/**
 * The assignments without one.
 * @throws UsageError when it is not among them, with those that are
 */
export function withoutAssignment<Named extends Assignment>(current: readonly Named[], name: string): Named[] {
  const left = current.filter((each) => each.name !== name);
  if (left.length < current.length) return left;
  const known = current.map((each) => each.name).join(", ");
  throw new UsageError(
    `there is no assignment ${JSON.stringify(name)}; ${known === "" ? "there are none at all" : `there are ${known}`}`,
  );
}
