import { stripVTControlCharacters, styleText } from "node:util";

/** How a command writes: JSON when asked for, else text. */
export interface OutputOptions {
  json?: boolean;
}

/** Writes one JSON document to standard output; 64-bit numbers become hexadecimal strings. */
export function writeJson(value: unknown): void {
  const text = JSON.stringify(value, (_, item) => (typeof item === "bigint" ? `0x${item.toString(16)}` : item), 2);
  process.stdout.write(`${text}\n`);
}

/** Writes lines to standard output. */
export function writeLines(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join("\n")}\n`);
}

/** A disable mask as registers are written: `0x000c0000`; null stays null. */
export function mask(value: number): string;
export function mask(value: number | null): string | null;
export function mask(value: number | null): string | null {
  return value === null ? null : `0x${value.toString(16).padStart(8, "0")}`;
}

type Style = "bold" | "dim" | "red" | "green" | "yellow";

/** Colours a text when standard output is a terminal and NO_COLOR is not set (https://no-color.org). */
export function paint(style: Style, text: string): string {
  const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
  return colours ? styleText(style, text) : text;
}

/**
 * A table without borders, columns two spaces apart. Cells are plain or painted ASCII; a table library took longer to
 * load than a whole plan takes to make.
 */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head.map((title) => paint("bold", title)), ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => width(row[column] ?? ""))));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - width(cell) + 2))
        .join("")
        .trimEnd(),
    )
    .join("\n");
}

/** Columns that a text takes on a terminal, colours not counted. */
function width(text: string): number {
  return stripVTControlCharacters(text).length;
}
