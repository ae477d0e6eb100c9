import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { node } from "../../test/device_tree_sample.js";
import { DeviceTreeError } from "./error.js";
import { cells, hasProperty, text, textBytes, texts, u32, u32At, u32Bytes, u64, u64Bytes, u64s } from "./property.js";

const LINK = node("link@0", {
  "ibm,npu-link-index": u32Bytes(0xfffffffe),
  "ibm,workers": u32Bytes(1, 2, 0x80000000),
  "ibm,target": u64Bytes(0x6_0000_0000_0001n),
  status: textBytes("okay"),
  compatible: textBytes("one", "", "drei €"),
  empty: new Uint8Array(),
  odd: Uint8Array.of(1, 2, 3),
  open: Uint8Array.of(0x61, 0x62),
  latin: Uint8Array.of(0xe4, 0),
  escape: textBytes("\x1b[2J"),
});

function wrong(read: () => unknown, property: string): void {
  assert.throws(read, (error: unknown) => {
    assert.ok(error instanceof DeviceTreeError);
    assert.equal(error.code, "EFDT_VALUE");
    assert.match(error.message, new RegExp(`${property} .*link@0`));
    return true;
  });
}

test("numbers are read big-endian and unsigned", () => {
  assert.equal(u32(LINK, "ibm,npu-link-index"), 0xfffffffe);
  assert.equal(u64(LINK, "ibm,target"), 0x6_0000_0000_0001n);
  assert.deepEqual(u64s(LINK, "ibm,target"), [0x6_0000_0000_0001n]);
  assert.deepEqual(cells(LINK, "ibm,workers"), [1, 2, 0x80000000]);
  assert.equal(u32At(LINK, "ibm,workers", 2), 0x80000000);
});

test("strings are read as one or as a list, empty ones included", () => {
  assert.equal(text(LINK, "status"), "okay");
  assert.deepEqual(texts(LINK, "status"), ["okay"]);
  assert.deepEqual(texts(LINK, "compatible"), ["one", "", "drei €"]);
  assert.deepEqual(texts(LINK, "empty"), []);
  assert.deepEqual(cells(LINK, "empty"), []);
});

test("a property that is not there is undefined, an empty one is there", () => {
  for (const read of [u32, u64, cells, u64s, text, texts]) assert.equal(read(LINK, "none"), undefined);
  assert.equal(u32At(LINK, "none", 5), undefined);
  assert.equal(hasProperty(LINK, "none"), false);
  assert.equal(hasProperty(LINK, "empty"), true);
});

test("a property of another length or form is an error that names it and its node", () => {
  wrong(() => u32(LINK, "ibm,workers"), "ibm,workers");
  wrong(() => u32(LINK, "empty"), "empty");
  wrong(() => u64(LINK, "ibm,workers"), "ibm,workers");
  wrong(() => u64s(LINK, "ibm,workers"), "ibm,workers");
  wrong(() => cells(LINK, "odd"), "odd");
  wrong(() => u32At(LINK, "odd", 0), "odd");
  wrong(() => u32At(LINK, "ibm,workers", 3), "ibm,workers");
  wrong(() => u32At(LINK, "ibm,workers", -1), "ibm,workers");
  wrong(() => text(LINK, "compatible"), "compatible");
  wrong(() => text(LINK, "empty"), "empty");
  wrong(() => texts(LINK, "open"), "open");
  wrong(() => texts(LINK, "latin"), "latin");
  wrong(() => texts(LINK, "escape"), "escape");
});

test("a text that breaks a terminal's line, or is longer than any, is an error", () => {
  const long = "x".repeat(4096);
  const odd = node("odd", { line: textBytes("a\u2028b"), page: textBytes("a\u2029b"), long: textBytes(`${long}x`) });
  for (const name of ["line", "page", "long"]) assert.throws(() => texts(odd, name), { code: "EFDT_VALUE" }, name);
  assert.deepEqual(texts(node("fine", { long: textBytes(long) }), "long"), [long]);
});

test("values made are read back", () => {
  const u32s = fc.array(fc.nat({ max: 0xffffffff }));
  const bigs = fc.array(fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }));
  const strings = fc.array(fc.stringMatching(/^[ -~äß€𝄞]*$/u), { minLength: 1 });
  fc.assert(
    fc.property(u32s, bigs, strings, (a, b, c) => {
      const made = node("made", { a: u32Bytes(...a), b: u64Bytes(...b), c: textBytes(...c) });
      assert.deepEqual(cells(made, "a"), a);
      assert.deepEqual(u64s(made, "b"), b);
      assert.deepEqual(texts(made, "c"), c);
    }),
  );
});

test("values that do not fit are refused, not wrapped", () => {
  for (const value of [-1, 2 ** 32, 0.5, Number.NaN]) assert.throws(() => u32Bytes(value), { code: "EFDT_VALUE" });
  for (const value of [-1n, 1n << 64n]) assert.throws(() => u64Bytes(value), { code: "EFDT_VALUE" });
  assert.throws(() => textBytes("a\0b"), { code: "EFDT_VALUE" });
});
