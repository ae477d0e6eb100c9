import { failureLine } from "../cli/failure.js";
import { writeCapture } from "../machine/capture.js";
import type { Look, Looks } from "./looks.js";
import type { PageEvent, Snapshot } from "./snapshot.js";
import type { Watched } from "./watched.js";

/** So many events are kept for pages that come later, or that were away. */
const KEPT = 500;
/** What changes without an event is looked for as often, in milliseconds, while somebody watches. */
const LOOK_INTERVAL = 2000;
/** Something is said as often at least, in milliseconds, so that either end notices when the other is gone. */
const BEAT = 5000;
/** What happens within so many milliseconds is told together. */
const BATCH = 25;

/** One message to a page, its data as JSON. */
export interface PageMessage {
  /**
   * `snapshot`: all of this moment (`Snapshot`). `state`: what is now (`PageState`). `events`: what has happened since
   * (`PageEvent[]`). `blind`: it is not known any more what is now (`{ why }`), until the next state or snapshot. `beat`:
   * nothing has (`{ time }`).
   */
  event: "snapshot" | "state" | "events" | "blind" | "beat";
  data: string;
}

/**
 * What happens, for pages that watch: each gets a snapshot, then what has changed. A slow one misses states in between, and
 * gets a snapshot again where it has missed events; nothing piles up for it.
 */
export class LiveView {
  readonly #watched: Watched;
  readonly #looks: Looks;
  /** The last of what happened, the oldest first. */
  readonly #history: PageEvent[] = [];
  /** Of the last event. */
  #number = 0;
  /** What is known of now. */
  #now: { look: Look; text: string } | { why: string } | undefined;
  /** Counts what was known of now. */
  #version = 0;
  #awaited: { look: Promise<Look>; end: Promise<void> } | undefined;
  #capture: string | undefined;
  #interval: NodeJS.Timeout | undefined;
  #watchers = 0;
  /** Counts whatever may be worth telling. */
  #changes = 0;
  readonly #waiting = new Set<() => void>();

  constructor(watched: Watched, looks: Looks) {
    this.#watched = watched;
    this.#looks = looks;
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
    if (this.#watchers > 0) void this.#look();
  }

  /** A snapshot, then whatever changes, until the signal. */
  async *watch(signal: AbortSignal): AsyncGenerator<PageMessage> {
    const wake = () => this.#wake();
    signal.addEventListener("abort", wake);
    if (this.#watchers++ === 0) this.#interval = setInterval(() => void this.#look(), LOOK_INTERVAL);
    try {
      let [number, version] = [-1, -1];
      while (!signal.aborted) {
        const changes = this.#changes;
        const missed = number < 0 || this.#number - number > this.#history.length;
        if (missed) await this.#look();
        // Taken in one go, before anything is waited for: what comes later has another number.
        const now = version === this.#version && !missed ? undefined : this.#now;
        const news = missed ? [] : this.#history.filter((event) => event.number > number);
        const snapshot = missed && now !== undefined && "look" in now ? this.#snapshot(now.look) : undefined;
        version = this.#version;
        if (!missed || snapshot !== undefined) number = this.#number;
        if (news.length > 0) yield { event: "events", data: JSON.stringify(news) };
        if (snapshot !== undefined) yield { event: "snapshot", data: JSON.stringify(snapshot) };
        else if (now !== undefined) yield messageOf(now);
        if (signal.aborted) return;
        await pause(BATCH);
        if (await this.#isQuietAfter(changes, BEAT)) yield { event: "beat", data: JSON.stringify(clock()) };
      }
    } finally {
      signal.removeEventListener("abort", wake);
      if (--this.#watchers === 0) clearInterval(this.#interval);
    }
  }

  #snapshot({ state }: Look): Snapshot {
    const { machine, planning } = this.#watched;
    this.#capture ??= writeCapture(machine, state.status.startedAt);
    return { machine: this.#capture, planning, state, history: this.#history };
  }

  /** Sees to it that what is known of now is of a moment after this call. Never rejects. */
  #look(): Promise<void> {
    const look = this.#looks.next();
    if (this.#awaited?.look !== look) {
      const onBlind = (error: unknown) => this.#know({ why: failureLine(error) });
      this.#awaited = { look, end: look.then((seen) => this.#see(seen), onBlind) };
    }
    return this.#awaited.end;
  }

  #see(look: Look): void {
    if (this.#now !== undefined && "look" in this.#now && this.#now.look.version === look.version) return;
    this.#know({ look, text: JSON.stringify(look.state) });
  }

  #know(now: { look: Look; text: string } | { why: string }): void {
    if (this.#now !== undefined && "why" in this.#now && "why" in now && this.#now.why === now.why) return;
    this.#now = now;
    this.#version++;
    this.#wake();
  }

  /** Resolves with the next change, or with true when there is none for so many milliseconds. */
  #isQuietAfter(changes: number, ms: number): Promise<boolean> {
    if (changes !== this.#changes) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        resolve(changes === this.#changes);
      };
      const timer = setTimeout(end, ms);
      this.#waiting.add(end);
    });
  }

  #wake(): void {
    this.#changes++;
    for (const end of this.#waiting) end();
  }
}

function messageOf(now: { text: string } | { why: string }): PageMessage {
  return "why" in now ? { event: "blind", data: JSON.stringify(now) } : { event: "state", data: now.text };
}

function clock(): { time: string } {
  return { time: new Date().toISOString() };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
