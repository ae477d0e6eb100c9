import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { processorTime } from "../../test/processor_time.js";
import { formatAddress, type PciAddress } from "./address.js";
import type { BridgeBuses, ExpressType, PciFunction } from "./function.js";
import { Hierarchy } from "./hierarchy.js";

interface Extra {
  type?: ExpressType;
  parent?: PciAddress | null;
  buses?: [primary: number, secondary: number, subordinate: number];
}

function fn(address: PciAddress, { type, parent, buses }: Extra = {}): PciFunction {
  const made: PciFunction = { address, bars: [], capabilities: [] };
  if (type !== undefined) made.express = { type, slotImplemented: false, functionLevelReset: false };
  if (parent !== undefined) made.parent = parent;
  if (buses !== undefined) {
    const [primary, secondary, subordinate] = buses;
    made.buses = { primary, secondary, subordinate } satisfies BridgeBuses;
  }
  return made;
}

function addresses(functions: readonly PciFunction[]): PciAddress[] {
  return functions.map(({ address }) => address);
}

/** A socket of an AC922: root port, switch, two GPUs and a disk behind it, and another root port with a network card. */
function socket(): PciFunction[] {
  return [
    fn("0004:00:00.0", { type: "root-port", buses: [0, 1, 8] }),
    fn("0004:01:00.0", { type: "upstream-port", buses: [1, 2, 8] }),
    fn("0004:01:00.1"),
    fn("0004:02:01.0", { type: "downstream-port", buses: [2, 3, 3] }),
    fn("0004:02:0a.0", { type: "downstream-port", buses: [2, 4, 4] }),
    fn("0004:02:0b.0", { type: "downstream-port", buses: [2, 5, 7] }),
    fn("0004:03:00.0", { type: "endpoint" }),
    fn("0004:04:00.0", { type: "endpoint" }),
    fn("0004:05:00.0", { type: "endpoint" }),
    fn("0004:05:00.1", { type: "endpoint" }),
    fn("0005:00:00.0", { type: "root-port", buses: [0, 1, 1] }),
    fn("0005:01:00.0", { type: "endpoint" }),
  ];
}

test("bus numbers tell the bridge above each function, whatever order they come in", () => {
  for (const functions of [socket(), socket().reverse()]) {
    const tree = new Hierarchy(functions);
    assert.deepEqual(tree.damage, []);
    assert.equal(tree.parent("0004:00:00.0"), null);
    assert.equal(tree.parent("0004:05:00.1")?.address, "0004:02:0b.0");
    assert.equal(tree.parent("0005:01:00.0")?.address, "0005:00:00.0");
    assert.deepEqual(addresses(tree.path("0004:04:00.0")), ["0004:02:0a.0", "0004:01:00.0", "0004:00:00.0"]);
    assert.deepEqual(addresses(tree.children("0004:01:00.0")), ["0004:02:01.0", "0004:02:0a.0", "0004:02:0b.0"]);
    assert.equal(tree.rootPort("0004:04:00.0")?.address, "0004:00:00.0");
    assert.equal(tree.rootBus("0004:04:00.0"), "0004:00");
  }
});

test("a secondary bus reset hits everything below a bridge and nothing beside it", () => {
  const tree = new Hierarchy(socket());
  assert.deepEqual(addresses(tree.resetBy("0004:02:0b.0")), ["0004:05:00.0", "0004:05:00.1"]);
  assert.deepEqual(
    addresses(tree.resetBy("0004:00:00.0")),
    addresses(socket().filter(({ address }) => address.startsWith("0004") && address !== "0004:00:00.0")),
  );
  assert.deepEqual(tree.resetBy("0004:05:00.0"), []);
});

test("a switch is an upstream port with the downstream ports below it", () => {
  const tree = new Hierarchy(socket());
  const [only, ...others] = tree.switches;
  assert.deepEqual(others, []);
  assert.equal(only?.upstream.address, "0004:01:00.0");
  assert.deepEqual(addresses(only?.downstream ?? []), ["0004:02:01.0", "0004:02:0a.0", "0004:02:0b.0"]);
  assert.equal(tree.sharedSwitch("0004:03:00.0", "0004:04:00.0")?.upstream.address, "0004:01:00.0");
  assert.equal(tree.sharedSwitch("0004:05:00.0", "0004:05:00.1")?.upstream.address, "0004:01:00.0");
  assert.equal(tree.sharedSwitch("0004:03:00.0", "0004:01:00.1"), null);
  assert.equal(tree.sharedSwitch("0004:03:00.0", "0005:01:00.0"), null);
  assert.equal(tree.switchAbove("0004:03:00.0")?.upstream.address, "0004:01:00.0");
  assert.equal(tree.switchAbove("0005:01:00.0"), null);
});

