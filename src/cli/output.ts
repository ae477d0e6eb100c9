import { stripVTControlCharacters, styleText } from "node:util";
import { terminalWidth, wrapped } from "../picture/text.js";

/** How a command writes: JSON when asked for, else text. */
export interface OutputOptions {
  json?: boolean;
}

/** Writes one JSON document to standard output; see {@link jsonText}. */
export function writeJson(value: unknown): void {
  process.stdout.write(jsonText(value));
}

/** A JSON document; 64-bit numbers become hexadecimal strings. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, (_, item) => (typeof item === "bigint" ? `0x${item.toString(16)}` : item), 2)}\n`;
}

/** Set when what a command makes goes to a file. */
let toFile = false;

/** What is made from now on goes to a file: no colours, and no regard to how wide the terminal is. */
export function writeToFile(): void {
  toFile = true;
}

/** Whether what is made goes to a terminal. */
export function isTerminal(): boolean {
  return process.stdout.isTTY === true && !toFile;
}

/** Writes lines to standard output. */
export function writeLines(lines: readonly string[]): void {
  process.stdout.write(linesText(lines));
}

// Signs that turn the order of the letters after them: a name with one could make a line say something else.
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Lines as one text, for people to read. */
export function linesText(lines: readonly string[]): string {
  return lines.map((line) => `${line.replace(TURNING, "?")}\n`).join("");
}

/**
 * Writes lines of prose and lists: broken at blanks where a terminal is narrower, so that a word stays whole. What is no
 * terminal gets each line whole, for whoever searches it.
 */
export function writeProse(lines: readonly string[]): void {
  process.stdout.write(proseText(lines));
}

/** What {@link writeProse} writes. */
export function proseText(lines: readonly string[]): string {
  return linesText(isTerminal() ? lines.flatMap((line) => brokenLine(line, terminalColumns())) : lines);
}

/** A line in pieces of so many columns, those after the first indented by two more. */
export function brokenLine(line: string, columns: number): string[] {
  if (textColumns(line) <= columns || line.includes("\n")) return [line];
  const lead = /^ */.exec(line)?.[0] ?? "";
  const pieces: string[] = [];
  let piece = lead;
  for (const word of line.slice(lead.length).split(" ")) {
    const longer = piece.trim() === "" ? piece + word : `${piece} ${word}`;
    if (textColumns(longer) <= columns || piece.trim() === "") {
      piece = longer;
    } else {
      pieces.push(piece);
      piece = `${lead}  ${word}`;
    }
  }
  return [...pieces, piece];
}

/** A disable mask as registers are written: `0x000c0000`; null stays null. */
export function mask(value: number): string;
export function mask(value: number | null): string | null;
export function mask(value: number | null): string | null {
  return value === null ? null : `0x${value.toString(16).padStart(8, "0")}`;
}

/** A colour or weight that every terminal has. */
export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan" | "magenta" | "blue";

/**
 * Colours a text when standard output is a terminal that can show it and NO_COLOR is not set (https://no-color.org).
 */
export function paint(style: Style, text: string): string {
  const colours = isTerminal() && !process.env.NO_COLOR && process.env.TERM !== "dumb";
  return colours && text !== "" ? styleText(style, text) : text;
}

/** What a text may take where nobody says how wide the terminal is, or where there is none. */
export const COLUMNS = 80;

/** Columns of the terminal that standard output is; {@link COLUMNS} where it is none. */
export function terminalColumns(): number {
  return isTerminal() && process.stdout.columns > 0 ? process.stdout.columns : COLUMNS;
}

/** Whether the locale has letters beyond ASCII, as setlocale(3) would find it. */
export function terminalIsUnicode(): boolean {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || "");
}

/**
 * A table without borders, columns two spaces apart. Where a terminal is narrower, the widest columns have their cells in
 * several lines. Cells are plain, or painted and short; a table library took longer to load than a whole plan takes to make.
 */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns = isTerminal() ? terminalColumns() : Number.POSITIVE_INFINITY,
): string {
  const all = [head.map((title) => paint("bold", title)), ...rows];
  const natural = head.map((_, column) => Math.max(...all.map((row) => textColumns(row[column] ?? ""))));
  const widths = fittedWidths(natural, columns);
  return all.flatMap((row) => rowLines(row, widths)).join("\n");
}

/** No column is made narrower than this: words would be in pieces. */
const NARROWEST = 10;
const GAP = 2;

/** Takes from the widest column until all fit. */
function fittedWidths(natural: readonly number[], columns: number): number[] {
  const widths = [...natural];
  const total = () => widths.reduce((sum, width) => sum + width + GAP, -GAP);
  for (let excess = total() - columns; excess > 0; excess = total() - columns) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) break;
    widths[widths.indexOf(widest)] = widest - 1;
  }
  return widths;
}

/** One row: a line, or as many as its highest cell has. */
function rowLines(row: readonly string[], widths: readonly number[]): string[] {
  const cells = widths.map((width, column) => {
    const cell = row[column] ?? "";
    return textColumns(cell) <= width || isPainted(cell) ? [cell] : wrapped(cell, width);
  });
  const height = Math.max(1, ...cells.map(({ length }) => length));
  return Array.from({ length: height }, (_, line) =>
    cells
      .map((lines, column) => {
        const text = lines[line] ?? "";
        return text + " ".repeat(Math.max(0, (widths[column] ?? 0) - textColumns(text)) + GAP);
      })
      .join("")
      .trimEnd(),
  );
}

function isPainted(text: string): boolean {
  return stripVTControlCharacters(text) !== text;
}

/** Columns that a text takes on a terminal, colours not counted. */
export function textColumns(text: string): number {
  return terminalWidth(stripVTControlCharacters(text));
}
