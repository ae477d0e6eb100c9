import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { breaches } from "./json_schema.js";
import { ENVIRONMENT, MAIN } from "./linkfence.js";

/** A server that does not get somewhere in this time never will. Not a measure of speed: other tests run beside it. */
const PATIENCE_MS = 60_000;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A `linkfence serve`, or another program that goes on until it is told to end. */
export class ServingProcess {
  readonly lines: string[] = [];
  stderr = "";
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #wake: () => void = () => {};

  constructor(args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
    const child = spawn(process.execPath, args, { env: ENVIRONMENT, ...options, stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    this.#child = child;
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      this.lines.push(line);
      this.#wake();
    });
    this.#ended = once(child, "close").then(() => {
      running.delete(child);
      this.#wake();
    });
  }

  /** Starts `linkfence serve --json`, and waits until it is ready. */
  static async ready(...args: string[]): Promise<ServingProcess & { ready: ReadyJson }> {
    const server = new ServingProcess([MAIN, "serve", "--json", ...args]);
    let first: EventJson | undefined;
    try {
      await server.line(() => true);
      first = server.events()[0];
      assert.equal(first?.event, "ready", JSON.stringify(first));
    } catch (error) {
      await server.end("SIGKILL");
      throw error;
    }
    return Object.assign(server, { ready: first as unknown as ReadyJson });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The lines so far, each held against the schema. */
  events(): EventJson[] {
    return this.lines.map((line) => {
      const event = JSON.parse(line);
      assert.deepEqual(breaches("serve", event), [], line);
      return event;
    });
  }

  /** Waits for a line like this. */
  async line(isIt: (line: string) => boolean): Promise<string> {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const line = this.lines.find(isIt);
      if (line !== undefined) return line;
      const gone = this.#child.exitCode !== null || this.#child.signalCode !== null;
      if (gone || Date.now() > end) {
        throw new Error(`no such line from ${gone ? "what has ended" : "it"}: ${this.stderr} ${this.lines.join("\n")}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 200).unref();
      });
    }
  }

  /** Waits for an event. */
  async event(name: string, isIt: (event: EventJson) => boolean = () => true): Promise<EventJson> {
    return JSON.parse(
      await this.line((line) => {
        const event = JSON.parse(line) as EventJson;
        return event.event === name && isIt(event);
      }),
    );
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<{ status: number | null; signal: string | null }> {
    this.#child.kill(signal);
    await this.#ended;
    return { status: this.#child.exitCode, signal: this.#child.signalCode };
  }
}

/** What tests look at of an event. */
export interface EventJson {
  event: string;
  virtual: true;
  socket?: string;
  peer?: { pid: number };
  gpu?: string;
  step?: string;
  what?: string;
  of?: string;
  count?: number;
}

export interface ServedJson {
  fenced: boolean;
  failures: string[];
  assignments: {
    name: string;
    members: string[];
    since: string;
    functions: { name: string; address: string; kind: string; socket: string }[];
    qemu?: string[];
    libvirt?: string;
  }[];
}

export interface ReadyJson extends ServedJson {
  pid: number;
  socketDir: string;
  stateDir: string;
}

export interface StatusJson {
  machine: string;
  pid: number;
  fenced: boolean;
  assignments: { name: string; members: string[]; since: string }[];
  functions: {
    name: string;
    address: string;
    kind: string;
    assignment: string;
    socket: string | null;
    client: { pid: number } | null;
    fence?: {
      state: string;
      expected: { disableMask: string | null };
      actual: { disableMask: string | null; linksUp: number[] | null };
    };
  }[];
}
