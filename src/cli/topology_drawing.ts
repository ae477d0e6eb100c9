import { linkList } from "../picture/link_list.js";
import type { Picture } from "../picture/picture.js";
import { ASCII_SIGNS, type Piece, type TextStyle, UNICODE_SIGNS } from "../picture/text_canvas.js";
import { textDrawing, textLegend } from "../picture/text_drawing.js";
import { paint, type Style, terminalColumns, terminalIsUnicode } from "./output.js";

/** Colours of assignments on a terminal, which has a few only: their names stand beside them. */
const OWNER_STYLES: readonly Style[] = ["cyan", "yellow", "green", "magenta", "blue"];

/** The machine drawn in letters where there is room for it, then its links with their numbers. */
export function drawingLines(picture: Picture): string[] {
  if (picture.wires.length === 0) return [];
  const signs = terminalIsUnicode() ? UNICODE_SIGNS : ASCII_SIGNS;
  const width = terminalColumns();
  const drawing = textDrawing(picture, signs, width) ?? [];
  const list = linkList(picture, signs, width).map(painted);
  if (drawing.length === 0) return list;
  const legend = textLegend(picture);
  return [...drawing.map(painted), ...(legend === "" ? [] : ["", paint("dim", legend)]), "", ...list];
}

function painted(pieces: readonly Piece[]): string {
  const ends = pieces.map(({ text }, index) => (index === pieces.length - 1 ? text.trimEnd() : text));
  return pieces.map(({ style }, index) => withStyle(style, ends[index] ?? "")).join("");
}

function withStyle(style: TextStyle, text: string): string {
  switch (style) {
    case "plain":
      return text;
    case "bold":
    case "dim":
      return paint(style, text);
    case "bad":
      return paint("red", text);
    default: {
      const owner = Number(style.slice("owner-".length));
      return paint(OWNER_STYLES[owner % OWNER_STYLES.length] ?? "bold", text);
    }
  }
}
