import assert from "node:assert/strict";
import { test } from "node:test";
import { classByName, className } from "./class_code.js";

test("classes have the names lspci prints", () => {
  assert.equal(className(0x030200), "3D controller");
  assert.equal(className(0x030000), "VGA compatible controller");
  assert.equal(className(0x060400), "PCI bridge");
  assert.equal(className(0x068000), "Bridge");
  assert.equal(className(0x010802), "Non-Volatile memory controller");
});

test("an unknown subclass is its base class and its number, an unknown class its number", () => {
  assert.equal(className(0x0b5000), "Processor [0b50]");
  assert.equal(className(0x600000), "Class [6000]");
});

test("a name leads back to its class, and no other text does", () => {
  assert.equal(classByName("3D controller"), 0x0302);
  assert.equal(classByName("Bridge"), 0x0680);
  assert.equal(classByName("constructor"), undefined);
});
