import { createHash } from "node:crypto";
import { clock } from "./clock.js";

/** Events that a finding is told with. */
const REMEMBERED = 40;

/** What happened in one life, in order: the last events in words, and a digest of all of them. */
export class Trace {
  events = 0;
  readonly #hash = createHash("sha256");
  readonly #last: string[] = [];

  /** @param words the same in every run of the same seed: no descriptor, no path, no process id */
  add(words: string): void {
    this.events++;
    const line = `${clock.now.toFixed(3)} ${words}`;
    this.#hash.update(`${line}\n`);
    this.#last.push(line);
    if (this.#last.length > 2 * REMEMBERED) this.#last.splice(0, REMEMBERED);
  }

  /** The last events, one line each. */
  get last(): string[] {
    return this.#last.slice(-REMEMBERED);
  }

  /** Ends the trace. @returns 64 hexadecimal digits */
  digest(): string {
    return this.#hash.digest("hex");
  }
}
