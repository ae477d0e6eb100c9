import { statusJson } from "../cli/serve/serving_json.js";
import { writeCapture } from "../machine/capture.js";
import type { PageEvent, PageState, Snapshot } from "./snapshot.js";
import { snippetsOf } from "./snippets.js";
import type { Watched } from "./watched.js";

/** So many events are kept for pages that come later, or that were away. */
const KEPT = 500;
/** From one look at the hardware to the next, in milliseconds, however much happens. */
const LOOK_PAUSE = 50;
/** What changes without an event is looked for as often, in milliseconds, while somebody watches. */
const LOOK_INTERVAL = 2000;

/** One message to a page. */
export type PageMessage =
  | { event: "snapshot"; data: Snapshot }
  | { event: "state"; data: PageState }
  | { event: "events"; data: PageEvent[] };

/**
 * What happens, for pages that watch: each gets a snapshot, then what has changed. A slow one misses states in between, and
 * gets a snapshot again where it has missed events; nothing piles up for it.
 */
export class LiveView {
  readonly #watched: Watched;
  #history: PageEvent[] = [];
  #number = 0;
  #state: PageState | undefined;
  #stateText = "";
  #version = 0;
  #lastLook = 0;
  #looking: Promise<void> | undefined;
  #again: NodeJS.Timeout | undefined;
  #watchers = 0;
  #change = deferred();

  constructor(watched: Watched) {
    this.#watched = watched;
  }

  /** How many watch. */
  get watchers(): number {
    return this.#watchers;
  }

  /** Something has happened. */
  tell(event: Record<string, unknown> & { event: string }): void {
    this.#history.push({ number: ++this.#number, time: new Date().toISOString(), ...event });
    if (this.#history.length > KEPT) this.#history.shift();
    this.#wake();
    if (this.#watchers > 0) this.#lookSoon();
  }

  /** All of this moment. */
  async snapshot(): Promise<Snapshot> {
    await this.#look();
    if (this.#state === undefined) throw new Error("nothing was seen yet");
    const { machine, planning } = this.#watched;
    const state = this.#state;
    return { machine: writeCapture(machine, state.status.startedAt), planning, state, history: [...this.#history] };
  }

  /** A snapshot, then whatever changes, until the signal. */
  async *watch(signal: AbortSignal): AsyncGenerator<PageMessage> {
    const interval = setInterval(() => this.#lookSoon(), LOOK_INTERVAL);
    const wake = () => this.#wake();
    signal.addEventListener("abort", wake);
    this.#watchers++;
    try {
      let [number, version] = [-1, -1];
      while (!signal.aborted) {
        const change = this.#change.promise;
        const missed = number < 0 || this.#number - number > this.#history.length;
        if (missed) {
          const data = await this.snapshot();
          number = data.history.at(-1)?.number ?? 0;
          version = this.#version;
          yield { event: "snapshot", data };
          continue;
        }
        const news = this.#history.filter((event) => event.number > number);
        number = this.#number;
        if (news.length > 0) yield { event: "events", data: news };
        if (version !== this.#version && this.#state !== undefined) {
          version = this.#version;
          yield { event: "state", data: this.#state };
        }
        if (number === this.#number && version === this.#version && !signal.aborted) await change;
      }
    } finally {
      this.#watchers--;
      clearInterval(interval);
      signal.removeEventListener("abort", wake);
    }
  }

  /** Nobody is looked after any more. */
  close(): void {
    clearTimeout(this.#again);
  }

  #lookSoon(): void {
    if (this.#again !== undefined) return;
    const wait = Math.max(0, this.#lastLook + LOOK_PAUSE - performance.now());
    this.#again = setTimeout(() => {
      this.#again = undefined;
      void this.#look().catch(() => {});
    }, wait).unref();
  }

  /** One look at a time; who asks while one is under way gets the next one's. */
  async #look(): Promise<void> {
    while (this.#looking !== undefined) await this.#looking.catch(() => {});
    this.#looking = this.#lookNow();
    try {
      await this.#looking;
    } finally {
      this.#looking = undefined;
    }
  }

  async #lookNow(): Promise<void> {
    this.#lastLook = performance.now();
    const [status, gpus] = await Promise.all([this.#watched.status(), this.#watched.seen()]);
    const state = { status: statusJson(status), gpus, snippets: snippetsOf(status) };
    const text = JSON.stringify(state, (key, value) => (key === "readAt" ? undefined : value));
    if (text === this.#stateText) return;
    this.#stateText = text;
    this.#state = state;
    this.#version++;
    this.#wake();
  }

  #wake(): void {
    const { resolve } = this.#change;
    this.#change = deferred();
    resolve();
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
