import type { Look } from "./drawing.js";
import type { Picture } from "./picture.js";
import { BADGE, lineHeight, type Sheet } from "./sheet.js";
import { columnsIn, textWidth, wrapped } from "./text.js";
import type { WireState } from "./wires.js";
import { stateInWords } from "./words.js";

/** Findings beyond these are counted only. */
const FINDINGS = 40;
const OWNERS = 40;
const SIZE = 12;
const IN_ORDER: readonly WireState[] = ["up", "cut-one", "cut-both", "unknown"];

/** Draws what the machine is called and where it was read; returns where to go on. */
export function layHeading(sheet: Sheet, picture: Picture, margin: number, width: number): number {
  const { machine, virtual, planned, source } = picture;
  const heading = `${planned ? "Plan for " : ""}${machine}${virtual ? " (virtual)" : ""}`;
  sheet.text("front", "strong", heading, margin, margin, 18, width);
  let y = margin + lineHeight(18) + 2;
  for (const line of wrapped(source, columnsIn(width, 11)).slice(0, 3)) {
    sheet.text("front", "dim", line, margin, y, 11, width);
    y += lineHeight(11);
  }
  return y + 10;
}

/** Draws the legend and the findings; returns where they end. */
export function layCaption(sheet: Sheet, picture: Picture, margin: number, top: number, width: number): number {
  const legend = new Legend(sheet, margin, top, width);
  const { wires, owners, findings, gpus } = picture;
  const fine = wires.filter(({ to, findings: bad }) => to?.kind !== "none" && bad.length === 0);
  const states = new Set(fine.map(({ state }) => state));
  for (const state of IN_ORDER) if (states.has(state)) legend.wire(state, stateInWords(state, picture));
  if (wires.some(({ ends }) => ends.some(({ cut }) => cut)))
    legend.cross(picture.planned ? "planned to be cut here" : "cut here");
  const bad = new Set(wires.flatMap((wire) => (wire.findings.length > 0 ? [wire.state] : [])));
  if (bad.has("up")) legend.wire("bad", "up, must not be");
  if (bad.has("unknown")) legend.wire("bad-unknown", "not known, must be cut");
  if (wires.some(({ to }) => to?.kind === "unknown")) legend.words("?: nobody knows where");
  if (gpus.some(({ group }) => group !== undefined)) {
    const others = gpus.some(({ group }) => group !== undefined && group.others > 0);
    const computed = gpus.some(({ group }) => group?.computed) ? " by rules, not the kernel's own" : "";
    legend.swatch("group", `IOMMU group${computed}${others ? " (+ other members)" : ""}`);
  }
  owners.slice(0, OWNERS).forEach((owner, index) => {
    legend.swatch(`owner-${index}`, owner);
  });
  if (owners.length > OWNERS) legend.words(`and ${owners.length - OWNERS} more owners`);
  if (owners.length > 0 && gpus.some(({ owner }) => owner === "host")) legend.words("no colour: host");
  let y = legend.end();
  if (gpus.length === 0) {
    sheet.text("front", "text", "no GPUs", margin, y, SIZE, width);
    y += lineHeight(SIZE);
  }
  for (const { number, reason, action } of findings.slice(0, FINDINGS)) {
    sheet.badge(String(number), margin + BADGE / 2, y + BADGE / 2);
    const x = margin + BADGE + 8;
    const room = width - BADGE - 8;
    const lines: [Look, string][] = [
      ...wrapped(reason, columnsIn(room, SIZE)).map((line): [Look, string] => ["text", line]),
      ...wrapped(`→ ${action}`, columnsIn(room, SIZE)).map((line): [Look, string] => ["dim", line]),
    ];
    lines.slice(0, 6).forEach(([look, line], place) => {
      sheet.text("front", look, line, x, y + 2 + place * lineHeight(SIZE), SIZE, room);
    });
    y += Math.max(BADGE, Math.min(lines.length, 6) * lineHeight(SIZE)) + 8;
  }
  if (findings.length > FINDINGS) {
    sheet.text("front", "dim", `and ${findings.length - FINDINGS} more findings`, margin, y, SIZE, width);
    y += lineHeight(SIZE);
  }
  return y;
}

/** Signs with a word each, side by side, in as many lines as it takes. */
class Legend {
  readonly #sheet: Sheet;
  readonly #margin: number;
  readonly #width: number;
  #x: number;
  #y: number;

  constructor(sheet: Sheet, margin: number, top: number, width: number) {
    this.#sheet = sheet;
    this.#margin = margin;
    this.#width = width;
    this.#x = margin;
    this.#y = top;
  }

  wire(look: Look, label: string): void {
    const x = this.#room(label, 34);
    this.#sheet.path("front", look, [
      [x, this.#y + 8],
      [x + 28, this.#y + 8],
    ]);
    this.#label(label, x + 34);
  }

  cross(label: string): void {
    const x = this.#room(label, 18);
    const y = this.#y + 8;
    this.#sheet.path("front", "mark", [
      [x + 2, y - 4],
      [x + 10, y + 4],
    ]);
    this.#sheet.path("front", "mark", [
      [x + 2, y + 4],
      [x + 10, y - 4],
    ]);
    this.#label(label, x + 18);
  }

  swatch(look: Look, label: string): void {
    const x = this.#room(label, 34);
    this.#sheet.rect("front", look, { x, y: this.#y, width: 28, height: 16 }, "mark", 3);
    this.#label(label, x + 34);
  }

  words(label: string): void {
    this.#label(label, this.#room(label, 0));
  }

  /** Where what follows may begin. */
  end(): number {
    return this.#y + (this.#x > this.#margin ? lineHeight(SIZE) + 16 : 0);
  }

  /** A place for a sign and its word, in the next line where this one is full. */
  #room(label: string, sign: number): number {
    const needed = Math.min(sign + textWidth(label, SIZE) + 20, this.#width);
    if (this.#x > this.#margin && this.#x + needed > this.#margin + this.#width) {
      this.#x = this.#margin;
      this.#y += lineHeight(SIZE) + 8;
    }
    const x = this.#x;
    this.#x += needed;
    return x;
  }

  #label(label: string, x: number): void {
    this.#sheet.text("front", "text", label, x, this.#y, SIZE, this.#margin + this.#width - x);
  }
}
