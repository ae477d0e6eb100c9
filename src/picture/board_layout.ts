import type { Bar, Bundle, Column, Columns } from "./columns.js";
import type { Look, Point } from "./drawing.js";
import { isAssigned, type Picture, type PicturedGpu } from "./picture.js";
import { BADGE, lineHeight, type Sheet } from "./sheet.js";
import { BAR_NAME, SLOT_MARGIN, type Slot } from "./slots.js";
import { columnsIn, fitted, textWidth } from "./text.js";
import type { Wire, WireEnd } from "./wires.js";
import { gpuTitle, wireData, wireTitle } from "./words.js";

const OWNER_BAND = 22;
const GROUP_BAND = 18;
const BAND_GAP = 6;
const GPU_TEXT = 58;
const PIN_HEIGHT = 17;
const BADGE_BAND = BADGE + 4;
/** Below the pins: marks of cut ends, and stubs of links that lead nobody knows where. */
const MARKS = 20;
const STUBS = 36;
const LANE = 8;
const ROW_GAP = 10;
const BAR_ROW = 24;
const BAR_HEIGHT = 10;
const ADDRESS_LINES = 6;

/** Where the board is to be drawn. */
interface Place {
  slots: readonly Slot[];
  pitch: number;
  top: number;
  left: number;
  right: number;
}

/** Draws GPUs, their links, NVSwitches and NPU bridges. */
export function layBoard(
  sheet: Sheet,
  picture: Picture,
  columns: Columns,
  place: Place,
): { gpuBottom: number; bottom: number } {
  return new Board(sheet, picture, columns, place).draw();
}

class Board {
  readonly #sheet: Sheet;
  readonly #picture: Picture;
  readonly #columns: Columns;
  readonly #place: Place;
  /** Middle of each pin, by wire and end. */
  readonly #pins = new Map<string, number>();
  /** Middle of each cell, by bridge. */
  readonly #cells = new Map<number, number>();
  readonly #badges: number[][];
  readonly #boxTop: number;
  readonly #pinTop: number;
  readonly #bottom: number;

  constructor(sheet: Sheet, picture: Picture, columns: Columns, place: Place) {
    this.#sheet = sheet;
    this.#picture = picture;
    this.#columns = columns;
    this.#place = place;
    this.#badges = gpuBadges(picture);
    const bands =
      (picture.owners.length > 0 ? OWNER_BAND : 0) + (picture.gpus.some((gpu) => gpu.group) ? GROUP_BAND : 0);
    this.#boxTop = place.top + bands + BAND_GAP;
    this.#pinTop = this.#boxTop + GPU_TEXT + (this.#badges.some((own) => own.length > 0) ? BADGE_BAND : 0);
    this.#bottom = this.#pinTop + PIN_HEIGHT;
  }

