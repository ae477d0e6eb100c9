import type { Random } from "../random.js";
import type { Mutation } from "./target.js";

/** Longest input that mutations make. Larger ones are the business of growth.ts. */
const MAX_LENGTH = 1 << 16;
/** Most changes made at once. */
const MAX_CHANGES = 5;

/** An input with one change or a few. */
export function mutated(
  input: Uint8Array,
  random: Random,
  other: Uint8Array,
  mutations: readonly Mutation[],
): Uint8Array {
  let changed = input;
  const changes = 1 + random.below(random.once(3) ? MAX_CHANGES : 2);
  for (let change = 0; change < changes; change++) {
    const mutation = mutations[random.below(mutations.length)];
    if (mutation !== undefined) changed = mutation(changed, random, other);
  }
  return changed.subarray(0, MAX_LENGTH);
}

/** Numbers at which mistakes happen. */
export function edgeNumber(random: Random): bigint {
  const bits = random.pick([0, 1, 3, 4, 7, 8, 12, 15, 16, 20, 24, 31, 32, 52, 53, 63, 64]);
  return BigInt.asUintN(64, (1n << BigInt(bits)) + BigInt(random.below(4)) - 2n);
}

function place(length: number, random: Random): { start: number; end: number } {
  const start = random.below(length + 1);
  const longest = random.once(4) ? length : 16;
  return { start, end: Math.min(length, start + 1 + random.below(longest)) };
}

function spliced(bytes: Uint8Array, start: number, end: number, between: Uint8Array): Uint8Array {
  return Buffer.concat([bytes.subarray(0, start), between, bytes.subarray(end)]);
}

function withByte(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  if (at < copy.length) copy[at] = value;
  return copy;
}

/** Overwrites a number of 1 to 8 bytes, in either byte order, mostly where one would stand. */
const setNumber: Mutation = (input, random) => {
  const width = random.pick([1, 2, 4, 4, 8]);
  if (input.length < width) return input;
  const unaligned = random.below(input.length - width + 1);
  const at = random.once(4) ? unaligned : unaligned - (unaligned % width);
  const copy = Uint8Array.from(input);
  const old = Buffer.from(copy.subarray(at, at + width));
  const near = BigInt(old.readUIntBE(0, Math.min(6, width)) + random.below(9) - 4);
  const value = random.once(2) ? edgeNumber(random) : near;
  const view = new DataView(new ArrayBuffer(8));
  const little = random.once(2);
  view.setBigUint64(0, BigInt.asUintN(64, value), little);
  copy.set(new Uint8Array(view.buffer, little ? 0 : 8 - width, width), at);
  return copy;
};

/** Changes that know nothing of the format. */
export const BYTE_MUTATIONS: readonly Mutation[] = [
  (input, random) => {
    const at = random.below(input.length + 1);
    return withByte(input, at, (input[at] ?? 0) ^ (1 << random.below(8)));
  },
  (input, random) => withByte(input, random.below(input.length + 1), random.pick([0, 1, 0x7f, 0x80, 0xff, 10, 32, 34])),
  setNumber,
  setNumber,
  (input, random) => {
    const { start, end } = place(input.length, random);
    return spliced(input, start, end, new Uint8Array());
  },
  (input, random) => {
    const { start, end } = place(input.length, random);
    return spliced(input, start, start, input.subarray(start, end));
  },
  (input, random) => {
    const at = random.below(input.length + 1);
    return spliced(input, at, at, random.bytes(1 + random.below(8)));
  },
  (input, random, other) => {
    const [from, to] = [place(other.length, random), place(input.length, random)];
    return spliced(input, to.start, random.once(2) ? to.end : to.start, other.subarray(from.start, from.end));
  },
  (input, random) => (random.once(8) ? input.subarray(0, random.below(input.length + 1)) : input),
];

/** A change to a text, which is taken and given back as Latin-1 so that every byte stays what it is. */
function ofText(change: (text: string, random: Random, other: string) => string): Mutation {
  return (input, random, other) => {
    const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
    return Buffer.from(change(text(input), random, text(other)), "latin1");
  };
}

function ofLines(change: (lines: string[], random: Random, other: string[]) => string[]): Mutation {
  return ofText((text, random, other) => change(text.split("\n"), random, other.split("\n")).join("\n"));
}

/** Replaces one of the matches of a pattern, any of them. */
function withMatch(text: string, pattern: RegExp, random: Random, replace: (found: string) => string): string {
  const matches = [...text.matchAll(pattern)];
  const match = matches[random.below(matches.length)];
  if (match === undefined) return text;
  return text.slice(0, match.index) + replace(match[0]) + text.slice(match.index + match[0].length);
}

const ODD_CHARACTERS = [
  "\0",
  "\t",
  "\r",
  "\x1b[2J",
  "\x9b",
  "\xc2\x9b",
  "\xe2\x80\xa8",
  "\xc3",
  "[",
  "(",
  "<",
  '"',
  "\\",
];

/** Changes to the lines, words and numbers of a text. */
export const TEXT_MUTATIONS: readonly Mutation[] = [
  ofLines((lines, random) => lines.toSpliced(random.below(lines.length), 1 + random.below(random.once(4) ? 40 : 2))),
  ofLines((lines, random) => {
    const from = random.below(lines.length);
    const some = lines.slice(from, from + 1 + random.below(random.once(4) ? 40 : 3));
    return lines.toSpliced(random.below(lines.length + 1), 0, ...some);
  }),
  ofLines((lines, random, other) => {
    const from = random.below(other.length);
    const some = other.slice(from, from + 1 + random.below(random.once(4) ? 40 : 3));
    return lines.toSpliced(random.below(lines.length + 1), random.below(3), ...some);
  }),
  ofLines((lines, random) => {
    const at = random.below(lines.length);
    const cut = random.below((lines[at]?.length ?? 0) + 1);
    const parts = [lines[at]?.slice(0, cut) ?? "", lines[at]?.slice(cut) ?? ""];
    return random.once(2) ? lines.toSpliced(at, 1, ...parts) : lines.toSpliced(at, 2, lines.slice(at, at + 2).join(""));
  }),
  ofText((text, random) =>
    withMatch(text, /\d+/g, random, (found) => {
      const number = random.once(2) ? edgeNumber(random) : BigInt(found.slice(0, 20)) + BigInt(random.below(3)) - 1n;
      return `${number}`.padStart(random.once(3) ? found.length : 0, "0");
    }),
  ),
  ofText((text, random) =>
    withMatch(text, /[0-9a-f]{2,}/gi, random, (found) => {
      const digits = edgeNumber(random).toString(16);
      return random.once(4) ? digits : digits.padStart(found.length, "0").slice(-found.length);
    }),
  ),
  ofText((text, random, other) => {
    const words = other.match(/\S+/g) ?? [];
    return withMatch(text, /\S+/g, random, () => words[random.below(words.length)] ?? "");
  }),
  ofText((text, random) => {
    const at = random.below(text.length + 1);
    const odd = ODD_CHARACTERS[random.below(ODD_CHARACTERS.length)] ?? "";
    return text.slice(0, at) + odd.repeat(random.once(20) ? 300 : 1) + text.slice(at);
  }),
  ofText((text, random) => {
    if (!random.once(8)) return text;
    return withMatch(text, /\S+/g, random, (found) => found.repeat(random.pick([2, 100, 1000])).slice(0, 10_000));
  }),
];
