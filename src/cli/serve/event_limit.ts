import type { RejectedChange, WorkerEvent } from "./server_status.js";

/** So many events of one kind about one function are told in a second; of the others their number. */
const TOLD = 20;
const SECOND_MS = 1000;

/** So many more events of a kind about a function, in the second that has passed, that were not told one by one. */
export interface Repeated {
  kind: "repeated";
  /** The kind: `guarded write`, `connect` ... */
  what: string;
  /** A GPU's name, a socket's path, or an address. */
  of: string;
  count: number;
}

/** What a reporter hears. */
export type ToldEvent = LimitedEvent | Repeated;

/** What others can make happen as often as they like. */
export type LimitedEvent = WorkerEvent | RejectedChange;

/**
 * Keeps a guest that does one thing again and again (it can try to write a register that cuts links 20 000 times a second)
 * from filling the log, and from hiding in it what others do: the first are told at once, the rest is counted.
 */
export class EventLimit {
  #seen = new Map<string, Repeated>();
  #second: NodeJS.Timeout | undefined;

  constructor(private readonly tell: (event: ToldEvent) => void) {}

  take(event: LimitedEvent): void {
    const { what, of } = subjectOf(event);
    const key = `${what} ${of}`;
    const seen = this.#seen.get(key) ?? { kind: "repeated", what, of, count: 0 };
    this.#seen.set(key, seen);
    // It does not keep a process alive that is about to end.
    this.#second ??= setTimeout(() => this.flush(), SECOND_MS).unref();
    if (++seen.count <= TOLD) this.tell(event);
  }

  /** Tells what has been counted, and begins another second with the next event. */
  flush(): void {
    clearTimeout(this.#second);
    this.#second = undefined;
    const seen = [...this.#seen.values()];
    this.#seen.clear();
    for (const each of seen) if (each.count > TOLD) this.tell({ ...each, count: each.count - TOLD });
  }
}

function subjectOf(event: LimitedEvent): { what: string; of: string } {
  if (event.kind === "fence") return { what: event.event.step, of: event.event.gpu };
  // Each register is told once, so each is a subject of its own.
  if (event.kind === "unmodelled") return { what: event.kind, of: event.what };
  return { what: event.kind, of: "of" in event ? event.of : event.socket };
}
