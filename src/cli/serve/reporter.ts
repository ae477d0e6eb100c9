import type { FenceStep } from "../../fence/progress.js";
import type { Machine } from "../../machine/machine.js";
import { heading } from "../heading.js";
import { paint, writeLines } from "../output.js";
import { BoundedOutput } from "./bounded_output.js";
import type { ToldEvent } from "./event_limit.js";
import { shellWord } from "./qemu_arguments.js";
import type { Changer, ServerStatus } from "./server_status.js";
import { eventJson, type PrintForm, servedJson } from "./serving_json.js";
import { clock, eventLine, pasteLines, servedLines } from "./serving_text.js";

/** Where the page is, and what its changes need. */
export interface SiteAddress {
  url: string;
  token: string;
}

/** What hears of everything that a server does, in order. */
export interface Reporter {
  /** This machine is about to be fenced. */
  onBegin(machine: Machine): void;
  onEvent(event: ToldEvent): void;
  /** Everything is fenced, and every socket can be connected to. `site`: where the page is, if there is one. */
  onReady(status: ServerStatus, site?: SiteAddress): void;
  /** Other assignments are served now. */
  onChange(status: ServerStatus, by: Changer): void;
  /** Nothing is served any more. */
  onStopped(why: string): void;
}

/** One JSON object per line, the first of them `ready`: what happened before comes behind it, with its own time. */
export class JsonReporter implements Reporter {
  #before: string[] | undefined = [];
  #virtual = false;
  readonly #events = new BoundedOutput(process.stdout, (count) => this.#line({ event: "lost", count }));

  constructor(private readonly form: PrintForm) {}

  onBegin({ virtual }: Machine): void {
    this.#virtual = virtual;
  }

  onEvent(event: ToldEvent): void {
    const json = { event: event.kind, ...eventJson(event) };
    if (this.#before === undefined) this.#events.write(this.#line(json));
    else this.#before.push(this.#line(json));
  }

  onReady(status: ServerStatus, site?: SiteAddress): void {
    const { pid, socketDir, stateDir } = status;
    const served = servedJson(status, this.form);
    const http = site === undefined ? {} : { http: { url: site.url, token: site.token } };
    const ready = this.#line({ event: "ready", pid, socketDir, stateDir, ...http, ...served });
    writeLines([ready, ...(this.#before ?? [])]);
    this.#before = undefined;
  }

  onChange(status: ServerStatus, by: Changer): void {
    writeLines([this.#line({ event: "changed", by, ...servedJson(status, this.form) })]);
  }

  onStopped(why: string): void {
    writeLines([this.#line({ event: "stopped", reason: why })]);
  }

  /** One object in a line, with what every event has. */
  #line({ event, ...rest }: { event: string; [field: string]: unknown }): string {
    const virtual = this.#virtual ? { virtual: true } : {};
    return JSON.stringify({ event, ...virtual, time: new Date().toISOString(), ...rest });
  }
}

/** What is worth a line while guests reset their GPUs at will. */
const OUTCOMES: ReadonlySet<FenceStep> = new Set<FenceStep>([
  "done",
  "failed",
  "awaits reset",
  "found open",
  "guarded write",
]);

/** Lines for a person. */
export class TextReporter implements Reporter {
  #ready = false;
  readonly #events = new BoundedOutput(process.stdout, (count) => `${count} lines are lost, for nobody read them`);

  constructor(private readonly form: PrintForm) {}

  onBegin(machine: Machine): void {
    writeLines([heading(machine), ""]);
  }

  onEvent(event: ToldEvent): void {
    const text = eventLine(event);
    if (!this.#ready) writeLines([text]);
    else if (event.kind !== "fence" || OUTCOMES.has(event.event.step))
      this.#events.write(`${clock(new Date())} ${text}`);
  }

  onReady(status: ServerStatus, site?: SiteAddress): void {
    this.#ready = true;
    const served = servedJson(status, this.form);
    writeLines(["", ...servedLines(served), ...pasteLines(served.assignments), "", ...siteLines(site)]);
    writeLines(this.nextLines(status));
  }

  /** How to go on from here. */
  protected nextLines({ socketDir }: ServerStatus): string[] {
    return [`Ctrl-C ends it; linkfence status, assign and release talk to it: --socket-dir ${shellWord(socketDir)}`];
  }

  onChange(status: ServerStatus, by: Changer): void {
    const served = servedJson(status, this.form);
    const who = by.over === "http" ? [`changed over HTTP from ${by.from}`] : [];
    writeLines([...who, ...servedLines(served)].map((line) => `${clock(new Date())} ${line}`));
  }

  onStopped(why: string): void {
    writeLines([`stopped: ${why}`]);
  }
}

function siteLines(site: SiteAddress | undefined): string[] {
  if (site === undefined) return [];
  return [`look: ${paint("bold", site.url)}`, `to change something there, this token is needed: ${site.token}`];
}
