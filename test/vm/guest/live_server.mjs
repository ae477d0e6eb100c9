import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";

const LINKFENCE = "/linkfence/dist/cli/main.js";

/** Runs a command of linkfence; has its status, output and errors. */
export function linkfence(...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [LINKFENCE, ...args], { encoding: "utf8" });
  return { status, output: stdout, errors: stderr.trim() };
}

/** `linkfence serve --live`, as a process of this host's. */
export class LiveServer {
  events = [];
  errors = "";
  #wakers = new Set();

  /** Starts it and waits until it serves. @throws when it does not */
  static async start(...args) {
    const server = new LiveServer(args);
    await server.until(() => server.served !== undefined, 120_000);
    return server;
  }

  constructor(args, socketDir = "/run/linkfence", stateDir = "/tmp/state") {
    this.socketDir = socketDir;
    this.stateDir = stateDir;
    const where = ["--socket-dir", socketDir, "--state-dir", stateDir];
    this.process = spawn(process.execPath, [LINKFENCE, "serve", "--live", "--json", ...where, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    createInterface({ input: this.process.stdout }).on("line", (line) => this.#hear(JSON.parse(line)));
    this.process.stderr.on("data", (data) => {
      this.errors += data;
    });
    this.ended = new Promise((resolve) => {
      this.process.once("close", (code, signal) => {
        this.isOver = true;
        resolve(code ?? signal);
        this.#wake();
      });
    });
  }

  #hear(event) {
    if (event.event === "ready" || event.event === "changed") this.served = event;
    this.events.push({ ...event, heard: performance.now() });
    this.#wake();
  }

  #wake() {
    for (const wake of this.#wakers) wake();
  }

  /** @throws when the server ends before, or after so many milliseconds */
  async until(condition, milliseconds = 30_000) {
    const end = performance.now() + milliseconds;
    while (!condition()) {
      if (this.isOver || performance.now() > end) throw new Error(`not so: ${condition}; ${this.errors.trim()}`);
      await new Promise((resolve) => {
        this.#wakers.add(resolve);
        setTimeout(resolve, 100);
      });
      this.#wakers.clear();
    }
  }

  /** The socket of a function, by its address. */
  socket(address) {
    for (const { functions } of this.served.assignments) {
      const found = functions.find((each) => each.address === address);
      if (found !== undefined) return found.socket;
    }
    throw new Error(`${address} is not served`);
  }

  /** Another command on its directories; has what {@link linkfence} has. */
  command(name, ...args) {
    return linkfence(name, ...args, "--socket-dir", this.socketDir);
  }

  status() {
    const { output, errors } = this.command("status", "--json");
    if (output === "") throw new Error(errors);
    return JSON.parse(output);
  }

  /** Ends it and waits for that; has its exit status. */
  async end(signal = "SIGTERM") {
    this.process.kill(signal);
    return this.ended;
  }
}
