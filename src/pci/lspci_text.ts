/** One line of a pasted text, freed of what mail and markdown put around it. */
export interface TextLine {
  /** Line number in the text as given, from 1. */
  number: number;
  /** Columns of white space before the text, after quote marks; a tab goes to the next multiple of 8. */
  indent: number;
  /** Columns of the whole line with its quote marks: what a mail program wraps by. */
  width: number;
  /** Without surrounding white space; empty for a blank line and for a code fence. */
  text: string;
}

const TAB = 8;

/**
 * Splits a text into lines: byte order mark, carriage returns, quote marks (`> >> > `) and code fences go, tabs and
 * no-break spaces count as white space. Time is linear in the text.
 */
export function textLines(text: string): TextLine[] {
  return text
    .replace(/^\ufeff/, "")
    .split("\n")
    .map((line, index) => textLine(line, index + 1));
}

function textLine(raw: string, number: number): TextLine {
  const line = raw.trimEnd();
  let start = 0;
  let column = 0;
  let indent = 0;
  for (; start < line.length; start++) {
    const char = line.charAt(start);
    if (char === "\t") {
      const next = column - (column % TAB) + TAB;
      indent += next - column;
      column = next;
    } else if (char === " " || char === "\u00a0") {
      indent++;
      column++;
    } else if (char === ">") {
      // The space after a quote mark belongs to the mark.
      const spaced = line.charAt(start + 1) === " ";
      if (spaced) start++;
      column += spaced ? 2 : 1;
      indent = 0;
    } else break;
  }
  const text = line.slice(start);
  const fence = text.startsWith("```") || text.startsWith("~~~");
  return { number, indent, width: column + text.length, text: fence ? "" : text };
}
