import type { Drawing, Look, Point, Shape } from "./drawing.js";
import { attributesOf, darkStyle, ownerOf, patternOf } from "./svg_style.js";
import { isForeign, shown } from "./text.js";

const FONT = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace";

/**
 * The drawing as an SVG document of its own: no scripts, fonts or files from elsewhere. Light colours are attributes, so
 * that every viewer shows them; those for a dark background are a style sheet, for viewers that can.
 * @param options `ids`: what ids begin with, for a page that has several pictures
 */
export function toSvg({ width, height, title, description, shapes }: Drawing, { ids = "" } = {}): string {
  const looks = new Set<Look>(["paper"]);
  collectLooks(shapes, looks);
  const owners = [...looks].flatMap((look) => ownerOf(look) ?? []).sort((a, b) => a - b);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="${ids}lf-title ${ids}lf-description" font-family="${FONT}">`,
    `<title id="${ids}lf-title">${escaped(title)}</title>`,
    `<desc id="${ids}lf-description">${escaped(description)}</desc>`,
    `<style>${darkStyle(looks)}</style>`,
    ...(owners.length > 0 ? [`<defs>${owners.map((owner) => patternOf(owner, ids)).join("")}</defs>`] : []),
    `<rect class="lf-paper" width="${width}" height="${height}"${attributes(attributesOf("paper", ids))}/>`,
    ...shapes.map((shape) => shapeText(shape, ids)),
    "</svg>",
    "",
  ].join("\n");
}

function collectLooks(shapes: readonly Shape[], looks: Set<Look>): void {
  for (const shape of shapes) {
    if (shape.kind === "group") collectLooks(shape.shapes, looks);
    else looks.add(shape.look);
  }
}

function shapeText(shape: Shape, ids: string): string {
  switch (shape.kind) {
    case "group": {
      const data = Object.entries(shape.data).map(([name, value]) => ` data-${name}="${escaped(shown(value))}"`);
      const inner = shape.shapes.map((each) => shapeText(each, ids)).join("");
      return `<g${data.join("")}><title>${escaped(shown(shape.title))}</title>${inner}</g>`;
    }
    case "rect": {
      const { x, y, width, height, radius } = shape;
      const rounded = radius > 0 ? ` rx="${radius}"` : "";
      return `<rect x="${x}" y="${y}" width="${width}" height="${height}"${rounded}${style(shape.look, ids)}/>`;
    }
    case "path":
      return `<path d="${pathData(shape.points, shape.radius)}"${style(shape.look, ids)}/>`;
    case "text": {
      const { x, y, width, size, anchor, text } = shape;
      const at = anchor === "middle" ? ` x="${x + width / 2}" text-anchor="middle"` : ` x="${x}"`;
      // Whatever font draws it, it may not be wider than it was counted.
      const squeezed = isForeign(text) ? ` textLength="${width}" lengthAdjust="spacingAndGlyphs"` : "";
      return `<text${at} y="${y + size}" font-size="${size}"${squeezed}${style(shape.look, ids)}>${escaped(text)}</text>`;
    }
  }
}

function style(look: Look, ids: string): string {
  return ` class="lf-${look}"${attributes(attributesOf(look, ids))}`;
}

function attributes(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => ` ${name}="${value}"`)
    .join("");
}

/** A line of horizontal and vertical parts, its corners rounded as far as the parts are long enough. */
function pathData(points: readonly Point[], radius: number): string {
  const [first, ...rest] = points;
  if (first === undefined) return "";
  let data = `M${first[0]} ${first[1]}`;
  rest.forEach((corner, index) => {
    const before = points[index] ?? corner;
    const after = rest[index + 1];
    const room = Math.min(radius, distance(before, corner) / 2, after === undefined ? 0 : distance(corner, after) / 2);
    if (after === undefined || room === 0) {
      data += `L${corner[0]} ${corner[1]}`;
    } else {
      const [into, out] = [towards(corner, before, room), towards(corner, after, room)];
      data += `L${into[0]} ${into[1]}Q${corner[0]} ${corner[1]} ${out[0]} ${out[1]}`;
    }
  });
  return data;
}

function distance([x1, y1]: Point, [x2, y2]: Point): number {
  return Math.abs(x1 - x2) + Math.abs(y1 - y2);
}

function towards([x, y]: Point, [toX, toY]: Point, by: number): Point {
  return [x + Math.sign(toX - x) * by, y + Math.sign(toY - y) * by];
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** A text between tags or in an attribute. */
function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => ESCAPES[letter] ?? "");
}
