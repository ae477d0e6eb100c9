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
const MSI = { offset: 0x68, id: 0x05, extended: false, name: "MSI" };
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

test("bytes at any place and of any length are those of the sized accesses, and write as they do", () => {
  const access = fc.record({
    offset: fc.oneof(fc.integer({ min: 0, max: 0xa00 }), fc.integer({ min: 0xff0, max: 0x1010 })),
    data: fc.uint8Array({ minLength: 0, maxLength: 9 }),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 30 }), (accesses) => {
      const fn: PciFunction = {
        ...v100,
        express: { type: "endpoint", slotImplemented: false, functionLevelReset: true },
      };
      const bytes = new ConfigImage(fn);
      const sized = new ConfigImage(fn);
      for (const { offset, data } of accesses) {
        const asks = [...data].map((value, i) => sized.write(offset + i, 1, value)).includes(true);
        assert.equal(bytes.writeBytes(offset, data), asks);
        const seen = new Uint8Array(data.length);
        bytes.readBytes(offset, seen);
        assert.deepEqual(
          [...seen],
          [...data].map((_, i) => sized.read(offset + i, 1)),
        );
      }
      const all = new Uint8Array(4096);
      bytes.readBytes(0, all);
      const view = new DataView(all.buffer);
      for (let at = 0; at < 4096; at += 4) assert.equal(sized.read(at, 4), view.getUint32(at, true));
    }),
    { numRuns: 50 },
  );
});

test("bytes beyond the end read as ones, and writing them changes nothing", () => {
  const image = new ConfigImage(v100);
  const data = new Uint8Array(8);
  image.readBytes(0xffc, data);
  assert.deepEqual([...data], [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
  assert.equal(image.writeBytes(0x2000, data), false);
});

test("a device reads from it whether it may decode, master the bus and interrupt, and how", () => {
  const image = new ConfigImage({ ...v100, capabilities: [...v100.capabilities, MSI] });
  image.reset();
  const flags = () => [image.memoryDecoding, image.busMastering, image.interruptDisabled, image.msiEnabled];
  assert.deepEqual(flags(), [false, false, false, false]);
  image.write(0x04, 2, 0x0002);
  assert.deepEqual(flags(), [true, false, false, false]);
  image.write(0x04, 2, 0x0404);
  assert.deepEqual(flags(), [false, true, true, false]);
  image.write(0x6a, 1, 1);
  assert.deepEqual(flags(), [false, true, true, true]);
  image.reset();
  assert.deepEqual(flags(), [false, false, false, false]);
  assert.equal(new ConfigImage(v100).msiEnabled, false, "without an MSI capability");
});

test("interrupt status is the device's to set and no write of software's changes it", () => {
  const image = new ConfigImage(v100);
  image.setInterruptStatus(true);
  assert.equal(image.read(0x06, 2), 0x0018);
  image.write(0x06, 2, 0xffff);
  assert.equal(image.read(0x06, 2), 0x0018);
  image.setInterruptStatus(false);
  assert.equal(image.read(0x06, 2), 0x0010);
  image.write(0x06, 2, 0xffff);
  assert.equal(image.read(0x06, 2), 0x0010);
});

test("D1 and D2, which the function does not have, cannot be entered; D3hot keeps all state", () => {
  const image = new ConfigImage(v100);
  assert.equal(image.read(0x64, 2), 0x0008, "D0, no soft reset");
  for (const state of [1, 2]) {
    image.write(0x64, 2, state);
    assert.equal(image.read(0x64, 2), 0x0008);
  }
  image.write(0x64, 2, 3);
  assert.equal(image.read(0x64, 2), 0x000b);
  image.write(0x64, 2, 0);
  assert.equal(image.bar0, 0x92000000n);
});

test("an MSI has a 64-bit address and can be turned on, but be no more than one", () => {
  const image = new ConfigImage({ ...v100, capabilities: [MSI] });
  assert.equal(image.read(0x6a, 2), 0x0080);
  image.write(0x6c, 4, 0xfee00123);
  image.write(0x70, 4, 0x80000000);
  image.write(0x74, 4, 0xffff4021);
  image.write(0x6a, 2, 0xffff);
  assert.deepEqual(
    [0x6c, 0x70, 0x74, 0x68].map((at) => image.read(at, 4)),
    [0xfee00120, 0x80000000, 0x4021, 0x00810005],
  );
});

test("masks of the error capability take what is written, and its status bits do not", () => {
  const image = new ConfigImage(v100);
  for (const [at, initial, bits] of [
    [0x424, 0, 0],
    [0x428, 0, 0x005ff030],
    [0x42c, 0x00462030, 0x005ff030],
    [0x430, 0, 0],
    [0x434, 0x2000, 0x31c1],
  ] as const) {
    assert.equal(image.read(at, 4), initial, at.toString(16));
    image.write(at, 4, 0xffffffff);
    assert.equal(image.read(at, 4), bits, at.toString(16));
  }
});

test("a capability whose body would run into the next one is listed without it", () => {
  const capabilities = [
    { ...MSI, offset: 0x40 },
    { offset: 0x48, id: 0x01, extended: false, name: "Power Management" },
    { offset: 0x50, id: 0x10, extended: false, name: "Express" },
    { offset: 0x100, id: 0x01, extended: true, name: "Advanced Error Reporting" },
    { offset: 0x104, id: 0x02, extended: true, name: "Virtual Channel" },
  ];
  const image = new ConfigImage({ ...v100, capabilities });
  assert.equal(image.read(0x40, 4), 0x4805);
  assert.equal(image.read(0x48, 4), 0x00035001);
  assert.equal(image.read(0x52, 2), 0x0002);
  assert.equal(image.read(0x100, 4), 0x10410001);
  assert.equal(image.read(0x104, 4), 0x00010002);
  const short = { offset: 0x64, id: 0x09, extended: false, name: "Vendor Specific Information" };
  const cramped = new ConfigImage({ ...v100, capabilities: [...capabilities.slice(0, 3), short] });
  assert.equal(cramped.read(0x52, 2), 0x0001, "the first version of the Express capability has room");
});

test("each BAR says how much it decodes, and only a function with an I/O BAR can be told to decode I/O", () => {
  const io: Bar = { ...registers, index: 5, kind: "io", address: 0x1000n, size: 0x80n };
  const image = new ConfigImage({ ...v100, bars: [...v100.bars, io] });
  assert.deepEqual(
    [0, 1, 2, 5, "rom" as const].map((index) => image.barSize(index)),
    [0x1000000n, 0x400000000n, 0n, 0x80n, 0n],
  );
  image.write(0x04, 2, 0xffff);
  assert.equal(image.read(0x04, 2), 0x0547);
  const memoryOnly = new ConfigImage(v100);
  memoryOnly.write(0x04, 2, 0xffff);
  assert.equal(memoryOnly.read(0x04, 2), 0x0546);
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
