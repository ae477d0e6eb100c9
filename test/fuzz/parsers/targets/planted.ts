import { BYTE_MUTATIONS } from "../mutation.js";
import type { Target } from "../target.js";

/** What is wrong with a planted parser. */
export type Fault = "crash" | "hang" | "quadratic" | "memory";

/** Far more than an input of a few bytes may take. */
const MUCH = 400 << 20;
const WORD = "deep";

/**
 * A parser with one fault: behind a word that nobody comes upon by chance, but byte by byte when what ran is looked at; or
 * in the time that it takes for a large input.
 */
export function makePlanted(fault: Fault): Target {
  return {
    modules: ["/targets/planted"],
    seeds: () => [Uint8Array.from(Buffer.from("shallow water"))],
    mutations: BYTE_MUTATIONS,
    grown: (random, size) => random.bytes(size),
    run: async (input) => {
      if (fault === "quadratic") return countPairs(input) > 0;
      if (!hasWord(input)) return false;
      if (fault === "crash") return JSON.parse("");
      if (fault === "memory") return new Uint8Array(MUCH).fill(1).length > 0;
      for (;;);
    },
  };
}

function hasWord(input: Uint8Array): boolean {
  if (input[0] !== WORD.charCodeAt(0)) return false;
  if (input[1] !== WORD.charCodeAt(1)) return false;
  if (input[2] !== WORD.charCodeAt(2)) return false;
  return input[3] === WORD.charCodeAt(3) && input.length > 4;
}

function countPairs(input: Uint8Array): number {
  let pairs = 0;
  for (let a = 0; a < input.length; a += 24)
    for (let b = a; b < input.length; b += 24) if (input[a] === input[b]) pairs++;
  return pairs;
}
