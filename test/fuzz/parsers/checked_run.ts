import { writeSync } from "node:fs";
import { Finding, type Target, type Use } from "./target.js";

/** What an input may take: milliseconds of processor time, and for each byte. */
const TIME = 1000;
const TIME_PER_BYTE = 0.01;
/** KiB by which the process may grow for one input, and for each KiB of it. */
const MEMORY = 128 << 10;
const MEMORY_PER_BYTE = 256;
/** Sequence number and length of the input under way, in front of it. */
export const NOTE_SIZE = 12;

/** Runs a target's inputs and sees that none takes too long or too much. */
export class CheckedRun {
  #count = 0;
  #input: Uint8Array = new Uint8Array();

  /** @param note a file that always holds the input under way, for whoever looks after this process */
  constructor(
    readonly target: Target,
    private readonly note: number,
  ) {}

  /** Inputs that were run. */
  get count(): number {
    return this.#count;
  }

  /** The input that was run last. */
  get input(): Uint8Array {
    return this.#input;
  }

  /** As {@link Target.run}. @throws Finding for time and memory too */
  async run(input: Uint8Array, use: Use): Promise<boolean> {
    this.#take(input);
    const { maxRSS } = process.resourceUsage();
    const began = performance.now();
    const accepted = await this.target.run(input, use);
    const limit = TIME + TIME_PER_BYTE * input.length;
    if (performance.now() - began > limit) {
      // Others use the machine too.
      const took = await this.time(input, use);
      if (took > limit) throw new Finding(`${input.length} bytes take ${Math.round(took)} ms`);
    }
    const grown = process.resourceUsage().maxRSS - maxRSS;
    if (grown > MEMORY + (MEMORY_PER_BYTE * input.length) / 1024) {
      throw new Finding(`${input.length} bytes take ${grown >> 10} MiB of memory`);
    }
    return accepted;
  }

  /** Milliseconds of processor time that an input takes. */
  async time(input: Uint8Array, use: Use): Promise<number> {
    this.#take(input);
    const before = process.cpuUsage();
    await this.target.run(input, use);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  }

  #take(input: Uint8Array): void {
    this.#input = input;
    const noted = Buffer.alloc(NOTE_SIZE + input.length);
    noted.writeDoubleLE(++this.#count);
    noted.writeUInt32LE(input.length, 8);
    noted.set(input, NOTE_SIZE);
    writeSync(this.note, noted, 0, noted.length, 0);
  }
}
