import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigRegisters } from "./config_registers.js";

test("a write changes writable bits, clears clearable ones where it has a 1, and leaves the rest", () => {
  const registers = new ConfigRegisters(256);
  registers.define([{ at: 0x10, size: 2, value: 0xa5f3, writable: 0x0f0f, clearable: 0xf000 }], 0x40);
  registers.write(0x50, 0xfc);
  registers.write(0x51, 0x83);
  assert.equal(registers.word(0x50), 0x23fc);
  registers.write(0x51, 0x00);
  assert.equal(registers.word(0x50), 0x20fc);
});

test("the device sets what software cannot, and all comes back from a copy", () => {
  const registers = new ConfigRegisters(256);
  registers.define([{ at: 0, size: 4, value: 0xdeadbeef }]);
  const copy = registers.copy();
  registers.write(1, 0);
  assert.equal(registers.double(0), 0xdeadbeef);
  registers.set(1, 0);
  assert.equal(registers.double(0), 0xdead00ef);
  registers.restore(copy);
  assert.equal(registers.double(0), 0xdeadbeef);
});

test("beyond the end nobody answers", () => {
  const registers = new ConfigRegisters(256);
  registers.write(0x100, 1);
  assert.equal(registers.byte(0x100), 0xff);
  assert.equal(registers.double(0xfe), 0xffff0000);
});
