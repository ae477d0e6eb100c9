import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Bar, PciFunction } from "../pci/function.js";
import { ConfigImage } from "./config_image.js";

const registers: Bar = {
  index: 0,
  kind: "memory",
  address: 0x92000000n,
  size: 0x1000000n,
  width: 32,
  prefetchable: false,
  disabled: false,
};
const frameBuffer: Bar = { ...registers, index: 1, address: 0x39f000000000n, size: 0x400000000n, width: 64 };
const v100: PciFunction = {
  address: "0000:1a:00.0",
  vendorId: 0x10de,
  deviceId: 0x1db1,
  classCode: 0x030200,
  revision: 0xa1,
  bars: [registers, { ...frameBuffer, prefetchable: true }],
  capabilities: [
    { offset: 0x78, id: 0x10, extended: false, name: "Express" },
    { offset: 0x60, id: 0x01, extended: false, name: "Power Management" },
    { offset: 0x420, id: 0x01, extended: true, name: "Advanced Error Reporting" },
    { offset: 0x250, id: 0x18, extended: true, name: "Latency Tolerance Reporting" },
  ],
};

test("ids, class and BARs stand in the header as firmware left them, with decoding on", () => {
  const image = new ConfigImage(v100);
  assert.equal(image.read(0x00, 4), 0x1db110de);
  assert.equal(image.read(0x08, 4), 0x030200a1);
  assert.equal(image.read(0x10, 4), 0x92000000);
  assert.equal(image.read(0x14, 4), 0x0000000c);
  assert.equal(image.read(0x18, 4), 0x39f0);
  assert.equal(image.read(0x04, 2) & 0x6, 0x6);
  assert.equal(image.bar0, 0x92000000n);
});

test("writing all ones to a BAR answers its size, 32 and 64 bits wide", () => {
  const image = new ConfigImage(v100);
  for (const at of [0x10, 0x14, 0x18]) image.write(at, 4, 0xffffffff);
  assert.equal(image.read(0x10, 4), 0xff000000);
  assert.equal(image.read(0x14, 4), 0x0000000c);
  assert.equal(image.read(0x18, 4), 0xfffffffc);
  image.write(0x10, 4, 0x93000000);
  assert.equal(image.bar0, 0x93000000n);
});

test("a BAR that does not exist and the read-only ids ignore writes", () => {
  const image = new ConfigImage(v100);
  for (const at of [0x00, 0x08, 0x1c, 0x20, 0x24, 0x34, 0x60, 0x100]) {
    const before = image.read(at, 4);
    image.write(at, 4, 0xffffffff);
    assert.equal(image.read(at, 4), before, `offset ${at}`);
  }
});

test("a reset leaves BARs and command 0, and ids and capabilities as they were", () => {
  const image = new ConfigImage(v100);
  image.reset();
  assert.equal(image.read(0x10, 4), 0);
  assert.equal(image.read(0x14, 4), 0xc);
  assert.equal(image.read(0x04, 2), 0);
  assert.equal(image.bar0, 0n);
  assert.equal(image.memoryDecoding, false);
  assert.equal(image.read(0x00, 4), 0x1db110de);
  assert.equal(image.read(0x34, 1), 0x78);
});

test("both lists lead through the capabilities in the order of the source, the extended one from 0x100", () => {
  const image = new ConfigImage(v100);
  const standard: number[] = [];
  for (let at = image.read(0x34, 1); at !== 0; at = image.read(at + 1, 1)) standard.push(at);
  assert.deepEqual(standard, [0x78, 0x60]);
  const extended: [number, number][] = [];
  for (let at = 0x100; at !== 0; at = image.read(at, 4) >>> 20) extended.push([at, image.read(at, 4) & 0xffff]);
  assert.deepEqual(extended, [
    [0x100, 0],
    [0x420, 0x01],
    [0x250, 0x18],
  ]);
});

test("a 32-bit BAR that is given by the CPU's address on POWER holds the bus address behind it", () => {
  const image = new ConfigImage({ ...v100, bars: [{ ...registers, address: 0x600c280000000n + 0x1000000n }] });
  assert.equal(image.read(0x10, 4), 0x81000000);
});

test("accesses of any size agree, and beyond the space all ones come back", () => {
  const image = new ConfigImage(v100);
  assert.equal(image.read(0x02, 2), 0x1db1);
  assert.equal(image.read(0x03, 1), 0x1d);
  assert.equal(image.read(0x1000, 4), 0xffffffff);
  assert.equal(image.read(0xffe, 4), 0xffffffff);
  assert.equal(new ConfigImage({ ...v100, capabilities: [] }).read(0x100, 2), 0xffff);
});

test("only a function that advertises it is reset by the Initiate FLR bit, whatever the access size", () => {
  const withFlr = (functionLevelReset: boolean) =>
    new ConfigImage({ ...v100, express: { type: "endpoint", slotImplemented: false, functionLevelReset } });
  assert.equal(withFlr(false).write(0x80, 2, 0x8000), false);
  assert.equal(withFlr(true).write(0x80, 2, 0x8000), true);
  assert.equal(withFlr(true).write(0x80, 4, 0x8000), true);
  assert.equal(withFlr(true).write(0x81, 1, 0x80), true);
  assert.equal(withFlr(true).write(0x80, 2, 0x7fff), false);
  const image = withFlr(true);
  image.write(0x80, 2, 0xffff);
  assert.equal(image.read(0x80, 2), 0x79ff, "the bit reads 0");
});

test("no description of a function, however wrong, breaks the image or its lists", () => {
  const bar = fc.record({
    index: fc.oneof(fc.integer(), fc.constant("rom" as const)),
    kind: fc.constantFrom("memory" as const, "io" as const),
    address: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    size: fc.bigInt({ min: -5n, max: 1n << 70n }),
    width: fc.constantFrom(32 as const, 64 as const),
    prefetchable: fc.boolean(),
    disabled: fc.boolean(),
  });
  const capability = fc.record({
    offset: fc.oneof(fc.integer(), fc.integer({ min: 0, max: 0x1000 }), fc.double()),
    id: fc.integer({ min: 0, max: 0xffff }),
    extended: fc.boolean(),
    name: fc.constant("x"),
  });
  fc.assert(
    fc.property(fc.array(bar, { maxLength: 8 }), fc.array(capability, { maxLength: 40 }), (bars, capabilities) => {
      const image = new ConfigImage({ address: "0000:00:00.0", bars, capabilities });
      let hops = 0;
      for (let at = 0x100; at !== 0 && image.read(at, 4) !== 0xffffffff; at = image.read(at, 4) >>> 20) {
        assert.ok(++hops < 1024);
      }
      image.reset();
      assert.equal(image.memoryDecoding, false);
    }),
    { numRuns: 200 },
  );
});
