import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { processorTime } from "../../test/processor_time.js";
import { ISOLATION, REQUEST_REDIRECT, SOURCE_VALIDATION } from "./acs.js";
import { decodeCapability } from "./capability_contents.js";
import { ConfigSpaceError } from "./config_space.js";
import { decodeFunction } from "./decode_function.js";

const ADDRESS = "0004:04:00.0";

type Register = readonly [offset: number, value: number];

/** Writes 32-bit registers into a config space of so many bytes. */
function space(size: number, registers: readonly Register[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(size));
  for (const [offset, value] of registers) {
    if (offset < size) view.setUint32(offset, value >>> 0, true);
  }
  return new Uint8Array(view.buffer);
}

const V100: readonly Register[] = [
  [0x00, 0x1db110de],
  [0x04, 0x00100002],
  [0x08, 0x030200a1],
  [0x0c, 0x00800000],
  [0x10, 0x83000000],
  [0x14, 0x0000000c],
  [0x18, 0x00060000],
  [0x1c, 0x0000000c],
  [0x20, 0x00060004],
  [0x2c, 0x121210de],
  [0x30, 0xf0000000],
  [0x34, 0x60],
  [0x3c, 0x0000010b],
  [0x60, 0x00030001],
];

test("an endpoint's header and base addresses are decoded", () => {
  const fn = decodeFunction(ADDRESS, space(256, V100));
  assert.deepEqual(fn, {
    address: ADDRESS,
    vendorId: 0x10de,
    deviceId: 0x1db1,
    subsystemVendorId: 0x10de,
    subsystemId: 0x1212,
    classCode: 0x030200,
    revision: 0xa1,
    headerType: 0,
    multifunction: true,
    irq: 11,
    bars: [
      { index: 0, kind: "memory", address: 0x83000000n, width: 32, prefetchable: false, disabled: false },
      { index: 1, kind: "memory", address: 0x6000000000000n, width: 64, prefetchable: true, disabled: false },
      { index: 3, kind: "memory", address: 0x6000400000000n, width: 64, prefetchable: true, disabled: false },
      { index: "rom", kind: "memory", address: 0xf0000000n, width: 32, prefetchable: false, disabled: true },
    ],
    capabilities: [{ offset: 0x60, id: 1, extended: false, name: "Power Management" }],
  });
});

test("BARs are disabled with the decoding of their kind, and the ROM by its own bit too", () => {
  const registers: readonly Register[] = [...V100, [0x24, 0x0000e001], [0x30, 0xf0000001]];
  const off = decodeFunction(ADDRESS, space(64, [...registers, [0x04, 0x00000001]]));
  assert.deepEqual(
    off.bars.map(({ index, disabled }) => [index, disabled]),
    [
      [0, true],
      [1, true],
      [3, true],
      [5, false],
      ["rom", true],
    ],
  );
  assert.deepEqual(off.bars[3], {
    index: 5,
    kind: "io",
    address: 0xe000n,
    width: 32,
    prefetchable: false,
    disabled: false,
  });
  const on = decodeFunction(ADDRESS, space(64, [...registers, [0x04, 0x00000002]]));
  assert.deepEqual(on.bars.at(-1)?.disabled, false);
});

test("a 64-bit BAR without a register for its upper half is damage", () => {
  const fn = decodeFunction(
    ADDRESS,
    space(64, [
      [0x00, 0x1db110de],
      [0x24, 0x8000000c],
    ]),
  );
  assert.deepEqual(fn.bars, []);
  assert.deepEqual(fn.damage, ["BAR 5 at 0x24 is 64 bits wide, but there is no register for its upper half"]);
});

test("a bridge has two BARs, bus numbers, and its subsystem ids in a capability", () => {
  const fn = decodeFunction(
    ADDRESS,
    space(256, [
      [0x00, 0x872510b5],
      [0x04, 0x00100007],
      [0x08, 0x060400ca],
      [0x0c, 0x00010000],
      [0x10, 0x80000000],
      [0x18, 0x0009040a],
      [0x1c, 0xffffffff],
      [0x34, 0x40],
      [0x38, 0x90000001],
      [0x40, 0x0000000d],
      [0x44, 0x872510b5],
    ]),
  );
  assert.deepEqual(fn.buses, { primary: 10, secondary: 4, subordinate: 9 });
  assert.equal(fn.headerType, 1);
  assert.deepEqual(
    fn.bars.map(({ index, address }) => [index, address]),
    [
      [0, 0x80000000n],
      ["rom", 0x90000000n],
    ],
  );
  assert.deepEqual([fn.subsystemVendorId, fn.subsystemId], [0x10b5, 0x8725]);
});

test("a CardBus bridge is decoded, also from the 128 bytes an ordinary user may read", () => {
  const registers: Register[] = [
    [0x00, 0xac56104c],
    [0x08, 0x06070001],
    [0x0c, 0x00020000],
    [0x10, 0xfe000000],
    [0x18, 0x00060500],
  ];
  for (const size of [64, 128, 256]) {
    const config = space(size, size > 64 ? [...registers, [0x40, 0x05771014]] : registers);
    const fn = decodeFunction(ADDRESS, config);
    assert.equal(fn.damage, undefined);
    assert.deepEqual(fn.buses, { primary: 0, secondary: 5, subordinate: 6 });
    assert.equal(fn.bars.length, 1);
    assert.equal(fn.subsystemVendorId, size > 64 ? 0x1014 : undefined);
  }
});

