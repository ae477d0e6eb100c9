import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  ConfigSpace,
  decodeCapabilityChain,
  decodeIrqSet,
  decodeRegionInfo,
  encodeCapabilityChain,
  encodeIrqSet,
  encodeRegionInfo,
  pause,
  type RegionCapability,
  runToEnd,
  type Steps,
  VFIO_REGION_INFO_FLAG_CAPS,
  VfioError,
  waitUntil,
  withinTime,
} from "./index.js";

/** Plain objects, which compare equal to what a decoder returns. */
function record<T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(fields, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

const u32 = fc.nat(0xffffffff);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const capability: fc.Arbitrary<RegionCapability> = fc.oneof(
  record({
    kind: fc.constant("sparse-mmap" as const),
    areas: fc.array(record({ offset: u64, size: u64 }), { maxLength: 5 }),
  }),
  record({ kind: fc.constant("type" as const), type: u32, subtype: u32 }),
  record({ kind: fc.constant("msix-mappable" as const) }),
  record({ kind: fc.constant("nvlink2-ssatgt" as const), tgt: u64 }),
  record({ kind: fc.constant("nvlink2-lnkspd" as const), linkSpeed: u32 }),
);

test("any chain of capabilities comes back as it was", () => {
  const info = record({
    flags: fc.nat(7),
    index: u32,
    size: u64,
    offset: u64,
    capabilities: fc.array(capability, { maxLength: 6 }),
  });
  fc.assert(
    fc.property(info, (given) => {
      const decoded = decodeRegionInfo(encodeRegionInfo({ argsz: 0, ...given }));
      assert.deepEqual({ ...decoded, argsz: 0, flags: decoded.flags & 7 }, { argsz: 0, ...given });
    }),
  );
});

test("no bytes make the decoders do anything but answer or refuse", () => {
  const attempt = (decode: () => unknown) => {
    try {
      decode();
    } catch (error) {
      assert.ok(error instanceof VfioError, String(error));
    }
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, start) => {
      attempt(() => decodeRegionInfo(bytes));
      attempt(() => decodeCapabilityChain(bytes, start));
      attempt(() => decodeIrqSet(bytes));
    }),
    { numRuns: 2000 },
  );
});

test("the capability chain is laid out as linux/vfio.h has it", () => {
  const capabilities: RegionCapability[] = [
    { kind: "sparse-mmap", areas: [{ offset: 0x1000n, size: 0x2000n }] },
    { kind: "type", type: 0x800010de, subtype: 1 },
    { kind: "nvlink2-ssatgt", tgt: 0x0400000000000000n },
    { kind: "nvlink2-lnkspd", linkSpeed: 9 },
  ];
  const words = new Uint32Array(encodeCapabilityChain(capabilities, 32).buffer);
  assert.deepEqual(
    [...words],
    [
      [0x00010001, 64, 1, 0, 0x1000, 0, 0x2000, 0],
      [0x00010002, 80, 0x800010de, 1],
      [0x00010004, 96, 0, 0x04000000],
      [0x00010005, 0, 9, 0],
    ].flat(),
  );
});

test("with too little room only the fixed part comes, and says how much is needed", () => {
  const info = {
    argsz: 0,
    flags: 3,
    index: 1,
    size: 1n,
    offset: 0n,
    capabilities: [{ kind: "msix-mappable" as const }],
  };
  const short = encodeRegionInfo(info, 39);
  assert.equal(short.length, 32);
  assert.deepEqual(decodeRegionInfo(short), {
    ...info,
    argsz: 40,
    flags: 3 | VFIO_REGION_INFO_FLAG_CAPS,
    capabilities: [],
  });
  assert.equal(encodeRegionInfo(info, 40).length, 40);
});

test("chains that loop, go back or leave the structure are refused", () => {
  const chain = (next: number) => {
    const bytes = encodeRegionInfo({
      argsz: 0,
      flags: 0,
      index: 0,
      size: 0n,
      offset: 0n,
      capabilities: [{ kind: "msix-mappable" }],
    });
    new DataView(bytes.buffer).setUint32(36, next, true);
    return bytes;
  };
  for (const next of [32, 8, 39, 40, 0xffffffff])
    assert.throws(() => decodeRegionInfo(chain(next)), VfioError, String(next));
});

test("an IRQ set needs exactly one action and one kind of data, and all its booleans", () => {
  const set = {
    index: 2,
    start: 1,
    count: 3,
    action: "trigger" as const,
    data: { kind: "bool" as const, values: [true, false, true] },
  };
  const bytes = encodeIrqSet(set);
  assert.deepEqual(decodeIrqSet(bytes), set);
  assert.throws(() => decodeIrqSet(bytes.subarray(0, 22)), /22 bytes/);
  for (const flags of [0, 1, 0x20, 0x21 | 0x8, 0x23, 0x61, 0x8000_0021]) {
    const wrong = bytes.slice();
    new DataView(wrong.buffer).setUint32(4, flags, true);
    assert.throws(() => decodeIrqSet(wrong), /flags/, flags.toString(16));
  }
});

test("config space changes only where it is writable, and sizes its BARs", () => {
  const config = new ConfigSpace({ vendorId: 0x10de, deviceId: 0x1db1, classCode: 0x030200, interruptPin: 1 });
  config.addBar(0, 16 << 20);
  config.addBar(2, 16 * 2 ** 30, { wide: true, prefetchable: true });
  config.addMsix(4, { bar: 0, offset: 0x1000 }, { bar: 0, offset: 0x2000 });
  config.write(0, new Uint8Array(64).fill(0xff));
  const view = new DataView(config.bytes.buffer);
  assert.equal(view.getUint32(0, true), 0x1db110de);
  assert.equal(view.getUint32(0x10, true), 0xff000000);
  assert.equal(view.getUint32(0x18, true), 0x0000000c);
  assert.equal(view.getUint32(0x1c, true), 0xfffffffc);
  assert.equal(view.getUint16(0x42, true), 3);
  config.reset();
  assert.equal(view.getUint32(0x10, true), 0);
  assert.equal(view.getUint8(0x34), 0x40);
});

test("steps wait, are limited in time, and clean up when they are", () => {
  const began = performance.now();
  let cleaned = false;
  function* endless(): Steps {
    try {
      for (;;) yield* pause(60_000);
    } finally {
      cleaned = true;
    }
  }
  assert.throws(() => runToEnd(withinTime(endless(), 20)), /ETIMEDOUT/);
  assert.equal(cleaned, true);
  assert.equal(runToEnd(waitUntil(() => performance.now() - began > 30, 1000)), true);
  assert.equal(runToEnd(waitUntil(() => false, 5)), false);
  assert.ok(performance.now() - began < 50_000);
});
