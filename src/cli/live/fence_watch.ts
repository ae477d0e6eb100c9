import type { LiveVerdict } from "./live_verdicts.js";

/** What a watch sees of a GPU's fence: a link open, the registers not to be read (which counts as open), or all closed. */
export type WatchedState = "open" | "unreadable" | "closed";

/** A GPU's fence is seen for the first time, or is another than it was. */
export interface WatchEvent {
  state: WatchedState;
  verdict: LiveVerdict;
}

/** What is told of the fences of a host, look by look: what has changed since the last. */
export class FenceWatch {
  readonly #states = new Map<string, string>();
  #everOpen = false;

  /** Whether any fence has been open, or unreadable, at any look. */
  get everOpen(): boolean {
    return this.#everOpen;
  }

  /** Takes a look's verdicts. Of a GPU that its server is just fencing anew nothing is told. */
  take(verdicts: readonly LiveVerdict[]): WatchEvent[] {
    return verdicts.flatMap((verdict) => {
      if (verdict.renewing) return [];
      const state = stateOf(verdict);
      this.#everOpen ||= state !== "closed";
      // One mask after the other is news, the same one again is not.
      const told = `${state} ${verdict.actual.cut} ${state === "closed" ? "" : verdict.reason}`;
      if (this.#states.get(verdict.address) === told) return [];
      this.#states.set(verdict.address, told);
      return [{ state, verdict }];
    });
  }
}

/** A GPU that is not to be touched is judged at the other ends of its links, so its own registers do not matter. */
function stateOf({ open, readable, actual }: LiveVerdict): WatchedState {
  if (!open) return "closed";
  return readable || actual.cut !== null ? "open" : "unreadable";
}
