import { terminalWidth } from "./text.js";
import type { WireState } from "./wires.js";

/** How a piece of text is meant: whoever prints it may colour it. */
export type TextStyle = "plain" | "bold" | "dim" | "bad" | `owner-${number}`;

/** Text with a meaning; pieces of a line stand behind each other. */
export interface Piece {
  text: string;
  style: TextStyle;
}

/** Signs of a line in one state: across, down, lower left corner, lower right corner, crossing. */
type Signs = readonly [across: string, down: string, left: string, right: string, crossing: string];

/** Signs for terminals that know Unicode's box drawing, and for those that do not. */
export interface SignSet {
  wires: Readonly<Record<WireState, Signs>>;
  cut: string;
  joined: string;
  /** Corners and edges of a box: upper left, upper right, lower left, lower right, across, down, and where a line leaves. */
  box: readonly [string, string, string, string, string, string, string];
}

export const UNICODE_SIGNS: SignSet = {
  wires: {
    up: ["━", "┃", "┗", "┛", "╋"],
    "cut-one": ["─", "│", "└", "┘", "┼"],
    "cut-both": ["┄", "┆", "└", "┘", "┼"],
    unknown: ["╍", "╏", "┗", "┛", "╋"],
  },
  cut: "×",
  joined: "●",
  box: ["┌", "┐", "└", "┘", "─", "│", "┬"],
};

export const ASCII_SIGNS: SignSet = {
  wires: {
    up: ["=", "|", "+", "+", "|"],
    "cut-one": ["-", "|", "+", "+", "|"],
    "cut-both": [".", ":", "+", "+", ":"],
    unknown: ["~", "!", "+", "+", "!"],
  },
  cut: "x",
  joined: "o",
  box: ["+", "+", "+", "+", "-", "|", "+"],
};

/** A grid of letters to draw on. */
export class TextCanvas {
  readonly #signs: SignSet;
  readonly #rows: { sign: string; style: TextStyle }[][] = [];

  constructor(signs: SignSet) {
    this.#signs = signs;
  }

  write(x: number, y: number, text: string, style: TextStyle = "plain"): void {
    let place = x;
    for (const sign of text) {
      const width = terminalWidth(sign);
      const before = this.#rows[y]?.[place - 1];
      if (width === 0 && before !== undefined) before.sign += sign;
      else this.#put(place, y, sign, style);
      // A wide letter stands in the next place too.
      if (width === 2) this.#put(place + 1, y, "", style);
      place += width;
    }
  }

  /** The outline of a box. */
  box(x: number, y: number, width: number, height: number): void {
    const [upperLeft, upperRight, lowerLeft, lowerRight, across, down] = this.#signs.box;
    this.write(x, y, upperLeft + across.repeat(width - 2) + upperRight);
    for (let row = y + 1; row < y + height - 1; row++) {
      this.write(x, row, down);
      this.write(x + width - 1, row, down);
    }
    this.write(x, y + height - 1, lowerLeft + across.repeat(width - 2) + lowerRight);
  }

  /** A line down. */
  down(x: number, from: number, to: number, state: WireState, style: TextStyle): void {
    for (let y = from; y <= to; y++) this.#put(x, y, this.#signs.wires[state][1], style);
  }

  /** A line across, drawn after those down: it crosses what is there, and bends up at both ends. */
  across(from: number, to: number, y: number, state: WireState, style: TextStyle): void {
    const [across, , left, right, crossing] = this.#signs.wires[state];
    for (let x = from + 1; x < to; x++) {
      const there = this.#rows[y]?.[x]?.sign ?? " ";
      this.#put(x, y, there === " " ? across : crossing, style);
    }
    this.#put(from, y, left, style);
    this.#put(to, y, right, style);
  }

  /** The lines, each as pieces of one style. */
  lines(): Piece[][] {
    return this.#rows.map((row) => {
      const pieces: Piece[] = [];
      for (const { sign, style } of row) {
        const last = pieces.at(-1);
        if (last?.style === style) last.text += sign;
        else pieces.push({ text: sign, style });
      }
      return pieces;
    });
  }

  #put(x: number, y: number, sign: string, style: TextStyle): void {
    while (this.#rows.length <= y) this.#rows.push([]);
    const row = this.#rows[y];
    if (row === undefined) return;
    for (let place = row.length; place < x; place++) row[place] = { sign: " ", style: "plain" };
    row[x] = { sign, style };
  }
}
