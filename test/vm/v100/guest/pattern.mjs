/** Bytes of one block of the pattern. */
export const BLOCK = 1 << 22;

const STEP = 64;

/**
 * Bytes that tell their place: block n is a piece of a random template, and each n has another piece. So neither bytes
 * within a block nor blocks can change places, be left out or come twice without being noticed.
 */
export class Pattern {
  #template = new Uint8Array(2 * BLOCK);

  /** @param seed another one for another pattern */
  constructor(seed) {
    const words = new Uint32Array(this.#template.buffer);
    let state = seed | 1;
    for (let at = 0; at < words.length; at++) {
      // xorshift32 (Marsaglia, Xorshift RNGs)
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[at] = state;
    }
  }

  /** The bytes of block n; fewer than 65536 of them differ. */
  block(n) {
    const start = ((n * 40503) % (BLOCK / STEP)) * STEP;
    return this.#template.subarray(start, start + BLOCK);
  }
}
