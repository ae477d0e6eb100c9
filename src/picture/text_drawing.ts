import { type Bond, bondsOf, type SwitchBond, switchBondsOf } from "./bonds.js";
import type { TreeNode } from "./pcie_tree.js";
import { isAssigned, type Picture, type PicturedGpu } from "./picture.js";
import { type NetEnd, orderEnds, packRows } from "./routing.js";
import { rowsOf } from "./rows.js";
import { columns, fitted } from "./text.js";
import { type Piece, type SignSet, TextCanvas, type TextStyle } from "./text_canvas.js";

/** Between two GPUs. */
const GAP = 1;
const NAME = 14;

/**
 * Draws who is joined with whom in letters: GPUs side by side, below them a line for all links of one state between two
 * GPUs, with their count. IOMMU groups are left out where they take too much room. Undefined where it takes more columns
 * than `width` even so.
 */
export function textDrawing(picture: Picture, signs: SignSet, width: number): Piece[][] | undefined {
  const groupless = picture.gpus.map(({ group: _, ...gpu }) => gpu);
  return drawnIn(picture, signs, width) ?? drawnIn({ ...picture, gpus: groupless }, signs, width);
}

function drawnIn(picture: Picture, signs: SignSet, width: number): Piece[][] | undefined {
  const boxWidths = widthsOf(picture);
  const rows = rowsOf(picture, (gpu) => (boxWidths[gpu] ?? 0) + GAP, width + GAP);
  // Asked before anything is drawn: a large machine's drawing is larger than memory.
  if (rows.some((row) => widthsOf(row).reduce((sum, box) => sum + box + GAP, -GAP) > width)) return undefined;
  const lines: Piece[][] = [];
  for (const row of rows) {
    const drawn = new TextRow(row, signs).draw();
    if (drawn.some((line) => line.reduce((sum, { text }) => sum + columns(text), 0) > width)) return undefined;
    if (lines.length > 0) lines.push([]);
    lines.push(...drawn);
  }
  return lines;
}

/** Lines of text in each GPU's box. */
function wordsOf({ name, address, owner, group }: PicturedGpu, owners: boolean): { text: string; style: TextStyle }[] {
  const short = name === address ? address.replace(/^0000:/, "") : name;
  return [
    { text: short, style: "bold" },
    ...(owners ? [{ text: owner ?? "", style: "plain" as const }] : []),
    ...(group === undefined ? [] : [{ text: `group ${group.id}`, style: "dim" as const }]),
  ];
}

/** What leaves GPUs downwards: bonds first, then bars. */
function endsOf(picture: Picture): { bonds: Bond[]; bars: SwitchBond[]; rows: number[]; ends: NetEnd[][] } {
  const bonds = bondsOf(picture);
  const bars = switchBondsOf(picture);
  const joining = bonds.filter(({ gpus }) => gpus.length === 2);
  const packed = packRows(joining.map(({ gpus }) => ({ from: gpus[0] ?? 0, to: gpus[1] ?? 0 })));
  const rowOf = new Map(joining.map((bond, index) => [bond, packed[index]]));
  const rows = bonds.map((bond) => rowOf.get(bond) ?? -1);
  const depth = packed.reduce((most, row) => Math.max(most, row + 1), 0);
  const nets = [
    ...bonds.map(({ gpus }, index) => ({ slots: gpus, depth: rows[index] ?? 0 })),
    ...bars.flatMap(({ gpus }, bar) => gpus.map(({ gpu }) => ({ slots: [gpu], depth: depth + bar }))),
  ];
  return { bonds, bars, rows, ends: orderEnds(picture.gpus.length, nets) };
}

function widthsOf(picture: Picture): number[] {
  const { ends } = endsOf(picture);
  return picture.gpus.map((gpu, index) => boxWidth(gpu, ends[index]?.length ?? 0, picture));
}

function boxWidth(gpu: PicturedGpu, ends: number, { owners }: Picture): number {
  const words = wordsOf(gpu, owners.length > 0).map(({ text }) => Math.min(NAME, columns(text)));
  return 2 + Math.max(3, 2 * ends - 1, ...words);
}

/** GPUs side by side, and what joins them. */
class TextRow {
  readonly #picture: Picture;
  readonly #signs: SignSet;
  readonly #canvas: TextCanvas;
  /** Left edge of each GPU's box. */
  readonly #lefts: number[] = [];
  readonly #widths: number[];

  constructor(picture: Picture, signs: SignSet) {
    this.#picture = picture;
    this.#signs = signs;
    this.#canvas = new TextCanvas(signs);
    this.#widths = widthsOf(picture);
    let x = 0;
    for (const width of this.#widths) {
      this.#lefts.push(x);
      x += width + GAP;
    }
  }