test("two functions meet at the deepest bridge above both", () => {
  const tree = new Hierarchy(socket());
  const crossing = tree.crossing("0004:03:00.0", "0004:04:00.0");
  assert.equal(crossing.common?.address, "0004:01:00.0");
  assert.deepEqual(addresses(crossing.fromA), ["0004:02:01.0"]);
  assert.deepEqual(addresses(crossing.fromB), ["0004:02:0a.0"]);
  assert.equal(tree.common("0004:05:00.0", "0004:05:00.1")?.address, "0004:02:0b.0");
  assert.equal(tree.common("0004:05:00.0", "0004:01:00.1")?.address, "0004:00:00.0");
  assert.equal(tree.common("0004:05:00.0", "0005:01:00.0"), null);
  const apart = tree.crossing("0004:05:00.0", "0005:01:00.0");
  assert.deepEqual([apart.common, apart.fromA.length, apart.fromB.length], [null, 3, 1]);
});

test("virtual functions on a bus inside the range hang under its bridge", () => {
  const tree = new Hierarchy([...socket(), fn("0004:07:00.0")]);
  assert.equal(tree.parent("0004:07:00.0")?.address, "0004:02:0b.0");
});

test("a parent that the source names beats bus numbers", () => {
  const tree = new Hierarchy([...socket(), fn("0004:03:01.0", { parent: "0005:00:00.0" })]);
  assert.equal(tree.parent("0004:03:01.0")?.address, "0005:00:00.0");
  assert.equal(new Hierarchy([fn("0004:03:00.0", { parent: null })]).parent("0004:03:00.0"), null);
});

test("a bus that nobody leads to is a root bus only where that shows", () => {
  const tree = new Hierarchy([
    fn("0004:04:00.0", { type: "endpoint" }),
    fn("0000:17:00.0", { type: "root-port", buses: [0x17, 0x18, 0x18] }),
    fn("0000:17:05.0"),
    fn("0001:00:00.0"),
  ]);
  assert.equal(tree.parent("0004:04:00.0"), undefined);
  assert.equal(tree.rootBus("0004:04:00.0"), undefined);
  assert.equal(tree.parent("0000:17:05.0"), null);
  assert.equal(tree.rootBus("0000:17:05.0"), "0000:17");
  assert.equal(tree.parent("0001:00:00.0"), null);
  assert.equal(tree.parent("0009:00:00.0"), undefined);
});

test("a secondary bus that is not beyond the bridge's own leads nowhere and is reported", () => {
  const tree = new Hierarchy([
    fn("0000:00:01.0", { buses: [0, 5, 5] }),
    fn("0000:05:00.0", { buses: [5, 5, 9] }),
    fn("0000:05:01.0"),
    fn("0000:09:00.0", { buses: [9, 4, 4] }),
    fn("0000:04:00.0"),
  ]);
  assert.equal(tree.parent("0000:05:01.0")?.address, "0000:00:01.0");
  assert.equal(tree.parent("0000:04:00.0"), undefined);
  assert.deepEqual(tree.damage, [
    "0000:05:00.0: secondary bus 05 is not beyond its own 05",
    "0000:09:00.0: secondary bus 04 is not beyond its own 09",
  ]);
});

test("a bridge that has no numbers yet is no damage", () => {
  assert.deepEqual(new Hierarchy([fn("0000:00:01.0", { buses: [0, 0, 0] })]).damage, []);
});

test("inverted, overlapping and escaping bus ranges are reported", () => {
  const inverted = new Hierarchy([fn("0000:00:01.0", { buses: [0, 5, 2] }), fn("0000:05:00.0")]);
  assert.deepEqual(inverted.damage, ["0000:00:01.0: bus range 05 to 02 is inverted; only the first counts"]);
  assert.equal(inverted.parent("0000:05:00.0")?.address, "0000:00:01.0");
  const overlapping = [fn("0000:00:01.0", { buses: [0, 1, 5] }), fn("0000:00:02.0", { buses: [0, 4, 8] })];
  assert.deepEqual(new Hierarchy(overlapping).damage, [
    "buses 04 to 08 of 0000:00:02.0 overlap buses 01 to 05 of 0000:00:01.0",
  ]);
  const escaping = [fn("0000:00:01.0", { buses: [0, 1, 3] }), fn("0000:01:00.0", { buses: [1, 2, 7] })];
  assert.deepEqual(new Hierarchy(escaping).damage, [
    "buses 02 to 07 of 0000:01:00.0 reach outside buses 01 to 03 of 0000:00:01.0, the bridge above",
  ]);
});