test("a header type nobody has defined yields the common registers and says so", () => {
  const fn = decodeFunction(ADDRESS, space(256, [...V100, [0x0c, 0x00050000]]));
  assert.deepEqual([fn.vendorId, fn.bars, fn.capabilities], [0x10de, [], []]);
  assert.match(fn.damage?.[0] ?? "", /header type 5 at 0x0e is unknown/);
});

test("other sizes than 64, 256 and 4096 are damage, and what is there is decoded", () => {
  for (const size of [100, 128, 255, 257, 4095]) {
    const fn = decodeFunction(ADDRESS, space(Math.max(size, 0x70), V100).subarray(0, size));
    assert.match(fn.damage?.[0] ?? "", new RegExp(`config space of ${size} bytes`));
    assert.equal(fn.vendorId, 0x10de);
  }
  const long = decodeFunction(ADDRESS, space(8192, V100));
  assert.match(long.damage?.[0] ?? "", /8192 bytes/);
  for (const size of [0, 1, 63]) {
    const fn = decodeFunction(ADDRESS, new Uint8Array(size));
    assert.deepEqual([fn.vendorId, fn.capabilities.length, fn.damage?.length], [undefined, 0, 1]);
  }
});

test("a function that does not answer is damage, a virtual function only lacks its ids", () => {
  assert.match(decodeFunction(ADDRESS, new Uint8Array(4096).fill(0xff)).damage?.[0] ?? "", /does not answer.*0x00/);
  const vf = decodeFunction(ADDRESS, space(256, [...V100, [0x00, 0xffffffff]]));
  assert.deepEqual([vf.vendorId, vf.deviceId, vf.classCode, vf.damage], [undefined, undefined, 0x030200, undefined]);
});

const PORT: readonly Register[] = [
  [0x00, 0x872510b5],
  [0x04, 0x00100000],
  [0x0c, 0x00010000],
  [0x34, 0x68],
  // Downstream port with a slot, version 2.
  [0x68, 0x01620010],
  [0x6c, 0x10000000],
  [0x7c, (42 << 19) >>> 0],
  [0x100, 0x0001000d],
  [0x104, 0x0005005f],
];

test("Express and ACS are what isolation reads", () => {
  const fn = decodeFunction(ADDRESS, space(4096, PORT));
  assert.deepEqual(fn.express, {
    type: "downstream-port",
    slotImplemented: true,
    slotNumber: 42,
    // Reserved in a port, which has no such reset.
    functionLevelReset: false,
  });
  assert.deepEqual(fn.acs, { supported: 0x5f, enabled: SOURCE_VALIDATION | REQUEST_REDIRECT });
  assert.equal(ISOLATION, 0x1d);
});

test("a slot is only where a port has one below", () => {
  const fn = decodeFunction(ADDRESS, space(4096, [...PORT, [0x68, 0x01020010]]));
  assert.deepEqual(fn.express, { type: "endpoint", slotImplemented: false, functionLevelReset: true });
});

test("contents are decoded on demand, and capabilities that are not all there are refused", () => {
  const config = space(4096, PORT);
  const fn = decodeFunction(ADDRESS, config);
  assert.deepEqual(
    fn.capabilities.map((capability) => decodeCapability(config, capability)?.kind),
    ["express", "acs"],
  );
  const capability = { id: 0x10, extended: true, name: "" };
  config[0xfd0] = 0x10;
  for (const offset of [0xfd0, 0x1000, -4, 0.5, Number.NaN, 2 ** 40]) {
    assert.throws(() => decodeCapability(config, { ...capability, offset }), ConfigSpaceError);
  }
  assert.equal(decodeCapability(config, { ...capability, offset: 0x100 }), undefined);
  assert.equal(decodeCapability(config, { offset: 0x100, id: 0x03, extended: true, name: "" }), undefined);
});

test("no config space makes decoding throw, nor the contents of what it lists", () => {
  const size = fc.constantFrom(0, 64, 100, 256, 4096, 5000);
  const sized = size.chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
  fc.assert(
    fc.property(sized, fc.nat(4), (config, type) => {
      if (config.length > 0x34) {
        config[0x06] = 0x10;
        config[0x0e] = type;
      }
      const fn = decodeFunction(ADDRESS, config);
      for (const capability of fn.capabilities) {
        try {
          decodeCapability(config, capability, fn.express?.type);
        } catch (error) {
          assert.ok(error instanceof ConfigSpaceError);
        }
      }
    }),
    { seed: 11, numRuns: 500 },
  );
});

test("10,000 functions with extended config space are decoded in well under a second", () => {
  const config = space(4096, PORT);
  let found = 0;
  const took = processorTime(() => {
    for (let i = 0; i < 10_000; i++) found += decodeFunction(ADDRESS, config).capabilities.length;
  });
  assert.equal(found, 20_000);
  assert.ok(took < 1_000, `${took} ms`);
});
