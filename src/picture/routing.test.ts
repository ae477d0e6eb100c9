import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { orderEnds, packRows } from "./routing.js";

const span = fc
  .tuple(fc.nat(12), fc.integer({ min: 1, max: 6 }))
  .map(([from, length]) => ({ from, to: from + length }));

test("spans of one row do not overlap, and none is in a deeper row than it has to be", () => {
  fc.assert(
    fc.property(fc.array(span, { maxLength: 30 }), (spans) => {
      const rows = packRows(spans);
      const overlap = (a: number, b: number) => {
        const [one, other] = [spans[a], spans[b]];
        return one !== undefined && other !== undefined && one.from < other.to && other.from < one.to;
      };
      rows.forEach((row, a) => {
        rows.forEach((other, b) => {
          if (a !== b && row === other) assert.ok(!overlap(a, b));
        });
        for (let above = 0; above < row; above++) {
          assert.ok(
            rows.some((other, b) => other === above && overlap(a, b)),
            `span ${a} fits into row ${above}`,
          );
        }
      });
    }),
  );
});

test("what leaves a slot at one side does not cross itself: the deeper, the further inside", () => {
  const nets = [
    { slots: [0, 1], depth: 0 },
    { slots: [0, 2], depth: 2 },
    { slots: [1, 2], depth: 1 },
    { slots: [1], depth: 9 },
  ];
  const order = orderEnds(3, nets).map((ends) => ends.map(({ net, end }) => `${net}.${end}`));
  assert.deepEqual(order, [
    ["1.0", "0.0"],
    ["0.1", "3.0", "2.0"],
    ["2.1", "1.1"],
  ]);
});
