import { type LspciFunction, readFunction } from "./lspci/function.js";
import { type LspciProblem, LspciRecords } from "./lspci/record.js";
import { textLines } from "./lspci/text.js";

export type { LspciFunction, LspciText } from "./lspci/function.js";
export type { LspciProblem } from "./lspci/record.js";

/** A text in which no function was found. */
export class LspciError extends Error {
  readonly code = "ELSPCI";
  constructor(message: string) {
    super(message);
    this.name = "LspciError";
  }
}

/** What was found in a text. */
export interface LspciListing {
  /** In the order of the text; the same address may occur twice. */
  functions: LspciFunction[];
  /** What looked like a part of a listing and could not be used, by line. */
  problems: LspciProblem[];
}

/**
 * Reads `lspci` output as people paste it: any of `-v -vv -vvv -n -nn -D -PP -k -x -xxx -xxxx -mm -vmm`, several
 * functions and listings in one text, quoted, indented, wrapped by a mail program, with prose around. Time is linear in
 * the text. BAR numbers of a `-v` listing are counted (see `LspciText.barsCounted`).
 * @throws LspciError when there is no function in the text
 */
export function parseLspci(text: string): LspciListing {
  const sorted = new LspciRecords();
  for (const line of textLines(text)) sorted.take(line);
  const { problems, records, tree } = sorted;
  const functions = records.flatMap((record) => readFunction(record, problems) ?? []);
  if (functions.length === 0) throw new LspciError(nothingFound(problems, tree));
  return { functions, problems: problems.sort((a, b) => a.line - b.line) };
}

function nothingFound(problems: readonly LspciProblem[], tree: boolean): string {
  if (tree)
    return "the text has only the tree of lspci -t, which does not say what the functions are: use lspci -Dnnvv";
  const [first] = problems;
  const hint = first === undefined ? "" : ` (line ${first.line}: ${first.message})`;
  return `no PCI function in the text: expected the output of lspci -Dnnvv${hint}`;
}
