import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { ServedAssignmentJson, ServedJson, StatusJson } from "../../../src/cli/serve/serving_json.js";
import { ROOT } from "../guest_files.js";
import { onLines } from "../lines.js";

const LINKFENCE = join(ROOT, "dist/cli/main.js");
const READY_TIMEOUT = 30_000;

/** A line of `serve --json`. */
export interface ServeEvent {
  event: string;
  gpu?: string;
  step?: string;
  socket?: string;
  reason?: string;
}

/** How a command ended. */
export interface CommandEnd {
  status: number | null;
  output: string;
  errors: string;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const process of running) process.kill("SIGKILL");
});

/** `linkfence serve`, in a process of its own, with directories of its own. */
export class LinkfenceServer {
  /** What it has told since it was ready. */
  readonly events: ServeEvent[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #folder: string;
  #errors = "";
  #served: ServedJson | undefined;
  #wake = () => {};

  /**
   * Starts it and waits until everything is fenced and served.
   * @param args of `linkfence serve`, without directories
   * @param folder where these are to be
   * @throws {Error} when it does not get ready
   */
  static async start(args: readonly string[], folder: string): Promise<LinkfenceServer> {
    const server = new LinkfenceServer(args, folder);
    await server.until(() => server.#served !== undefined, "get ready", READY_TIMEOUT);
    return server;
  }

  private constructor(args: readonly string[], folder: string) {
    this.#folder = folder;
    const directories = ["--socket-dir", this.socketDir, "--state-dir", join(folder, "state")];
    this.#process = spawn(process.execPath, [LINKFENCE, "serve", ...args, "--json", ...directories], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(this.#process);
    const { stdout, stderr } = this.#process;
    if (stdout) onLines(stdout, (line) => this.#receive(JSON.parse(line) as ServeEvent));
    stderr?.on("data", (data: Buffer) => {
      this.#errors += data.toString("utf8");
    });
    this.#ended = once(this.#process, "close").then(() => {
      running.delete(this.#process);
      this.#wake();
    });
  }

  get socketDir(): string {
    return join(this.#folder, "sockets");
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** An assignment as it is served now, with what is to be pasted. */
  assignment(name: string): ServedAssignmentJson {
    const found = this.#served?.assignments.find((each) => each.name === name);
    if (found === undefined) throw new Error(`no assignment ${name} is served`);
    return found;
  }

  /** The arguments for QEMU that it prints for an assignment. */
  qemu(name: string): readonly string[] {
    return this.assignment(name).qemu ?? [];
  }

  /** How often the fence of a GPU has come to a step since the server was ready. */
  steps(gpu: string, step: string): number {
    return this.events.filter((event) => event.event === "fence" && event.gpu === gpu && event.step === step).length;
  }

  /** The last step of a GPU's fence. */
  lastStep(gpu: string): string | undefined {
    return this.events.findLast((event) => event.event === "fence" && event.gpu === gpu)?.step;
  }

  /** Runs another command on its socket directory, e.g. `assign`. */
  async command(name: string, ...args: string[]): Promise<CommandEnd> {
    const child = spawn(process.execPath, [LINKFENCE, name, ...args, "--socket-dir", this.socketDir], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const end: CommandEnd = { status: null, output: "", errors: "" };
    child.stdout.on("data", (data: Buffer) => {
      end.output += data.toString("utf8");
    });
    child.stderr.on("data", (data: Buffer) => {
      end.errors += data.toString("utf8");
    });
    const [status] = (await once(child, "close")) as [number | null];
    return { ...end, status };
  }

  /** `linkfence status --json`: what it reads of the hardware now. */
  async status(): Promise<StatusJson> {
    return JSON.parse((await this.command("status", "--json")).output) as StatusJson;
  }

  /** Where its process has this GPU's memory. */
  memoryFile(gpu: string): string {
    const folder = `/proc/${this.#process.pid}/fd`;
    const fd = readdirSync(folder).find((each) => linkOf(`${folder}/${each}`).startsWith(`/memfd:linkfence ${gpu} `));
    if (fd === undefined) throw new Error(`the server has no memory of ${gpu}`);
    return `${folder}/${fd}`;
  }

  /** @throws {Error} when it ends before, or after so many milliseconds */
  async until(condition: () => boolean, what: string, milliseconds = 10_000): Promise<void> {
    const end = Date.now() + milliseconds;
    while (!condition()) {
      if (!this.isRunning || Date.now() > end) throw new Error(`the server does not ${what}: ${this.#errors}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 50);
      });
    }
  }

  /** Ends it and waits for that; has its exit status. */
  async end(): Promise<number | null> {
    this.#process.kill("SIGTERM");
    await this.#ended;
    return this.#process.exitCode;
  }

  #receive(event: ServeEvent): void {
    if (event.event === "ready" || event.event === "changed") this.#served = event as ServeEvent & ServedJson;
    this.events.push(event);
    this.#wake();
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