  draw(): Piece[][] {
    const { bonds, bars, rows, ends } = endsOf(this.#picture);
    const bottom = this.#gpus();
    const places = this.#places(ends, bottom);
    const first = bottom + 2;
    const depth = rows.reduce((most, row) => Math.max(most, row + 1), 0);
    const place = (net: number, end: number) => places.get(`${net} ${end}`) ?? 0;
    let net = bonds.length;
    const bonded = bonds.map((bond, index) => ({ bond, index, row: rows[index] ?? -1 }));
    for (const { bond, index, row } of bonded)
      this.#down(bond, (end) => place(index, end), bottom, row < 0 ? bottom + 1 : first + row);
    const barPlaces = bars.map((bar, row) =>
      bar.gpus.map((one) => {
        const x = place(net++, 0);
        this.#canvas.down(x, bottom + 1, first + depth + row, one.state, one.bad ? "bad" : "plain");
        return x;
      }),
    );
    for (const { bond, index, row } of bonded)
      if (row >= 0) this.#across(bond, place(index, 0), place(index, 1), first + row);
    bars.forEach((bar, row) => {
      this.#bar(bar, barPlaces[row] ?? [], first + depth + row);
    });
    return this.#canvas.lines();
  }

  /** Draws sockets and boxes; returns the line of their lower edges. */
  #gpus(): number {
    const { gpus, sockets, owners } = this.#picture;
    for (const socket of sockets) this.#socket(socket);
    const height = Math.max(...gpus.map((gpu) => wordsOf(gpu, owners.length > 0).length)) + 2;
    gpus.forEach((gpu, index) => {
      const [left, width] = [this.#lefts[index] ?? 0, this.#widths[index] ?? 0];
      this.#canvas.box(left, 1, width, height);
      wordsOf(gpu, owners.length > 0).forEach(({ text, style }, line) => {
        const shown = fitted(text, width - 2);
        const colour: TextStyle = line === 1 && isAssigned(gpu.owner) ? `owner-${owners.indexOf(gpu.owner)}` : style;
        this.#canvas.write(left + 1 + Math.floor((width - 2 - columns(shown)) / 2), 2 + line, shown, colour);
      });
    });
    return height;
  }

  /** A socket's name over its GPUs, and a line as wide as they are. */
  #socket(socket: TreeNode): void {
    const leaves = leavesOf(socket);
    const [from, to] = [leaves[0] ?? 0, leaves.at(-1) ?? 0];
    const left = this.#lefts[from] ?? 0;
    const width = (this.#lefts[to] ?? 0) + (this.#widths[to] ?? 0) - left;
    this.#canvas.write(left, 0, fitted(socket.label, width), "dim");
  }

  /** The column of each end, which is marked at the lower edge of its box. */
  #places(ends: readonly NetEnd[][], bottom: number): Map<string, number> {
    const places = new Map<string, number>();
    ends.forEach((own, gpu) => {
      const width = this.#widths[gpu] ?? 0;
      const start = (this.#lefts[gpu] ?? 0) + Math.floor((width - (2 * own.length - 1)) / 2);
      own.forEach(({ net, end }, place) => {
        places.set(`${net} ${end}`, start + 2 * place);
        this.#canvas.write(start + 2 * place, bottom, this.#signs.box[6]);
      });
    });
    return places;
  }

  #down(bond: Bond, place: (end: number) => number, bottom: number, to: number): void {
    const style = styleOf(bond);
    bond.gpus.forEach((_, end) => {
      this.#canvas.down(place(end), bottom + 1, to, bond.state, style);
      if (bond.cut[end] === true) this.#canvas.write(place(end), bottom + 1, this.#signs.cut, style);
    });
    if (bond.to !== undefined) this.#canvas.write(place(0), to + 1, bond.to === "bridge" ? "C" : "?", style);
  }

  #across(bond: Bond, from: number, to: number, y: number): void {
    const style = styleOf(bond);
    this.#canvas.across(from, to, y, bond.state, style);
    // Between two GPUs, where nothing runs down.
    const after = Math.floor(((bond.gpus[0] ?? 0) + (bond.gpus[1] ?? 0) + 1) / 2);
    const label = `${bond.links[0]?.length ?? 0}${bond.findings.length > 0 ? "!" : ""}`;
    this.#canvas.write((this.#lefts[after] ?? 0) - 1 - Math.floor((label.length - 1) / 2), y, label, style);
  }

  #bar({ names, gpus, findings }: SwitchBond, places: readonly number[], y: number): void {
    const [from, to] = [Math.min(...places), Math.max(...places)];
    const style = findings.length > 0 ? "bad" : "plain";
    if (to > from) this.#canvas.across(from, to, y, "up", "plain");
    gpus.forEach(({ state, bad }, index) => {
      const sign = state === "up" ? this.#signs.joined : state === "unknown" ? "?" : this.#signs.cut;
      this.#canvas.write(places[index] ?? 0, y, sign, bad ? "bad" : "plain");
    });
    const count = `${names.length === 1 ? "" : names.length}${findings.length > 0 ? "!" : ""} `.trimStart();
    const room = (places[1] ?? to) - from - 1;
    const label = [` ${count}NVSwitch${count === "" ? "" : "es"} `, ` ${count}NVSw `, ` ${count}`].find(
      (text) => text.length <= room,
    );
    if (label !== undefined) this.#canvas.write(from + 1, y, label, style);
  }
}

/** What of the drawing's letters needs a word, for a picture that has it. */
export function textLegend(picture: Picture): string {
  const bonds = bondsOf(picture);
  const switches = switchBondsOf(picture);
  const numbered = [...switches, ...bonds.filter(({ to }) => to === undefined)];
  return [
    ...(bonds.some(({ to }) => to === undefined) ? ["number: how many links"] : []),
    ...(bonds.some(({ to }) => to === "bridge") ? ["C: the CPU's NPU bridges"] : []),
    ...(switches.length > 0 ? ["NVSw: NVSwitches"] : []),
    ...(bonds.some(({ to }) => to === "unknown") ? ["?: nobody knows where"] : []),
    ...(numbered.some(({ findings }) => findings.length > 0) ? ["!: must not be (see audit)"] : []),
  ].join(", ");
}

function styleOf({ findings, state }: Bond): TextStyle {
  return findings.length > 0 ? "bad" : state === "up" ? "bold" : "dim";
}

function leavesOf(node: TreeNode): number[] {
  return node.gpu === undefined ? node.children.flatMap(leavesOf) : [node.gpu];
}
