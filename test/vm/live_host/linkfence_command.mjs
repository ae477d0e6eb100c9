import { spawn } from "node:child_process";

const MAIN = "/linkfence/dist/cli/main.js";

let runs = 0;

/**
 * Runs linkfence to its end, in this process: emulated, a process of its own takes seconds to start. Only `main.js` is loaded
 * anew each time.
 */
export async function linkfence(...args) {
  const { argv, stdout, stderr } = process;
  const written = { stdout: "", stderr: "" };
  const restore = [
    capture(stdout, (text) => (written.stdout += text)),
    capture(stderr, (text) => (written.stderr += text)),
  ];
  process.argv = [argv[0], MAIN, ...args];
  process.exitCode = undefined;
  try {
    await import(`${MAIN}?${runs++}`);
  } finally {
    for (const undo of restore) undo();
    process.argv = argv;
  }
  const status = process.exitCode ?? 0;
  process.exitCode = undefined;
  return { status, stdout: written.stdout, stderr: written.stderr.trim() };
}

function capture(stream, take) {
  const { write } = stream;
  stream.write = (text) => {
    take(text);
    return true;
  };
  return () => {
    stream.write = write;
  };
}

/** What linkfence prints as JSON; throws when it exits with another status than expected. */
export async function linkfenceJson(expected, ...args) {
  const { status, stdout, stderr } = await linkfence(...args, "--json");
  if (status !== expected) {
    throw new Error(`linkfence ${args.join(" ")} exits ${status}: ${stderr} ${stdout.slice(0, 2000)}`);
  }
  return JSON.parse(stdout);
}

/** A linkfence that runs beside; its standard output line by line, each with when it came. */
export class Beside {
  lines = [];
  #process;
  #ended;

  constructor(...args) {
    this.#process = spawn("node", [MAIN, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    let rest = "";
    this.#process.stdout.setEncoding("utf8").on("data", (text) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop();
      for (const line of parts) this.lines.push({ at: performance.now(), line });
    });
    this.#ended = new Promise((resolve) => this.#process.on("close", (status) => resolve(status)));
  }

  /** The first line, as JSON, that came at or after `since` and fits. */
  async line(fits, since = 0, patience = 10_000) {
    const end = performance.now() + patience;
    for (;;) {
      const found = this.lines.find(({ at, line }) => at >= since && fits(JSON.parse(line)));
      if (found !== undefined) return { at: found.at, json: JSON.parse(found.line) };
      if (performance.now() > end)
        throw new Error(
          `no such line: ${this.lines
            .map(({ line }) => line)
            .join(" ")
            .slice(-1500)}`,
        );
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends it by a signal; has its exit status. */
  end(signal = "SIGINT") {
    this.#process.kill(signal);
    return this.#ended;
  }

  get ended() {
    return this.#ended;
  }
}
