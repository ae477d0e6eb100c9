import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { onLines } from "../lines.js";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const START_TIMEOUT = 30_000;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const process of running) process.kill("SIGKILL");
});

/** The example device (`examples/serve.ts`), served by a process of its own, which can be killed. */
export class ServerProcess {
  /** What it told, one line each. */
  readonly lines: string[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;

  /** Starts it. @throws {Error} when it does not listen before long */
  static async start(socket: string): Promise<ServerProcess> {
    const server = new ServerProcess(socket);
    await server.#until(() => server.lines.some((line) => line.startsWith("listening")), START_TIMEOUT, "listen");
    return server;
  }

  private constructor(socket: string) {
    this.#process = spawn(process.execPath, ["--import", "tsx", "examples/serve.ts", socket], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(this.#process);
    this.#ended = once(this.#process, "close").then(() => running.delete(this.#process));
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      if (stream) onLines(stream, (line) => this.lines.push(line));
    }
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** How many clients have left. */
  get disconnects(): number {
    return this.lines.filter((line) => line.includes('"kind":"disconnect"')).length;
  }

  /** Waits until so many clients have left. */
  awaitDisconnects(count: number): Promise<void> {
    return this.#until(() => this.disconnects >= count, 10_000, "notice that its client is gone");
  }

  /** Open descriptors, and mappings of shared memory. */
  holdings(): string {
    const maps = readFileSync(`/proc/${this.#process.pid}/maps`, "utf8").split("\n");
    const shared = maps.filter((line) => line.includes("/memfd:")).length;
    return `${readdirSync(`/proc/${this.#process.pid}/fd`).length} descriptors, ${shared} shared mappings`;
  }

  /** Whether QEMU has handed it the guest's memory as a file. */
  hasGuestMemory(): boolean {
    const folder = `/proc/${this.#process.pid}/fd`;
    return readdirSync(folder).some((fd) => linkOf(`${folder}/${fd}`).startsWith("/memfd:memory-backend"));
  }

  /** Reads what the device has in its memory, and writes to it. */
  memory<T>(
    use: (memory: { read(at: number, length: number): string; write(at: number, text: string): void }) => T,
  ): T {
    const folder = `/proc/${this.#process.pid}/fd`;
    const name = readdirSync(folder).find((fd) => linkOf(`${folder}/${fd}`).startsWith("/memfd:copy-engine"));
    if (name === undefined) throw new Error("the server has no memory of a copy engine");
    const fd = openSync(`${folder}/${name}`, "r+");
    try {
      return use({
        read(at, length) {
          const data = Buffer.alloc(length);
          readSync(fd, data, 0, length, at);
          return data.toString("latin1");
        },
        write(at, text) {
          writeSync(fd, text, at, "latin1");
        },
      });
    } finally {
      closeSync(fd);
    }
  }

  /** Ends it and waits for that. */
  async end(signal: NodeJS.Signals): Promise<void> {
    this.#process.kill(signal);
    await this.#ended;
  }

  async #until(condition: () => boolean, milliseconds: number, what: string): Promise<void> {
    const end = Date.now() + milliseconds;
    while (!condition()) {
      if (!this.isRunning || Date.now() > end) {
        throw new Error(`the server does not ${what}:\n${this.lines.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
