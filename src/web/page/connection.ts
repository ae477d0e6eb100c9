import { readCapture } from "../../machine/capture.js";
import type { Machine } from "../../machine/machine.js";
import type { PageEvent, PageState, Snapshot } from "../snapshot.js";

/** So many events are shown. */
const SHOWN = 500;

/** What the page shows. */
export interface View {
  connected: boolean;
  /** The machine with what its registers say. */
  machine: Machine;
  planning: Snapshot["planning"];
  state: PageState;
  /** The oldest first. */
  history: readonly PageEvent[];
}

/** Follows the server, for as long as the page is there; a lost connection comes back by itself. */
export function connect(onView: (view: View) => void): void {
  let view: View | undefined;
  const show = (next: View | undefined) => {
    view = next;
    if (view !== undefined) onView(view);
  };
  const source = new EventSource("/api/events");
  source.addEventListener("snapshot", (message) => {
    const { machine, planning, state, history } = JSON.parse(textOf(message)) as Snapshot;
    const described = readCapture(machine);
    show({ connected: true, machine: { ...described, gpus: state.gpus }, planning, state, history });
  });
  source.addEventListener("state", (message) => {
    if (view === undefined) return;
    const state = JSON.parse(textOf(message)) as PageState;
    show({ ...view, state, machine: { ...view.machine, gpus: state.gpus } });
  });
  source.addEventListener("events", (message) => {
    if (view === undefined) return;
    show({ ...view, history: [...view.history, ...(JSON.parse(textOf(message)) as PageEvent[])].slice(-SHOWN) });
  });
  source.addEventListener("error", () => {
    if (view !== undefined) show({ ...view, connected: false });
  });
}

/** What a message of the server says. Types of Node's and of the browser have two ideas of an event, and may meet here. */
function textOf(message: Event): string {
  return (message as Event & { data: string }).data;
}
