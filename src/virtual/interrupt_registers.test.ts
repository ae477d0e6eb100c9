import assert from "node:assert/strict";
import { test } from "node:test";
import {
  InterruptRegisters,
  NV_PMC_INTR,
  NV_PMC_INTR_EN,
  NV_PMC_INTR_EN_CLEAR,
  NV_PMC_INTR_EN_SET,
  NV_PMC_INTR_MODE,
  NV_PMC_INTR_PTIMER,
  NV_PMC_INTR_SOFTWARE,
  NV_PMC_INTR_SW,
} from "./interrupt_registers.js";

test("a pending timer shows in tree 0, and interrupts the host only where its bit is enabled", () => {
  let pending = true;
  const registers = new InterruptRegisters(() => pending);
  assert.equal(registers.read(NV_PMC_INTR), NV_PMC_INTR_PTIMER);
  assert.equal(registers.read(NV_PMC_INTR + 4), 0);
  assert.equal(registers.line, false);
  registers.write(NV_PMC_INTR_EN_SET, ~NV_PMC_INTR_PTIMER >>> 0);
  assert.equal(registers.line, false);
  registers.write(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER);
  assert.equal(registers.read(NV_PMC_INTR_EN), 0xffffffff);
  assert.equal(registers.line, true);
  pending = false;
  assert.equal(registers.line, false);
});

test("enable bits are set and cleared by registers of their own, and the sum is read only", () => {
  const registers = new InterruptRegisters(() => false);
  registers.write(NV_PMC_INTR_EN_SET, 0xff000000);
  registers.write(NV_PMC_INTR_EN_SET, 0x0000000f);
  registers.write(NV_PMC_INTR_EN_CLEAR, 0x0f000005);
  registers.write(NV_PMC_INTR_EN, 0x12345678);
  assert.equal(registers.read(NV_PMC_INTR_EN), 0xf000000a);
  for (const at of [NV_PMC_INTR_EN_SET, NV_PMC_INTR_EN_CLEAR, NV_PMC_INTR_MODE]) assert.equal(registers.read(at), 0);
  registers.reset();
  assert.equal(registers.read(NV_PMC_INTR_EN), 0);
});

test("software interrupts any tree, and the host through the first two", () => {
  for (const tree of [0, 1, 2, 3]) {
    const registers = new InterruptRegisters(() => false);
    registers.write(NV_PMC_INTR_EN_SET + 4 * tree, NV_PMC_INTR_SOFTWARE);
    registers.write(NV_PMC_INTR_SW + 4 * tree, 1);
    assert.equal(registers.read(NV_PMC_INTR + 4 * tree), NV_PMC_INTR_SOFTWARE);
    assert.equal(registers.line, tree < 2);
    registers.write(NV_PMC_INTR_SW + 4 * tree, 0);
    assert.equal(registers.line, false);
  }
});

test("what is no interrupt register of the master control is not answered", () => {
  const registers = new InterruptRegisters(() => false);
  for (const at of [0, 0xfc, 0x110, 0x130, 0x150, 0x170, 0x190, 0x1b0, 0x200, 0x10000100]) {
    assert.equal(registers.read(at), undefined);
    assert.equal(registers.write(at, 1), false);
  }
});
