import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { processorTime } from "../../test/processor_time.js";
import { type AddressRange, RangeIndex } from "./range_index.js";

function overlaps(one: AddressRange, address: bigint, size: bigint): boolean {
  return one.address < address + size && address < one.address + one.size;
}

test("an index finds an overlap exactly when there is one, whatever was added and removed", () => {
  const step = fc.record({
    address: fc.bigInt(0n, 3000n),
    size: fc.bigInt(1n, 6n),
    remove: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 500, maxLength: 3000 }), (steps) => {
      const index = new RangeIndex<AddressRange>();
      const model = new Set<AddressRange>();
      for (const { address, size, remove } of steps) {
        const found = index.overlapping(address, size);
        const expected = [...model].filter((range) => overlaps(range, address, size));
        assert.equal(found === undefined, expected.length === 0);
        if (found !== undefined) assert.ok(expected.includes(found));
        if (found === undefined) {
          const range = { address, size };
          index.add(range);
          model.add(range);
        } else if (remove) {
          index.remove(found);
          model.delete(found);
        }
        assert.equal(index.count, model.size);
      }
      for (const range of model) assert.equal(index.overlapping(range.address, 1n), range);
      for (const range of model) index.remove(range);
      assert.equal(index.count, 0);
      assert.equal(index.overlapping(0n, 1n << 64n), undefined);
    }),
    { numRuns: 20 },
  );
});

test("what was never added is not removed", () => {
  const index = new RangeIndex<AddressRange>();
  index.remove({ address: 0n, size: 1n });
  index.add({ address: 0n, size: 1n });
  index.remove({ address: 0n, size: 1n });
  index.remove({ address: 5n, size: 1n });
  assert.equal(index.count, 1);
});

for (const [order, next] of [
  ["rising", (at: number) => at],
  ["falling", (at: number) => 299_999 - at],
  ["scattered", (at: number) => (at * 7919) % 300_000],
] as const) {
  test(`300,000 ranges in ${order} order come and go at a few microseconds each`, () => {
    const index = new RangeIndex<AddressRange>();
    const ranges = Array.from({ length: 300_000 }, (_, at) => ({ address: BigInt(next(at)) * 4096n, size: 4096n }));
    const took = processorTime(() => {
      for (const range of ranges) index.add(range);
      for (const range of ranges) assert.equal(index.overlapping(range.address + 4095n, 1n), range);
      for (const range of ranges) index.remove(range);
    });
    const each = took / ranges.length;
    assert.equal(index.count, 0);
    assert.ok(each < 0.05, `${(each * 1000).toFixed(1)} µs for each`);
  });
}
