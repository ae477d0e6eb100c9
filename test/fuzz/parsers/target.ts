import type { Random } from "../random.js";

/** A parser did what it must not: lost something on a round trip, printed a control character, took too long. */
export class Finding extends Error {
  override name = "Finding";
}

/** Changes an input in one way. May return what it was given when there is nothing to change. */
export type Mutation = (input: Uint8Array, random: Random, other: Uint8Array) => Uint8Array;

/**
 * How an input is used once it is read: by what commands are made of, which is quick, or by the commands themselves as
 * well.
 */
export type Use = "parts" | "commands";

/** A parser, and all that the program does with what it has read. */
export interface Target {
  /** Parts of the URLs of the modules whose blocks guide it, and are counted. */
  modules: readonly string[];
  /** Inputs to begin with, besides those of the corpus. */
  seeds(): Uint8Array[];
  mutations: readonly Mutation[];
  /** An input of about `size` bytes that is read in full, as far as the format goes: to see how time grows with size. */
  grown(random: Random, size: number): Uint8Array;
  /**
   * Has the input read and used.
   * @returns whether it was accepted; false when it was refused in the parser's own words
   * @throws Finding, or whatever the program threw that is no refusal of its own
   */
  run(input: Uint8Array, use: Use): Promise<boolean>;
}

/** Makes a target. `directory` is a folder for its files. Its modules are loaded only now, so that they are counted. */
export type MakeTarget = (directory: string) => Target;

/** A refusal longer than this is no line that a person reads. */
const MAX_REFUSAL = 1000;

/**
 * What a parser makes of its input, or undefined when it refuses it with one of its own errors.
 * @throws whatever else it throws, and a Finding when the refusal is too long to be read
 */
export function readOrRefused<T>(read: () => T, ...refusals: (new (...args: never[]) => Error)[]): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Error) || !refusals.some((refusal) => error instanceof refusal)) throw error;
    checkRefusal(error);
    return undefined;
  }
}

/** @throws Finding when the error has more to say than fits a line */
export function checkRefusal(error: Error): void {
  if (error.message.length > MAX_REFUSAL) throw new Finding(`a refusal of ${error.message.length} characters`);
}
