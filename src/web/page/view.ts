import { readCapture } from "../../machine/capture.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { seenMachine } from "../seen_machine.js";
import type { PageEvent, PageState, Snapshot } from "../snapshot.js";

/** So many events are kept. */
const KEPT = 500;

/** What the page shows. */
export interface View {
  /** Whether all of it is of now. */
  connected: boolean;
  /** Why and since when it is not. */
  lost?: Lost;
  /** The machine with what its registers say: the same object for as long as they say the same. */
  machine: Machine;
  planning: Snapshot["planning"];
  /** Who owns what: the same object for as long as it is the same. */
  assignments: readonly Assignment[];
  state: PageState;
  /** The oldest first. */
  history: readonly PageEvent[];
  /** How far the server's clock is ahead of this browser's, in milliseconds. */
  clockAhead: number;
}

/** From when on nothing is known any more. */
export interface Lost {
  /** When the server was heard last, in milliseconds as `Date.now()` gives them. */
  since: number;
  /** In words, for a person. */
  why: string;
}

/**
 * A page's first view, and the one after it has been away.
 * @param before what was shown until now: what says the same stays the same object
 * @throws MachineError when the machine cannot be read
 */
export function viewOf({ machine, planning, state, history }: Snapshot, before?: View): View {
  const { lost: _, ...base } = before ?? { clockAhead: 0 };
  const described = seenMachine(readCapture(machine), state);
  const known = before !== undefined && sameValue(before.machine, described) ? before.machine : described;
  return {
    ...base,
    connected: true,
    machine: known,
    planning: before !== undefined && sameValue(before.planning, planning) ? before.planning : planning,
    assignments: ownersIn(state, before?.assignments),
    state,
    history: history.slice(-KEPT),
  };
}

/** The view after what is has changed. */
export function withState({ lost: _, ...view }: View, state: PageState): View {
  const { gpus, drivers } = view.state;
  const same = sameValue([gpus, drivers], [state.gpus, state.drivers]);
  const machine = same ? view.machine : seenMachine(view.machine, state);
  return { ...view, connected: true, machine, assignments: ownersIn(state, view.assignments), state };
}

/** The view after something has happened just now. */
export function withEvents(view: View, events: readonly PageEvent[]): View {
  const last = events.at(-1);
  if (last === undefined) return view;
  return { ...withTime(view, last.time), history: [...view.history, ...events].slice(-KEPT) };
}

/** The view when the server has told its time. */
export function withTime(view: View, time: string): View {
  return { ...view, clockAhead: Date.parse(time) - Date.now() };
}

/** The view when nobody knows any more whether it is right. */
export function withLoss(view: View, lost: Lost): View {
  return { ...view, connected: false, lost };
}

function ownersIn({ status }: PageState, before: readonly Assignment[] = []): readonly Assignment[] {
  const now = status.assignments.map(({ name, members }) => ({ name, members }));
  return sameValue(before, now) ? before : now;
}

/** Whether two say the same, whenever registers were read. */
function sameValue(a: unknown, b: unknown): boolean {
  const text = (value: unknown) =>
    JSON.stringify(value, (key, inner) =>
      key === "readAt" ? undefined : typeof inner === "bigint" ? inner.toString() : inner,
    );
  return text(a) === text(b);
}
