import type { PageEvent } from "../snapshot.js";
import type { Tone } from "./overall_state.js";

/** One thing that happened, made of the events that tell of it. Times are the server's, in milliseconds since 1970. */
export interface Occurrence {
  /** Of its first event: which it is, whatever is added to it. */
  number: number;
  start: number;
  /** When it was over; undefined while it goes on. The same as `start` for what takes no time. */
  end: number | undefined;
  kind: OccurrenceKind;
  /** A GPU's or another function's name, an owner's, or nothing when it is about the server. */
  who: string;
  /** What happened, for a person. */
  words: string;
  tone: Tone;
  /** How often, where it was the same again and again. */
  count: number;
}

export type OccurrenceKind =
  /** From the secondary bus reset until the fence is read back. */
  | "reset"
  /** Cut without a reset. */
  | "cut"
  | "failed"
  | "found open"
  | "trapped write"
  | "connect"
  | "disconnect"
  | "other";

/** Trapped writes of one GPU with less than this between them are one occurrence. */
const BURST = 2000;

/**
 * What happened, the oldest first: a reset is one, from its beginning to its end, and so are trapped writes that follow each
 * other.
 * @param nameOf what the function behind a socket is called
 */
export function occurrencesOf(history: readonly PageEvent[], nameOf: (socket: string) => string): Occurrence[] {
  const all: Occurrence[] = [];
  /** What goes on, by GPU. */
  const open = new Map<string, Occurrence>();
  /** The last trapped writes, by GPU. */
  const writes = new Map<string, Occurrence>();
  for (const event of history) {
    if (event.event === "fence") takeFence(event, all, open, writes);
    else if (event.event === "repeated" && text(event.what) === "guarded write")
      addWrites(event, text(event.of), all, writes);
    else all.push(plain(event, nameOf));
  }
  return all;
}

function takeFence(
  event: PageEvent,
  all: Occurrence[],
  open: Map<string, Occurrence>,
  writes: Map<string, Occurrence>,
): void {
  const [gpu, step, detail] = [text(event.gpu), text(event.step), text(event.detail)];
  const begin = (kind: OccurrenceKind, words: string, tone: Tone, end?: number) => {
    const occurrence = { ...momentOf(event), end, kind, who: gpu, words, tone, count: 1 };
    all.push(occurrence);
    return occurrence;
  };
  const at = Date.parse(event.time);
  const going = open.get(gpu);
  switch (step) {
    case "sbr":
      open.set(gpu, begin("reset", "being reset", "waiting"));
      return;
    case "sequence":
      if (going === undefined) open.set(gpu, begin("cut", detail || "cut", "waiting"));
      return;
    case "read back":
      if (going?.kind !== "cut") return;
      Object.assign(going, { end: at, tone: "good" });
      open.delete(gpu);
      return;
    case "done":
      open.delete(gpu);
      if (going?.kind === "reset")
        Object.assign(going, { end: at, tone: "good", words: `reset and fenced: ${detail}` });
      else begin("cut", `fenced: ${detail}`, "good", at);
      return;
    case "failed":
      open.delete(gpu);
      if (going === undefined) begin("failed", `the fence has failed: ${detail}`, "bad", at);
      else Object.assign(going, { end: at, tone: "bad", words: `the ${going.kind} has failed: ${detail}` });
      return;
    case "found open":
      begin("found open", `found open: ${detail}`, "bad", at);
      return;
    case "guarded write":
      addWrites(event, gpu, all, writes);
      return;
    case "awaits reset":
      begin("other", detail, "waiting", at);
      return;
    case "far ends":
      if (detail !== "") begin("other", detail, "waiting", at);
      return;
    default:
      // What a reset goes through besides says nothing of its own.
      return;
  }
}

/** A client tried to write a register that cuts links: what was asked for last, and how often it tried. */
function addWrites(event: PageEvent, gpu: string, all: Occurrence[], writes: Map<string, Occurrence>): void {
  const at = Date.parse(event.time);
  const count = typeof event.count === "number" ? event.count : 1;
  const last = writes.get(gpu);
  const words = writeWords(event.write);
  if (last?.end !== undefined && at - last.end < BURST) {
    last.end = at;
    last.count += count;
    if (words !== "") last.words = words;
    return;
  }
  const fresh: Occurrence = {
    ...momentOf(event),
    end: at,
    kind: "trapped write",
    who: gpu,
    words: words || "write to a register that cuts links",
    tone: "waiting",
    count,
  };
  writes.set(gpu, fresh);
  all.push(fresh);
}

function writeWords(write: unknown): string {
  if (typeof write !== "object" || write === null) return "";
  const { offset, asked, written } = write as Record<string, unknown>;
  const did = written === null ? "nothing was written" : `${text(written)} was written`;
  return `a write of ${text(asked)} to ${text(offset)} was trapped: ${did}`;
}

function plain(event: PageEvent, nameOf: (socket: string) => string): Occurrence {
  const moment = momentOf(event);
  const other = (who: string, words: string, tone: Tone = "waiting", kind: OccurrenceKind = "other"): Occurrence => {
    return { ...moment, end: moment.start, kind, who, words, tone, count: 1 };
  };
  const socket = nameOf(text(event.socket));
  switch (event.event) {
    case "connect":
      return other(socket, `connected: ${peerWords(event.peer)}`, "good", "connect");
    case "disconnect":
      return other(socket, `disconnected: ${text(event.reason)}`, "waiting", "disconnect");
    case "refuse":
      return other(socket, `refused a second client: ${peerWords(event.peer)}`);
    case "error":
      return other(socket, text(event.message), "bad");
    case "notice":
      return other(text(event.of), text(event.message));
    case "removed":
      return other(text(event.of), `this host takes ${text(event.address)} away: it is served no longer`, "bad");
    case "unmodelled":
      return other("", text(event.what));
    case "changed":
      return other("", `the assignments have changed${changerWords(event.by)}`, "good");
    case "rejected":
      return other("", `a change asked for by ${text(event.of)} was refused: ${text(event.message)}`);
    case "repeated":
      return other(nameOf(text(event.of)), `${text(event.what)}: ${text(event.count)} more within a second`);
    default:
      return other(text(event.gpu), event.event);
  }
}

function momentOf({ number, time }: PageEvent): { number: number; start: number } {
  return { number, start: Date.parse(time) };
}

function peerWords(peer: unknown): string {
  if (typeof peer !== "object" || peer === null) return "";
  const { pid, uid, gid } = peer as Record<string, unknown>;
  return `process ${text(pid)}, uid ${text(uid)}, gid ${text(gid)}`;
}

/** Over what, and from where, where that is told. */
function changerWords(by: unknown): string {
  if (typeof by !== "object" || by === null) return "";
  const { over, from } = by as Record<string, unknown>;
  return `, over ${text(over)}${text(from) === "" ? "" : ` from ${text(from)}`}`;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
}
