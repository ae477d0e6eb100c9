/** Width of one column of the monospaced letters of a picture, in parts of the font size; a little more than any font has. */
const ADVANCE = 0.61;

// Control and format characters, halves of surrogate pairs, and what no XML may hold.
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Cn}\uFFFE\uFFFF]/gu;

/** Signs of our own that every monospaced font has in one column, box drawing included. */
const NARROW = /^[\x20-\x7e…→·–×●\u2500-\u257f]$/;

/** A text of the machine's, fit to be shown: what does not print, reorders text or ends a document becomes `?`. */
export function shown(text: string): string {
  return text.replace(UNPRINTABLE, "?");
}

/** Columns that a text takes at most: letters that fonts draw wide, or that nobody knows, count as two. */
export function columns(text: string): number {
  let count = 0;
  for (const letter of text) count += NARROW.test(letter) ? 1 : 2;
  return count;
}

/** Letters that terminals draw two columns wide, and signs that take none. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/gu;
const WITHOUT_WIDTH = /[\p{Mn}\p{Me}\p{Cf}]/gu;

/** Columns that a text takes on a terminal: never more than {@link columns}. */
export function terminalWidth(text: string): number {
  const letters = text.replace(WITHOUT_WIDTH, "");
  return [...letters].length + (letters.match(WIDE)?.length ?? 0);
}

/** Whether fonts may draw it wider than {@link columns} says. */
export function isForeign(text: string): boolean {
  return [...text].some((letter) => !NARROW.test(letter));
}

/** Width of a text in a picture, for a font size in pixels. */
export function textWidth(text: string, size: number): number {
  return Math.ceil(columns(text) * size * ADVANCE);
}

/** How many columns of a font size fit into so many pixels. */
export function columnsIn(width: number, size: number): number {
  return Math.max(0, Math.floor(width / (size * ADVANCE)));
}

/** The text in this many columns, its end cut off where it is longer. */
export function fitted(text: string, room: number): string {
  const safe = shown(text);
  if (columns(safe) <= room) return safe;
  let fits = "";
  for (const letter of safe) {
    if (columns(fits + letter) > room - 1) break;
    fits += letter;
  }
  return room < 1 ? "" : `${fits.trimEnd()}…`;
}

/** The text in lines of this many columns, broken at blanks where there are any. */
export function wrapped(text: string, room: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of shown(text)
    .split(" ")
    .flatMap((long) => pieces(long, room))) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (columns(longer) <= room) {
      line = longer;
    } else {
      if (line !== "") lines.push(line);
      line = word;
    }
  }
  return line === "" ? lines : [...lines, line];
}

/** A word in pieces that fit a line. */
function pieces(word: string, room: number): string[] {
  if (columns(word) <= room) return [word];
  const parts: string[] = [];
  let part = "";
  for (const letter of word) {
    if (part !== "" && columns(part + letter) > room) {
      parts.push(part);
      part = "";
    }
    part += letter;
  }
  return [...parts, part];
}
