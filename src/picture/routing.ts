/** A run of slots (GPUs from left to right) that something is to span. */
export interface Span {
  from: number;
  to: number;
}

/**
 * Puts spans into rows so that none overlaps another of its row: short ones first, so that what is near is drawn near.
 * Spans may meet in a slot, one ending where the other begins.
 * @returns the row of each span, from 0
 */
export function packRows(spans: readonly Span[]): number[] {
  const order = spans.map((_, index) => index);
  const at = (index: number): Span => spans[index] ?? { from: 0, to: 0 };
  order.sort((a, b) => length(at(a)) - length(at(b)) || at(a).from - at(b).from || a - b);
  const rows: Span[][] = [];
  const rowOf = spans.map(() => 0);
  for (const index of order) {
    const span = at(index);
    let row = rows.findIndex((taken) => taken.every((other) => other.to <= span.from || span.to <= other.from));
    if (row < 0) row = rows.push([]) - 1;
    rows[row]?.push(span);
    rowOf[index] = row;
  }
  return rowOf;
}

/** What leaves slots downwards: the slots of its one or two ends, the left one first, and how deep it goes. */
export interface Net {
  slots: readonly number[];
  depth: number;
}

/** One end of a net in a slot. */
export interface NetEnd {
  net: number;
  /** Which of its ends. */
  end: number;
}

/**
 * The order of ends in each slot: what goes left at the left, what goes right at the right, deeper ones further inside, so
 * that no end's way out crosses another's; what goes straight down in the middle.
 */
export function orderEnds(slots: number, nets: readonly Net[]): NetEnd[][] {
  const sides = Array.from({ length: slots }, () => ({
    left: [] as Found[],
    middle: [] as Found[],
    right: [] as Found[],
  }));
  nets.forEach(({ slots: ends, depth }, net) => {
    ends.forEach((slot, end) => {
      const other = ends[1 - end];
      const side = other === undefined || other === slot ? "middle" : other < slot ? "left" : "right";
      sides[slot]?.[side].push({ net, end, depth });
    });
  });
  const byDepth = (a: Found, b: Found) => a.depth - b.depth || a.net - b.net || a.end - b.end;
  return sides.map(({ left, middle, right }) => [
    ...left.sort(byDepth),
    ...middle.sort(byDepth),
    ...right.sort((a, b) => byDepth(b, a)),
  ]);
}

interface Found extends NetEnd {
  depth: number;
}

function length({ from, to }: Span): number {
  return to - from;
}