  draw(): { gpuBottom: number; bottom: number } {
    this.#placeColumns();
    this.#areas();
    this.#groups();
    this.#picture.gpus.forEach((gpu, index) => {
      this.#gpu(gpu, index);
    });
    const stubs = this.#picture.wires.some(({ to }) => to?.kind === "unknown");
    let y = this.#bottom + (stubs ? STUBS : MARKS);
    const lanes = this.#lanes(y);
    y = lanes.bottom;
    const firstBar = lanes.bottom;
    const barTops = (row: number) => firstBar + row * BAR_ROW;
    for (const bar of this.#columns.bars) this.#bar(bar, barTops(bar.row));
    y += this.#columns.bars.reduce((most, { row }) => Math.max(most, row + 1), 0) * BAR_ROW;
    const bridges = this.#picture.bridges.length > 0;
    const cellTop = y + 8;
    this.#wires(lanes.laneOf, barTops, cellTop);
    return { gpuBottom: this.#bottom + 10, bottom: bridges ? this.#bridges(cellTop) : y };
  }

  #placeColumns(): void {
    const { slots, pitch } = this.#place;
    this.#columns.columns.forEach((own, gpu) => {
      const slot = slots[gpu] ?? { left: 0, right: 0 };
      const start = Math.floor((slot.left + slot.right - own.length * pitch) / 2);
      own.forEach(({ wire, end, bridge }, place) => {
        const x = start + place * pitch + Math.floor(pitch / 2);
        if (wire !== undefined && end !== undefined) this.#pins.set(`${wire} ${end}`, x);
        if (bridge !== undefined) this.#cells.set(bridge, x);
      });
    });
  }

  /** Coloured areas behind GPUs of one owner that stand side by side. */
  #areas(): void {
    const { owners } = this.#picture;
    const top = this.#place.top;
    for (const { from, to, key } of this.#runs((gpu) => (isAssigned(gpu.owner) ? gpu.owner : undefined))) {
      const [left, right] = this.#extent(from, to, 2);
      const box = { x: left, y: top, width: right - left, height: this.#bottom + 8 - top };
      this.#sheet.rect("back", `owner-${owners.indexOf(key)}`, box, "container", 6);
      const room = right - left - 20;
      this.#label("owner-text", key, left + 10, top + 4, 12, room, true);
    }
  }

  /** Outlines of IOMMU groups. */
  #groups(): void {
    const key = ({ group }: PicturedGpu) => (group === undefined ? undefined : String(group.id));
    for (const { from, to } of this.#runs(key)) {
      const [left, right] = this.#extent(from, to, 7);
      const top = this.#place.top + (this.#picture.owners.length > 0 ? OWNER_BAND : 0);
      this.#sheet.rect(
        "back",
        "group",
        { x: left, y: top + 2, width: right - left, height: this.#bottom + 4 - top - 2 },
        "container",
        5,
      );
      const group = this.#picture.gpus[from]?.group;
      const others = group?.others ?? 0;
      const label = `IOMMU group ${group?.id ?? ""}${others > 0 ? ` +${others}` : ""}`;
      const onArea = this.#picture.gpus.slice(from, to + 1).some(({ owner }) => isAssigned(owner));
      this.#label("dim", label, left + 7, top + 5, 10, right - left - 14, onArea);
    }
  }

  /** A label at the top of an area, on a patch of its own where there are lines behind it. */
  #label(look: Look, text: string, x: number, top: number, size: number, room: number, patched: boolean): void {
    const shown = fitted(text, columnsIn(room, size));
    if (shown === "") return;
    const patch = { x: x - 3, y: top - 1, width: textWidth(shown, size) + 6, height: lineHeight(size) + 1 };
    if (patched) this.#sheet.rect("back", "patch", patch, "mark", 3);
    this.#sheet.text("front", look, shown, x, top, size, room);
  }

  /** Neighbours in one socket for which `keyOf` says the same. */
  #runs(keyOf: (gpu: PicturedGpu) => string | undefined): { from: number; to: number; key: string }[] {
    const runs: { from: number; to: number; key: string }[] = [];
    this.#picture.gpus.forEach((gpu, index) => {
      const key = keyOf(gpu);
      if (key === undefined) return;
      const last = runs.at(-1);
      const sameSocket = this.#place.slots[index]?.socket === this.#place.slots[index - 1]?.socket;
      if (last?.key === key && last.to === index - 1 && sameSocket) last.to = index;
      else runs.push({ from: index, to: index, key });
    });
    return runs;
  }

  #extent(from: number, to: number, inset: number): [left: number, right: number] {
    const { slots } = this.#place;
    return [(slots[from]?.left ?? 0) + inset, (slots[to]?.right ?? 0) - inset];
  }

  #gpu(gpu: PicturedGpu, index: number): void {
    const sheet = this.#sheet;
    const [left, right] = this.#extent(index, index, SLOT_MARGIN);
    const box = { x: left, y: this.#boxTop, width: right - left, height: this.#bottom - this.#boxTop };
    const inside = { x: left + 4, y: box.y, width: box.width - 8 };
    sheet.group("front", { gpu: gpu.name }, gpuTitle(gpu), () => {
      sheet.rect("front", "gpu", box, "box", 5);
      if (gpu.name !== gpu.address) sheet.centred("front", "strong", gpu.name, { ...inside, y: box.y + 4 }, 14);
      sheet.centred("front", "text", gpu.address, { ...inside, y: box.y + 23 }, 11);
      sheet.centred("front", "dim", gpu.part, { ...inside, y: box.y + 39 }, 11);
      for (const column of this.#columns.columns[index] ?? []) this.#pin(column);
    });
    this.#gpuBadges(index, left, right);
  }

  #gpuBadges(index: number, left: number, right: number): void {
    const own = this.#badges[index] ?? [];
    const room = Math.max(1, Math.floor((right - left - 8) / (BADGE + 2)));
    const shown = own.length > room ? [...own.slice(0, room - 1).map(String), "…"] : own.map(String);
    const start = (left + right) / 2 - ((shown.length - 1) * (BADGE + 2)) / 2;
    shown.forEach((text, place) => {
      this.#sheet.badge(text, Math.round(start + place * (BADGE + 2)), this.#pinTop - BADGE_BAND / 2);
    });
  }

  #pin({ wire, end }: Column): void {
    const x = this.#pins.get(`${wire} ${end}`);
    const link = this.#picture.wires[wire ?? -1]?.ends[end ?? -1];
    if (x === undefined || link === undefined || end === undefined) return;
    const { pitch } = this.#place;
    const left = x - Math.floor(pitch / 2);
    this.#sheet.rect("front", "pin", { x: left, y: this.#pinTop, width: pitch, height: PIN_HEIGHT }, "box", 0);
    const text = link.link === undefined ? "?" : String(link.link);
    this.#sheet.centred("front", "text", text, { x: left, y: this.#pinTop + 2, width: pitch }, 10);
  }

  /** The horizontal parts of the wires between GPUs: where each is, and where the last one is. */
  #lanes(top: number): { laneOf: Map<number, number>; bottom: number } {
    const { bundles } = this.#columns;
    const heights: number[] = [];
    for (const { row, wires } of bundles) {
      const badge = wires.some((wire) => this.#isBad(wire)) ? BADGE : 0;
      heights[row] = Math.max(heights[row] ?? 0, (wires.length - 1) * LANE, badge);
    }
    const tops: number[] = [];
    let y = top;
    for (const height of heights) {
      tops.push(y);
      y += height + ROW_GAP + 4;
    }
    const laneOf = new Map<number, number>();
    for (const bundle of bundles) {
      const room = (heights[bundle.row] ?? 0) - (bundle.wires.length - 1) * LANE;
      const first = (tops[bundle.row] ?? 0) + Math.floor(room / 2);
      bundle.wires.forEach((wire, place) => {
        laneOf.set(wire, first + place * LANE);
      });
      this.#bundleBadge(bundle, first);
    }
    return { laneOf, bottom: y };
  }

  #isBad(wire: number): boolean {
    return (this.#picture.wires[wire]?.findings.length ?? 0) > 0;
  }

  /** The findings about a bundle, between two GPUs near its middle: nothing else runs down there. */
  #bundleBadge({ wires, from, to }: Bundle, first: number): void {
    const numbers = findingsOf(wires, this.#picture.wires);
    if (numbers.length === 0) return;
    const before = Math.floor((from + to - 1) / 2);
    const { slots } = this.#place;
    const x = Math.floor(((slots[before]?.right ?? 0) + (slots[before + 1]?.left ?? 0)) / 2);
    this.#sheet.badge(badgeText(numbers), x, Math.round(first + ((wires.length - 1) * LANE) / 2));
  }

  #cellOf(wire: number): number | undefined {
    const to = this.#picture.wires[wire]?.to;
    if (to?.kind !== "bridge") return undefined;
    return this.#cells.get(this.#picture.bridges.findIndex(({ address }) => address === to.address));
  }

  #bar({ name, wires, side }: Bar, top: number): void {
    const xs = wires.flatMap((wire) => this.#pins.get(`${wire} 0`) ?? []);
    const [first, last] = [xs.reduce((a, b) => Math.min(a, b), Infinity), xs.reduce((a, b) => Math.max(a, b), 0)];
    const y = top + (BAR_ROW - BAR_HEIGHT) / 2;
    const box = { x: first - 10, y, width: last - first + 20, height: BAR_HEIGHT };
    this.#sheet.rect("back", "bar", box, "mark", 5);
    const numbers = findingsOf(wires, this.#picture.wires);
    const middle = top + BAR_ROW / 2;
    const label = fitted(`NVSwitch ${name}`, BAR_NAME);
    const { left, right } = this.#place;
    const badge = numbers.length === 0 ? 0 : BADGE + 6;
    const width = textWidth(label, 11);
    const start = side === "left" ? left + badge : right - badge - width;
    this.#sheet.text("front", "text", label, start, top + 5, 11, width + 1);
    const [from, to] = side === "left" ? [start + width + 4, box.x] : [box.x + box.width, start - 4];
    if (from < to) {
      this.#sheet.path("back", "leader", [
        [from, middle],
        [to, middle],
      ]);
    }
    if (badge > 0)
      this.#sheet.badge(badgeText(numbers), side === "left" ? left + BADGE / 2 : right - BADGE / 2, middle);
  }

  #wires(laneOf: Map<number, number>, barTops: (row: number) => number, cellTop: number): void {
    const barOf = new Map(this.#columns.bars.flatMap(({ wires, row }) => wires.map((wire) => [wire, row] as const)));
    this.#picture.wires.forEach((wire, index) => {
      if (wire.to?.kind === "none") return;
      this.#sheet.group("wires", wireData(wire, this.#picture), wireTitle(wire, this.#picture), () => {
        this.#wire(wire, index, { lane: laneOf.get(index), bar: barOf.get(index) }, barTops, cellTop);
      });
    });
  }

  #wire(
    wire: Wire,
    index: number,
    { lane, bar }: { lane: number | undefined; bar: number | undefined },
    barTops: (row: number) => number,
    cellTop: number,
  ): void {
    const [a, b] = wire.ends;
    const x = this.#pins.get(`${index} 0`) ?? 0;
    const look = lookOf(wire);
    const top = (end: WireEnd | undefined, at: number) => {
      if (end?.cut === true) this.#cutMark(at);
      return this.#bottom + (end?.cut === true ? 15 : 0);
    };
    const start: Point = [x, top(a, x)];
    const line = (points: Point[]) => this.#sheet.path("wires", look, points, 5);
    if (b !== undefined && lane !== undefined) {
      const farX = this.#pins.get(`${index} 1`) ?? 0;
      line([start, [x, lane], [farX, lane], [farX, top(b, farX)]]);
    } else if (bar !== undefined) {
      const y = barTops(bar) + BAR_ROW / 2;
      line([start, [x, y]]);
      this.#sheet.rect(
        "wires",
        wire.state !== "up" ? "pin" : look === "bad" ? "bad-dot" : "dot",
        { x: x - 4, y: y - 4, width: 8, height: 8 },
        "mark",
        4,
      );
    } else if (wire.to?.kind === "bridge") {
      const cell = this.#cellOf(index);
      if (cell === undefined) line([start, [x, this.#bottom + 18]]);
      else line(lane === undefined ? [start, [x, cellTop]] : [start, [x, lane], [cell, lane], [cell, cellTop]]);
    } else {
      line([start, [x, this.#bottom + 18]]);
      this.#sheet.centred("wires", "unknown-text", "?", { x: x - 8, y: this.#bottom + 19, width: 16 }, 12);
    }
  }

  #cutMark(x: number): void {
    const y = this.#bottom + 7;
    this.#sheet.path("wires", "mark", [
      [x - 4, y - 4],
      [x + 4, y + 4],
    ]);
    this.#sheet.path("wires", "mark", [
      [x - 4, y + 4],
      [x + 4, y - 4],
    ]);
  }

  /** A box below each GPU that has NPU bridges: a cell per bridge, and their addresses. */
  #bridges(top: number): number {
    const { bridges, gpus, owners } = this.#picture;
    const { pitch } = this.#place;
    const size = 10;
    let bottom = top;
    gpus.forEach((_, gpu) => {
      const own = bridges.flatMap((bridge, index) => (bridge.gpu === gpu ? [{ ...bridge, index }] : []));
      if (own.length === 0) return;
      const [left, right] = this.#extent(gpu, gpu, SLOT_MARGIN);
      const rows = own.length > ADDRESS_LINES ? ADDRESS_LINES : own.length;
      const height = PIN_HEIGHT + 4 + (rows + 1) * lineHeight(size) + 4;
      const owner = own[0]?.owner;
      if (isAssigned(owner)) {
        const area = { x: left - 12, y: top - 6, width: right - left + 24, height: height + 12 };
        this.#sheet.rect("back", `owner-${owners.indexOf(owner)}`, area, "container", 6);
      }
      this.#sheet.rect("front", "cell", { x: left, y: top, width: right - left, height }, "box", 5);
      for (const { index, linkIndex } of own) {
        const x = (this.#cells.get(index) ?? 0) - Math.floor(pitch / 2);
        this.#sheet.rect("front", "pin", { x, y: top, width: pitch, height: PIN_HEIGHT }, "box", 0);
        this.#sheet.centred("front", "text", String(linkIndex), { x, y: top + 2, width: pitch }, size);
      }
      const inside = { x: left + 4, width: right - left - 8 };
      const npus = [...new Set(own.map(({ npu }) => npu))].map(lastPart).join(" ");
      const lines = own.map(({ linkIndex, address }) => `${linkIndex}  ${address}`);
      const shown = lines.length > rows ? [...lines.slice(0, rows - 1), `and ${lines.length - rows + 1} more`] : lines;
      [`CPU, ${npus}`, ...shown].forEach((line, place) => {
        const y = top + PIN_HEIGHT + 4 + place * lineHeight(size);
        this.#sheet.centred("front", place === 0 ? "dim" : "text", line, { ...inside, y }, size);
      });
      bottom = Math.max(bottom, top + height + 8);
    });
    return bottom;
  }
}

/** Findings that no line shows: about the GPU, or about links that lead nobody knows where or to a bridge. */
function gpuBadges({ gpus, wires }: Picture): number[][] {
  const badges = gpus.map(({ findings }) => new Set(findings));
  for (const { to, ends, findings } of wires) {
    if (to === undefined || to.kind === "switch") continue;
    for (const number of findings) badges[ends[0].gpu]?.add(number);
  }
  return badges.map((own) => [...own].sort((a, b) => a - b));
}

function findingsOf(indexes: readonly number[], wires: readonly Wire[]): number[] {
  const numbers = new Set(indexes.flatMap((index) => wires[index]?.findings ?? []));
  return [...numbers].sort((a, b) => a - b);
}

function badgeText(numbers: readonly number[]): string {
  return numbers.length === 1 ? String(numbers[0]) : `${numbers[0]}…`;
}

function lookOf({ state, findings }: Wire): Look {
  if (findings.length === 0) return state;
  return state === "unknown" ? "bad-unknown" : "bad";
}

/** The last part of a node's path. */
function lastPart(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
