/** A rectangle in pixels, from the picture's upper left corner. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export type Point = readonly [x: number, y: number];

/** What a shape is meant to look like; `svg_style.ts` has the colours. */
export type Look =
  | "paper"
  | "socket"
  | "group"
  | "node"
  | "gpu"
  | "pin"
  | "cell"
  | "bar"
  | "leader"
  | "stem"
  | "up"
  | "cut-one"
  | "cut-both"
  | "unknown"
  | "bad"
  | "bad-unknown"
  | "mark"
  | "dot"
  | "bad-dot"
  | "patch"
  | "badge"
  | "text"
  | "strong"
  | "dim"
  | "owner-text"
  | "badge-text"
  | "unknown-text"
  | `owner-${number}`;

/** One thing to draw. */
export type Shape =
  | ({
      kind: "rect";
      look: Look;
      radius: number;
      /** `box`: holds its own text only; `container`: is drawn around others; `mark`: lies on what it marks. */
      role: "box" | "container" | "mark";
    } & Box)
  | { kind: "path"; look: Look; points: readonly Point[]; radius: number }
  /** A text of one line; the box is what it takes at most. */
  | ({ kind: "text"; look: Look; text: string; size: number; anchor: "start" | "middle" } & Box)
  /** Shapes that are one thing to a reader. */
  | { kind: "group"; title: string; data: Readonly<Record<string, string>>; shapes: Shape[] };

/** A picture with every place worked out, in pixels. */
export interface Drawing {
  width: number;
  height: number;
  title: string;
  description: string;
  /** From back to front. */
  shapes: Shape[];
}
