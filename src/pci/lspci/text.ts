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
const CONTROL_CHARACTERS = /[\p{Cc}\p{Zl}\p{Zp}]/gu;

/** What forums and issue trackers put around a pasted listing. lspci's own `<?>`, `<access denied>` are none of these. */
const TAGS =
  /<\/?(?:pre|code|p|br|blockquote|span|div)\b[^<>]{0,200}>|\[\/?(?:code|quote|pre|spoiler)(?:=[^[\]]{0,100})?\]/gi;
const ENTITIES = /&(?:gt|lt|amp|quot|nbsp|#0?39);/g;
const CHARACTERS: Readonly<Record<string, string>> = {
  "&gt;": ">",
  "&lt;": "<",
  "&amp;": "&",
  "&quot;": '"',
  "&nbsp;": " ",
};

/**
 * Splits a text into lines: byte order mark, carriage returns, quote marks (`> >> > | `), code fences and the tags of
 * forums (`[code]`, `<pre>`) go, HTML's entities are read, tabs and no-break spaces count as white space, other control
 * characters as a space. Time is linear in the text.
 */
export function textLines(text: string): TextLine[] {
  return text
    .replace(/^\ufeff/, "")
    .split("\n")
    .map((line, index) => textLine(line, index + 1));
}

function textLine(raw: string, number: number): TextLine {
  const line = withoutMarkup(raw).trimEnd();
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
    } else if (char === ">" || char === "|") {
      // The space after a quote mark belongs to the mark.
      const spaced = line.charAt(start + 1) === " ";
      if (spaced) start++;
      column += spaced ? 2 : 1;
      indent = 0;
    } else break;
  }
  // Escape sequences of a terminal's log, too: names reach other terminals.
  const text = line.slice(start).replace(CONTROL_CHARACTERS, " ");
  const fence = text.startsWith("```") || text.startsWith("~~~");
  const bare = /^`[^`]+`$/.test(text) ? text.slice(1, -1) : text;
  return { number, indent, width: column + text.length, text: fence ? "" : bare };
}

function withoutMarkup(line: string): string {
  if (!/[<&[]/.test(line)) return line;
  return line.replace(TAGS, "").replace(ENTITIES, (entity) => CHARACTERS[entity] ?? "'");
}
