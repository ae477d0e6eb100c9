import { layBoard } from "./board_layout.js";
import { layCaption, layHeading } from "./caption_layout.js";
import { type Columns, columnsOf } from "./columns.js";
import type { Drawing } from "./drawing.js";
import type { Picture } from "./picture.js";
import { rowsOf } from "./rows.js";
import { Sheet } from "./sheet.js";
import { BAR_NAME, SLOT_MARGIN, type Slot } from "./slots.js";
import { columns, shown, textWidth } from "./text.js";
import { type PlacedNode, placeTree } from "./tree_layout.js";

const MARGIN = 16;
const MIN_WIDTH = 688;
/** Sockets that nothing joins go below each other where a row would be wider. */
const ROW_WIDTH = 1500;
/** Room between sockets. */
const SOCKET_GAP = 28;
const SOCKET_HEAD = 24;
const NODE_HEIGHT = 22;
const NODE_GAP = 8;
const GPU_MIN = 144;

/** Works out where everything is. Texts never meet, nor any box that is not theirs, whatever the machine is. */
export function layOut(picture: Picture): Drawing {
  const pitch = pitchOf(picture);
  const widths = slotWidths(columnsOf(picture), pitch);
  const rows = rowsOf(picture, (gpu) => widths[gpu] ?? 0, ROW_WIDTH).map((row) => {
    const columns = columnsOf(row);
    const slots = slotWidths(columns, pitch);
    return { row, columns, tree: placeTree(row.sockets, (gpu) => slots[gpu] ?? 0, SOCKET_GAP) };
  });
  const gutter = (side: "left" | "right") =>
    gutterWidth(rows.flatMap(({ columns }) => columns.bars.flatMap((bar) => (bar.side === side ? [bar.name] : []))));
  const [leftGutter, rightGutter] = [gutter("left"), gutter("right")];
  const inner = Math.max(MIN_WIDTH, ...rows.map(({ tree }) => leftGutter + tree.width - SOCKET_GAP + rightGutter));
  const sheet = new Sheet();
  let y = layHeading(sheet, picture, MARGIN, inner);
  for (const { row, columns, tree } of rows) {
    if (row.gpus.length === 0) continue;
    const width = tree.width - SOCKET_GAP;
    const left = MARGIN + leftGutter + Math.floor((inner - leftGutter - width - rightGutter) / 2);
    const gpuTop = y + SOCKET_HEAD + (tree.levels - 1) * (NODE_HEIGHT + NODE_GAP);
    const slots = slotsOf(tree.sockets, left);
    const edges = { left: left - leftGutter, right: left + width + rightGutter };
    const board = layBoard(sheet, row, columns, { slots, pitch, top: gpuTop, ...edges });
    for (const socket of tree.sockets) laySocket(sheet, socket, left, { top: y, bottom: board.gpuBottom, gpuTop });
    y = board.bottom + 12;
  }
  const height = layCaption(sheet, picture, MARGIN, y, inner) + MARGIN;
  return { width: inner + 2 * MARGIN, height, ...wordsOf(picture), shapes: sheet.shapes() };
}

/** The room that each GPU takes, by what leaves it downwards. */
function slotWidths({ columns }: Columns, pitch: number): number[] {
  return columns.map((own) => Math.max(GPU_MIN, own.length * pitch + 16) + 2 * SLOT_MARGIN);
}

function slotsOf(sockets: readonly PlacedNode[], offset: number): Slot[] {
  const slots: Slot[] = [];
  sockets.forEach((top, socket) => {
    const pending = [top];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      if (at.node.gpu !== undefined) slots[at.node.gpu] = { left: offset + at.left, right: offset + at.right, socket };
      pending.push(...at.children);
    }
  });
  return slots;
}

/** Draws a socket and the bridges in it. */
function laySocket(
  sheet: Sheet,
  socket: PlacedNode,
  offset: number,
  { top, bottom, gpuTop }: { top: number; bottom: number; gpuTop: number },
): void {
  const [left, right] = [offset + socket.left, offset + socket.right - SOCKET_GAP];
  sheet.rect("floor", "socket", { x: left, y: top, width: right - left, height: bottom - top }, "container", 8);
  sheet.text("front", "strong", socket.node.label, left + 10, top + 4, 12, right - left - 20);
  const pending = [...socket.children];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const y = top + SOCKET_HEAD + (at.level - 1) * (NODE_HEIGHT + NODE_GAP);
    const middle = offset + Math.round((at.left + at.right) / 2);
    const isGpu = at.node.gpu !== undefined;
    if (at.level > 1) {
      sheet.path("floor", "stem", [
        [middle, y - NODE_GAP],
        [middle, isGpu ? gpuTop : y],
      ]);
    }
    if (isGpu) continue;
    const box = { x: offset + at.left + 6, y, width: at.right - at.left - 12, height: NODE_HEIGHT };
    sheet.rect("front", "node", box, "box");
    sheet.centred("front", "text", at.node.label, { x: box.x + 4, y: y + 4, width: box.width - 8 }, 11);
    pending.push(...at.children);
  }
}

/** Pixels from one pin to the next: the longest link number must fit. */
function pitchOf({ wires, bridges }: Picture): number {
  let most = 9;
  for (const { ends } of wires) for (const { link } of ends) most = Math.max(most, link ?? 0);
  for (const { linkIndex } of bridges) most = Math.max(most, linkIndex);
  return Math.max(16, textWidth(String(most), 10) + 4);
}

/** What the names of NVSwitches need beside the diagram, with a badge each. */
function gutterWidth(names: readonly string[]): number {
  const longest = names.reduce((most, name) => Math.max(most, columns(shown(`NVSwitch ${name}`))), 0);
  return longest === 0 ? 0 : textWidth("m".repeat(Math.min(longest, BAR_NAME)), 11) + 40;
}

/** Title and description for those who do not see the picture. */
function wordsOf(picture: Picture): { title: string; description: string } {
  const { machine, virtual, planned, gpus, wires, owners, findings } = picture;
  const joined = wires.filter(({ ends, to, state }) => state === "up" && to === undefined && ends.length === 2);
  const pairs = new Map<string, number>();
  for (const { ends } of joined) {
    const key = ends.map(({ gpu }) => gpus[gpu]?.name ?? "").join(" and ");
    pairs.set(key, (pairs.get(key) ?? 0) + 1);
  }
  const sentences = [
    `${planned ? "This is a plan. " : ""}${gpus.length} GPUs, ${wires.length} NVLinks.`,
    ...[...pairs].slice(0, 40).map(([names, count]) => `${names}: ${count} up.`),
    ...owners.slice(0, 40).map((owner) => {
      const own = gpus.filter((gpu) => gpu.owner === owner).map(({ name }) => name);
      return `${owner} has ${own.length === 0 ? "no GPU" : own.join(", ")}.`;
    }),
    `${findings.length} ${planned ? "problems" : "findings"}.`,
  ];
  const title = `${planned ? "Planned " : ""}NVLink topology of ${machine}${virtual ? " (virtual)" : ""}`;
  return { title: shown(title), description: shown(sentences.join(" ")) };
}
