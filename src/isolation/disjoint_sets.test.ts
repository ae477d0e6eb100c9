import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DisjointSets } from "./disjoint_sets.js";

test("sets are what the joins reach, members in the order they were added", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(30), fc.nat(30))), (joins) => {
      const sets = new DisjointSets<number>();
      for (let key = 0; key <= 30; key++) sets.add(key);
      for (const [a, b] of joins) sets.join(a, b);
      const reach = (from: number) => {
        const seen = new Set([from]);
        for (let size = 0; size !== seen.size; ) {
          size = seen.size;
          for (const [a, b] of joins) if (seen.has(a) || seen.has(b)) seen.add(a).add(b);
        }
        return [...seen].sort((a, b) => a - b);
      };
      for (const set of sets.sets()) assert.deepEqual(set, reach(set[0] ?? -1));
      assert.equal(sets.joined(0, 30), reach(0).includes(30));
    }),
  );
});

test("a key that was never added is in no set but its own", () => {
  const sets = new DisjointSets<string>();
  sets.add("a");
  assert.equal(sets.joined("a", "b"), false);
  assert.equal(sets.joined("b", "b"), true);
});
