import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import type { Run } from "./linkfence.js";

/** Milliseconds that a run may take, on a machine that is busy. */
const PATIENCE = 100_000;

let last: Promise<unknown> = Promise.resolve();
let runs = 0;

/**
 * Runs a program of ours in this process, which takes a tenth of the time of one of its own. Runs that are begun while one
 * is going on wait for its end. Nothing but the end of this process, which is a failed test, ends one that goes on for ever.
 * @param main its file, whose loading is its run: it is loaded anew each time, what it imports is not
 */
export function runHere(main: string, args: readonly string[]): Promise<Run> {
  const next = last.then(() => runNow(main, args));
  last = next.catch(() => undefined);
  return next;
}

async function runNow(main: string, args: readonly string[]): Promise<Run> {
  const own = { argv: [process.execPath, main, ...args], stdout: new Kept(), stderr: new Kept() };
  const { exitCode, stderr } = process;
  const patience = setTimeout(() => {
    stderr.write(`it does not end: ${args.join(" ")}\n`);
    process.exit(1);
  }, PATIENCE);
  const others = Object.keys(own).map((name) => [name, Object.getOwnPropertyDescriptor(process, name) ?? {}] as const);
  try {
    for (const [name, value] of Object.entries(own))
      Object.defineProperty(process, name, { value, configurable: true });
    process.exitCode = undefined;
    await import(`${pathToFileURL(main)}?run=${runs++}`);
    return { status: Number(process.exitCode ?? 0), stdout: own.stdout.text, stderr: own.stderr.text };
  } finally {
    clearTimeout(patience);
    process.exitCode = exitCode;
    for (const [name, descriptor] of others) Object.defineProperty(process, name, descriptor);
  }
}

/** A stream that keeps what is written to it. */
class Kept extends Writable {
  readonly #chunks: Uint8Array[] = [];

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }
}
