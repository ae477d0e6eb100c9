import { Random } from "../random.js";
import type { BlockCoverage } from "./block_coverage.js";
import type { CheckedRun } from "./checked_run.js";
import { minimize } from "./minimize.js";
import { mutated } from "./mutation.js";

/** Inputs between two looks at the coverage, each of which costs as much as dozens of inputs. */
const BATCH = 100;
/** Those kept last are changed as often as all the others. */
const RECENT = 20;
/** Tries to make an input of the corpus shorter. */
const TRIES = 60;
/** Bytes that a target's corpus may have: it is in the repository. */
const CORPUS_SIZE = 26 << 10;

/** Inputs that each ran a block nobody else had run, and what comes of changing them. */
export class Evolution {
  readonly kept: Uint8Array[] = [];
  readonly #random: Random;

  constructor(
    private readonly checked: CheckedRun,
    readonly coverage: BlockCoverage,
    seed: number,
  ) {
    this.#random = new Random(seed);
  }

  /** Runs inputs that were there before. All of them are kept. */
  async begin(inputs: readonly Uint8Array[]): Promise<void> {
    for (const input of inputs) await this.checked.run(input, "commands");
    this.coverage.add(this.coverage.take());
    this.kept.push(...inputs);
  }

  /** Runs as many changed inputs as a batch has, and keeps those that ran something new. */
  async batch(): Promise<void> {
    const { mutations } = this.checked.target;
    const batch = Array.from({ length: BATCH }, () => {
      return mutated(this.pick(), this.#random, this.pick(), mutations);
    });
    for (const input of batch) await this.checked.run(input, "parts");
    if (this.coverage.take().length > 0) await this.#sift(batch);
  }

  /** One of the inputs that were kept. */
  pick(): Uint8Array {
    const recent = this.#random.once(2) ? RECENT : this.kept.length;
    const count = Math.min(recent, this.kept.length);
    return this.kept[this.kept.length - 1 - this.#random.below(count)] ?? new Uint8Array();
  }

  /** Finds in a batch which inputs ran something new, by halves. */
  async #sift(batch: readonly Uint8Array[]): Promise<void> {
    for (const input of batch) await this.checked.run(input, batch.length === 1 ? "commands" : "parts");
    const news = this.coverage.take();
    if (news.length === 0) return;
    const [only, second] = batch;
    if (only !== undefined && second === undefined) {
      this.kept.push(only);
      this.coverage.add(news);
      return;
    }
    await this.#sift(batch.slice(0, batch.length >>> 1));
    await this.#sift(batch.slice(batch.length >>> 1));
  }

  /**
   * As few and as short inputs as run all that was run, besides those given, which are there anyhow. The longest are left
   * out where all of them would be too much.
   */
  async fewest(given: readonly Uint8Array[]): Promise<Uint8Array[]> {
    this.coverage.forget();
    for (const input of given) await this.checked.run(input, "commands");
    this.coverage.add(this.coverage.take());
    const fewest: Uint8Array[] = [];
    let size = 0;
    for (const input of this.kept.slice(given.length).sort((a, b) => a.length - b.length)) {
      const needed = await this.#news(input);
      if (needed.length === 0) continue;
      const isEnough = async (shorter: Uint8Array) => {
        const has = new Set((await this.#news(shorter)).map(({ name }) => name));
        return needed.every(({ name }) => has.has(name));
      };
      const shortest = await minimize(input, isEnough, TRIES);
      if (size + shortest.length > CORPUS_SIZE) continue;
      size += shortest.length;
      this.coverage.add(await this.#news(shortest));
      fewest.push(shortest);
    }
    return fewest;
  }

  async #news(input: Uint8Array): Promise<ReturnType<BlockCoverage["take"]>> {
    await this.checked.run(input, "parts");
    return this.coverage.take();
  }
}
