import type { Box, Drawing, Point, Shape } from "../../src/picture/drawing.js";

type TextShape = Extract<Shape, { kind: "text" }>;
type RectShape = Extract<Shape, { kind: "rect" }>;
type PathShape = Extract<Shape, { kind: "path" }>;

const WIRES = ["up", "cut-one", "cut-both", "unknown", "bad", "bad-unknown"];

/**
 * Everything that makes a drawing hard to read, a line each: texts on each other, on a box that is not theirs or across a
 * border; wires on each other, or through a text or a box; anything outside the picture.
 */
export function overlaps(drawing: Drawing): string[] {
  const shapes = flat(drawing.shapes);
  const texts = shapes.filter((shape) => shape.kind === "text");
  const rects = shapes.filter((shape) => shape.kind === "rect");
  const boxes = rects.filter(({ role }) => role === "box");
  const containers = rects.filter(({ role }) => role === "container");
  const wires = shapes.filter((shape) => shape.kind === "path" && WIRES.includes(shape.look)) as PathShape[];
  return [
    ...outside(drawing, [...texts, ...rects]),
    ...pairs(texts, (a, b) => (meet(a, b) ? `${say(a)} is on ${say(b)}` : undefined)),
    ...texts.flatMap((text) => textOnBoxes(text, boxes)),
    ...texts.flatMap((text) =>
      containers
        .filter((box) => meet(text, box) && !within(text, box))
        .map((box) => `${say(text)} is across the border of ${say(box)}`),
    ),
    ...pairs(boxes, (a, b) => (meet(a, b) && !within(a, b) && !within(b, a) ? `${say(a)} is on ${say(b)}` : undefined)),
    ...wiresOn(wires, [...texts.filter(({ look }) => look !== "badge-text"), ...boxes]),
    ...wiresOnWires(wires),
  ];
}

function flat(shapes: readonly Shape[]): Exclude<Shape, { kind: "group" }>[] {
  return shapes.flatMap((shape) => (shape.kind === "group" ? flat(shape.shapes) : [shape]));
}

/** A text in the middle of a box has to be all in it; one that begins somewhere is in no box. */
function textOnBoxes(text: TextShape, boxes: readonly RectShape[]): string[] {
  return boxes
    .filter((box) => meet(text, box) && !(text.anchor === "middle" && within(text, box)))
    .map((box) => `${say(text)} is on ${say(box)}`);
}

function outside({ width, height }: Drawing, shapes: readonly (TextShape | RectShape)[]): string[] {
  return shapes
    .filter((box) => !within(box, { x: 0, y: 0, width, height }))
    .map((box) => `${say(box)} is outside the picture`);
}

/** Compares those only that are near each other. */
function pairs<Kind extends Box>(shapes: readonly Kind[], fault: (a: Kind, b: Kind) => string | undefined): string[] {
  const order = [...shapes].sort((a, b) => a.y - b.y);
  return order.flatMap((a, index) => {
    const found: string[] = [];
    for (let next = index + 1; next < order.length; next++) {
      const b = order[next];
      if (b === undefined || b.y >= a.y + a.height) break;
      const what = fault(a, b);
      if (what !== undefined) found.push(what);
    }
    return found;
  });
}

/** A straight piece of a wire: from left to right, or from top to bottom. */
interface Piece {
  wire: number;
  from: Point;
  to: Point;
}

function piecesOf(wires: readonly PathShape[]): Piece[] {
  return wires.flatMap(({ points }, wire) =>
    points.slice(1).map((point, index): Piece => {
      const before = points[index] ?? point;
      const turned = before[0] > point[0] || before[1] > point[1];
      return turned ? { wire, from: point, to: before } : { wire, from: before, to: point };
    }),
  );
}

function wiresOn(wires: readonly PathShape[], shapes: readonly (TextShape | RectShape)[]): string[] {
  return piecesOf(wires).flatMap(({ from, to }) =>
    shapes
      .filter((box) => from[0] < box.x + box.width && to[0] > box.x && from[1] < box.y + box.height && to[1] > box.y)
      .map((box) => `a wire at ${from} runs through ${say(box)}`),
  );
}

/** Two wires in one line. */
function wiresOnWires(wires: readonly PathShape[]): string[] {
  const tracks = new Map<string, Piece[]>();
  for (const piece of piecesOf(wires)) {
    const key = piece.from[0] === piece.to[0] ? `x ${piece.from[0]}` : `y ${piece.from[1]}`;
    tracks.set(key, [...(tracks.get(key) ?? []), piece]);
  }
  return [...tracks].flatMap(([key, pieces]) => {
    const axis = key.startsWith("x") ? 1 : 0;
    const order = pieces.sort((a, b) => a.from[axis] - b.from[axis]);
    return order.slice(1).flatMap((piece, index) => {
      const before = order[index];
      if (before === undefined || before.wire === piece.wire || before.to[axis] <= piece.from[axis]) return [];
      return [`two wires lie on each other at ${key}, ${piece.from}`];
    });
  });
}

function meet(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

function within(a: Box, b: Box): boolean {
  return a.x >= b.x && a.y >= b.y && a.x + a.width <= b.x + b.width && a.y + a.height <= b.y + b.height;
}

function say(shape: TextShape | RectShape): string {
  const what = shape.kind === "text" ? JSON.stringify(shape.text) : `a ${shape.look}`;
  return `${what} at ${shape.x},${shape.y} ${shape.width}x${shape.height}`;
}
