import { numberRuns } from "../isolation/number_runs.js";
import { bondsOf, type SwitchBond, switchBondsOf } from "./bonds.js";
import type { Picture } from "./picture.js";
import { fitted, shown, terminalWidth, wrapped } from "./text.js";
import type { Piece, SignSet, TextStyle } from "./text_canvas.js";
import type { WireState } from "./wires.js";
import { STATES } from "./words.js";

/** More lines than these are counted only. */
const LINES = 200;
const NAME = 14;
const NUMBERS = 16;

/** A line of the list before it is laid out. */
interface Entry {
  state: WireState;
  near: string;
  far: string;
  findings: number[];
  cut: readonly boolean[];
}

/** All links with their numbers and states, those between the same two GPUs in one line of at most `width` columns. */
export function linkList(picture: Picture, signs: SignSet, width: number): Piece[][] {
  const name = (gpu: number) => fitted(picture.gpus[gpu]?.name ?? "", NAME);
  const entries = bondsOf(picture).map(({ gpus, links, to, state, findings, cut }): Entry => {
    const [near, far] = gpus.map((gpu, end) => `${name(gpu)}: ${numbersText(links[end] ?? [])}`);
    const end = to === "bridge" ? "CPU" : "nobody knows where";
    return { state, near: near ?? "", far: far ?? end, findings, cut };
  });
  const lines = entries.slice(0, LINES).map((entry, _, shownEntries) => entryLine(entry, shownEntries, signs, width));
  const rest = entries.length - lines.length;
  return [
    ...lines,
    ...(rest > 0 ? [[plain(`  and ${rest} more`)]] : []),
    ...switchBondsOf(picture)
      .slice(0, LINES)
      .flatMap((bond) => switchLines(bond, picture, signs, width)),
  ];
}

function entryLine(entry: Entry, all: readonly Entry[], { wires, cut }: SignSet, width: number): Piece[] {
  const widest = (key: "near" | "far") => all.reduce((most, one) => Math.max(most, terminalWidth(one[key])), 0);
  const [across] = wires[entry.state];
  const ends = entry.cut.length === 2 ? entry.cut : [entry.cut[0] === true, false];
  const sign = `${ends[0] === true ? cut : across}${across}${ends[1] === true ? cut : across}`;
  const finding = entry.findings.length === 0 ? "" : `, finding ${entry.findings.join(" ")}`;
  const body = `${padded(entry.near, widest("near"))}  ${padded(entry.far, widest("far"))}  `;
  const style: TextStyle = entry.findings.length > 0 ? "bad" : entry.state === "up" ? "bold" : "dim";
  return [{ text: `  ${sign} `, style }, plain(fitted(`${body}${STATES[entry.state]}${finding}`, width - 6))];
}

/** An NVSwitch, or several that differ in names only, and the GPUs on it by state. */
function switchLines(
  { names, gpus, findings }: SwitchBond,
  picture: Picture,
  { wires }: SignSet,
  width: number,
): Piece[][] {
  const title =
    names.length === 1 ? `NVSwitch ${names[0]}` : `${names.length} NVSwitches ${names[0]} ... ${names.at(-1)}`;
  const finding =
    findings.length === 0
      ? ""
      : `, finding ${findings.length > 4 ? `${findings[0]} ... ${findings.at(-1)}` : findings.join(" ")}`;
  const style: TextStyle = findings.length > 0 ? "bad" : "bold";
  const states = [...new Set(gpus.map(({ state }) => state))];
  const lines = states.flatMap((state) => {
    const own = gpus.filter((one) => one.state === state).map(({ gpu }) => shown(picture.gpus[gpu]?.name ?? ""));
    return wrapped(`${STATES[state]}: ${own.join(" ")}`, width - 6);
  });
  const head = fitted(`${shown(title)}${finding}`, width - 6);
  return [
    [{ text: `  ${wires.up[0].repeat(3)} `, style }, plain(head)],
    ...lines.slice(0, LINES).map((line) => [plain(`      ${line}`)]),
  ];
}

function numbersText(links: readonly (number | undefined)[]): string {
  const known = links.filter((link) => link !== undefined);
  return fitted([numberRuns(known), ...(known.length < links.length ? ["?"] : [])].join(" ").trim(), NUMBERS);
}

function padded(text: string, to: number): string {
  return text + " ".repeat(Math.max(0, to - terminalWidth(text)));
}

function plain(text: string): Piece {
  return { text, style: "plain" };
}
