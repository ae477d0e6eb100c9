import type { PageEvent, PageState, Snapshot } from "../snapshot.js";
import { type Lost, type View, viewOf, withEvents, withLoss, withState, withTime } from "./view.js";

export type { View } from "./view.js";

/** After so many milliseconds without a word the server is taken for gone: it speaks every five seconds at least. */
const SILENCE = 12_000;
/** How often that is looked for, and how long until a server that was lost is asked again, in milliseconds. */
const PAUSE = 1000;

/** Who is told what to show: nothing but why not, until there is something. */
export interface ConnectionListener {
  onView(view: View): void;
  onNothing(lost: Lost): void;
}

/** Follows the server, for as long as the page is there; a lost connection comes back by itself. */
export function connect(listener: ConnectionListener): void {
  new Connection(listener).open();
}

class Connection {
  #source: EventSource | undefined;
  #view: View | undefined;
  #heard = Date.now();
  #opened = Date.now();
  /** When the server is asked again. */
  #again: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly listener: ConnectionListener) {
    setInterval(() => {
      const quiet = Date.now() - Math.max(this.#heard, this.#opened);
      if (this.#again === undefined && quiet > SILENCE) this.#reopen("the server says nothing any more");
    }, PAUSE);
  }

  open(): void {
    this.#opened = Date.now();
    const source = new EventSource("/api/events");
    this.#source = source;
    this.#on(source, "snapshot", (data) => this.#show(viewOf(data as Snapshot, this.#view)));
    this.#on(source, "state", (data) => this.#change((view) => withState(view, data as PageState)));
    this.#on(source, "events", (data) => this.#change((view) => withEvents(view, data as PageEvent[])));
    this.#on(source, "beat", (data) => this.#change((view) => withTime(view, (data as { time: string }).time)));
    this.#on(source, "blind", (data) => this.#lose((data as { why: string }).why));
    source.addEventListener("error", () => {
      if (source === this.#source) this.#reopen("the server does not answer");
    });
  }

  /** What cannot be understood says nothing of now, so nothing that is shown may pass for it. */
  #on(source: EventSource, name: string, take: (data: unknown) => void): void {
    source.addEventListener(name, (message) => {
      if (source !== this.#source) return;
      try {
        take(JSON.parse((message as Event & { data: string }).data));
        this.#heard = Date.now();
      } catch (error) {
        console.error(error);
        this.#reopen(
          "this page does not understand the server, which may be another version by now: load the page again",
        );
      }
    });
  }

  #reopen(why: string): void {
    this.#source?.close();
    this.#source = undefined;
    this.#lose(why);
    clearTimeout(this.#again);
    this.#again = setTimeout(() => {
      this.#again = undefined;
      this.open();
    }, PAUSE);
  }

  #lose(why: string): void {
    const since = this.#view?.lost?.since ?? this.#heard;
    if (this.#view === undefined) this.listener.onNothing({ since, why });
    else this.#show(withLoss(this.#view, { since, why }));
  }

  /** Changes what is shown; until there is something the server has not told all. */
  #change(next: (view: View) => View): void {
    if (this.#view !== undefined) this.#show(next(this.#view));
  }

  #show(view: View): void {
    this.#view = view;
    this.listener.onView(view);
  }
}
