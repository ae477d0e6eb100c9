import { Random } from "../random.js";
import type { CheckedRun } from "./checked_run.js";
import { Finding } from "./target.js";

const SMALL = 64 << 10;
/** How many times as large the large input is. */
const FACTOR = 8;
/** Quadratic time takes this many times as long per byte; half of it is more than memory and collected garbage explain. */
const LIMIT = FACTOR / 2;
/** Below this, in milliseconds, nobody minds. */
const NOTICEABLE = 250;

/** A small and a large input of one kind. */
export type Pair = readonly [small: Uint8Array, large: Uint8Array];

/** Inputs of two sizes, from a target's own or by repeating a piece of an input. */
export function grownPair({ target }: CheckedRun, random: Random, input: Uint8Array | undefined): Pair {
  if (input === undefined) {
    const seed = random.u32();
    const at = (size: number) => target.grown(new Random(seed), size);
    return [at(SMALL), at(SMALL * FACTOR)];
  }
  const start = random.below(input.length + 1);
  const end = Math.min(input.length, start + 1 + random.below(random.once(2) ? 8 : 400));
  const piece = Buffer.from(input.subarray(start, end));
  const repeated = (size: number) => {
    const times = Math.ceil(size / Math.max(1, piece.length));
    return Buffer.concat([input.subarray(0, start), ...new Array<Buffer>(times).fill(piece), input.subarray(end)]);
  };
  return [repeated(SMALL), repeated(SMALL * FACTOR)];
}

/** Time grows faster than the input. */
export class GrowthFinding extends Finding {
  constructor(
    readonly pair: Pair,
    message: string,
  ) {
    super(message);
  }
}

/** @throws GrowthFinding when the large one of a pair takes more time per byte than the small one by far */
export async function checkGrowth(checked: CheckedRun, [small, large]: Pair): Promise<void> {
  await checked.run(small, "parts");
  await checked.run(large, "parts");
  let ratio = Number.POSITIVE_INFINITY;
  // The least of a few, for the first run of much code is slow.
  for (let time = 0; time < 3 && ratio > LIMIT; time++) {
    const [short, long] = [await checked.time(small, "parts"), await checked.time(large, "parts")];
    if (long < NOTICEABLE) return;
    ratio = Math.min(ratio, long / large.length / (short / small.length));
  }
  if (ratio > LIMIT) {
    const much = `${ratio.toFixed(1)} times the time per byte`;
    throw new GrowthFinding([small, large], `${large.length} bytes take ${much} of ${small.length}`);
  }
}
