import type { Box, Look, Point, Shape } from "./drawing.js";
import { columnsIn, fitted, textWidth } from "./text.js";

/** Height of a line of text in parts of its size. */
const LINE = 1.25;

type Layer = "floor" | "back" | "wires" | "front" | "badges";

/** Collects shapes in layers, so that wires lie under what they lead to. */
export class Sheet {
  readonly #layers: Record<Layer, Shape[]> = { floor: [], back: [], wires: [], front: [], badges: [] };
  #into: Shape[] | undefined;

  rect(layer: Layer, look: Look, box: Box, role: "box" | "container" | "mark", radius = 4): void {
    this.#add(layer, { kind: "rect", look, role, radius, ...box });
  }

  path(layer: Layer, look: Look, points: readonly Point[], radius = 0): void {
    this.#add(layer, { kind: "path", look, points, radius });
  }

  /** A text that begins at x; `top` is the upper edge of its line. Cut off where it is wider than `room`. */
  text(layer: Layer, look: Look, text: string, x: number, top: number, size: number, room: number): void {
    const shown = fitted(text, columnsIn(room, size));
    if (shown === "") return;
    const box = { x, y: top, width: textWidth(shown, size), height: lineHeight(size) };
    this.#add(layer, { kind: "text", look, text: shown, size, anchor: "start", ...box });
  }

  /** A text in the middle of a box's width. */
  centred(layer: Layer, look: Look, text: string, box: Pick<Box, "x" | "y" | "width">, size: number): void {
    const shown = fitted(text, columnsIn(box.width, size));
    if (shown === "") return;
    const width = textWidth(shown, size);
    const x = Math.floor(box.x + (box.width - width) / 2);
    this.#add(layer, {
      kind: "text",
      look,
      text: shown,
      size,
      anchor: "middle",
      x,
      y: box.y,
      width,
      height: lineHeight(size),
    });
  }

  /** A number in a circle, beside what it is about; `x` and `y` are its centre. */
  badge(text: string, x: number, y: number): void {
    this.rect(
      "badges",
      "badge",
      { x: x - BADGE / 2, y: y - BADGE / 2, width: BADGE, height: BADGE },
      "mark",
      BADGE / 2,
    );
    this.centred("badges", "badge-text", text, { x: x - BADGE / 2, y: y - 7, width: BADGE }, 10);
  }

  /** Everything that `draw` adds to a layer is one thing with this title. */
  group(layer: Layer, data: Readonly<Record<string, string>>, title: string, draw: () => void): void {
    const shapes: Shape[] = [];
    this.#layers[layer].push({ kind: "group", data, title, shapes });
    this.#into = shapes;
    draw();
    this.#into = undefined;
  }

  /** All shapes, from back to front. */
  shapes(): Shape[] {
    return [
      ...this.#layers.floor,
      ...this.#layers.back,
      ...this.#layers.wires,
      ...this.#layers.front,
      ...this.#layers.badges,
    ];
  }

  #add(layer: Layer, shape: Shape): void {
    (this.#into ?? this.#layers[layer]).push(shape);
  }
}

/** Diameter of a badge. */
export const BADGE = 20;

/** Height of a line of text. */
export function lineHeight(size: number): number {
  return Math.ceil(size * LINE);
}