test("a bus that two bridges claim alike has no known parent", () => {
  const rivals = [fn("0000:00:01.0", { buses: [0, 1, 5] }), fn("0000:00:02.0", { buses: [0, 1, 5] })];
  const tree = new Hierarchy([...rivals, fn("0000:01:00.0", { buses: [1, 3, 3] }), fn("0000:03:00.0")]);
  assert.equal(tree.parent("0000:01:00.0"), undefined);
  assert.equal(tree.parent("0000:03:00.0")?.address, "0000:01:00.0");
  assert.match(tree.damage[0] ?? "", /overlap/);
});

test("parents in a circle, unlisted parents and double listings are cut open and reported", () => {
  const tree = new Hierarchy([
    fn("0000:00:01.0", { parent: "0000:00:03.0" }),
    fn("0000:00:02.0", { parent: "0000:00:01.0" }),
    fn("0000:00:03.0", { parent: "0000:00:02.0" }),
    fn("0000:00:04.0", { parent: "0000:00:04.0" }),
    fn("0000:00:05.0", { parent: "0000:00:1f.0" }),
    fn("0000:00:05.0", { parent: null }),
    fn("0000:00:06.0", { parent: "0000:00:01.0" }),
  ]);
  assert.equal(tree.damage.length, 4);
  for (const address of ["0000:00:01.0", "0000:00:02.0", "0000:00:03.0", "0000:00:04.0", "0000:00:05.0"]) {
    assert.equal(tree.rootBus(address), undefined);
    assert.ok(tree.path(address).length < 4);
    assert.ok(tree.resetBy(address).length < 5);
  }
});

test("hostile parents and bus numbers never loop", () => {
  const byte = fc.nat(260);
  const address = fc.record({ domain: fc.nat(1), bus: fc.nat(7), device: fc.nat(1), function: fc.nat(1) });
  const hostile = fc.record({
    address: address.map(formatAddress),
    parent: fc.option(fc.option(address.map(formatAddress)), { nil: undefined }),
    buses: fc.option(fc.oneof(fc.tuple(byte, fc.nat(8), fc.nat(8)), fc.tuple(byte, byte, byte)), { nil: undefined }),
    type: fc.constantFrom<(ExpressType | undefined)[]>("root-port", "upstream-port", "downstream-port", undefined),
  });
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 40 }), (list) => {
      const functions = list.map(({ address: at, parent, buses, type }) => {
        const extra: Extra = {};
        if (parent !== undefined) extra.parent = parent;
        if (buses !== undefined) extra.buses = buses;
        if (type !== undefined) extra.type = type;
        return fn(at, extra);
      });
      const tree = new Hierarchy(functions);
      for (const a of functions) {
        const path = tree.path(a.address);
        assert.equal(new Set([a, ...path].map((bridge) => bridge.address)).size, path.length + 1);
        for (const bridge of path) assert.ok(addresses(tree.resetBy(bridge.address)).includes(a.address));
        for (const b of functions) {
          const { common, fromA, fromB } = tree.crossing(a.address, b.address);
          assert.equal(common, tree.common(b.address, a.address));
          const shared = path.filter((bridge) => tree.path(b.address).includes(bridge));
          assert.equal(common, shared[0] ?? null);
          assert.equal(fromA.length, path.length - shared.length);
          assert.equal(fromB.length, tree.path(b.address).length - shared.length);
        }
      }
    }),
    { seed: 5, numRuns: 200 },
  );
});

test("10,000 functions, in one chain or all claiming all buses, are built in well under a second", () => {
  const nth = (i: number): PciAddress =>
    formatAddress({ domain: i >> 16, bus: (i >> 8) & 0xff, device: (i >> 3) & 31, function: i & 7 });
  const chain = Array.from({ length: 10_000 }, (_, i) => fn(nth(i), { parent: i === 0 ? null : nth(i - 1) }));
  const rivals = Array.from({ length: 10_000 }, (_, i) => fn(nth(i), { buses: [0, 0xff, 0xff] }));
  const took = processorTime(() => {
    const deep = new Hierarchy(chain.reverse());
    assert.equal(deep.path(nth(9_999)).length, 9_999);
    assert.equal(deep.resetBy(nth(0)).length, 9_999);
    assert.ok(new Hierarchy(rivals).damage.length <= 20_000);
  });
  assert.ok(took < 1_000, `${took} ms`);
});
