import { spawn } from "node:child_process";

/** A program that failed, with the first line that it wrote to stderr. */
export class CommandError extends Error {
  override name = "CommandError";
}

export interface CommandOptions {
  cwd?: string;
  /** Seconds; the program is killed then. */
  timeoutS?: number;
  /** For the program's stdin. */
  input?: Uint8Array;
}

/**
 * Runs a program to its end.
 * @returns its stdout
 * @throws {CommandError} when it does not start, runs out of time or exits with anything but 0
 */
export function runCommand(program: string, args: readonly string[], options: CommandOptions = {}): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      timeout: (options.timeoutS ?? 300) * 1000,
      killSignal: "SIGKILL",
      env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
    });
    const output: Buffer[] = [];
    let errors = "";
    child.stdout.on("data", (data: Buffer) => output.push(data));
    child.stderr.on("data", (data: Buffer) => {
      errors = (errors + data.toString("latin1")).slice(0, 4000);
    });
    child.on("error", (error) => reject(new CommandError(`${program}: ${error.message}`)));
    child.on("close", (status, signal) => {
      if (status === 0) return resolve(Buffer.concat(output));
      const [line = ""] = errors.trim().split("\n");
      reject(new CommandError(`${program} ended with ${signal ?? status}${line === "" ? "" : `: ${line}`}`));
    });
    // A program that ends without reading all of its input reports that itself.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
  });
}
