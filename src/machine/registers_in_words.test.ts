import assert from "node:assert/strict";
import { test } from "node:test";
import type { Link, Part } from "./machine.js";
import { ga100LinkRegisters } from "./part.js";
import { registersInWords } from "./registers_in_words.js";

function words(part: Part, ...registers: [number, number][]): string[] {
  const evidence = { registers: registers.map(([offset, value]) => ({ offset, value })) };
  const links = [0, 1].map(
    (number): Link => ({ number, far: { kind: "unknown" }, state: "unknown", origin: "register", evidence }),
  );
  return registersInWords({ part, links }).map(({ name, meaning }) => `${name}: ${meaning}`);
}

test("a V100's registers are told in words, each once and by offset", () => {
  assert.deepEqual(words("GV100", [0xa00148, 0x000c0000], [0, 0x140000a1], [0x200, 0x02000000]), [
    "NV_PMC_BOOT_0: is a GV100",
    "NV_PMC_ENABLE: link unit is on: the disable mask counts",
    "link disable mask: cuts links 2, 3",
  ]);
  assert.deepEqual(words("GP100", [0xa00148, 0x00100000], [0, 0x140000a1], [0x200, 0]), [
    "NV_PMC_BOOT_0: is no GP100: proves nothing",
    "NV_PMC_ENABLE: link unit is off: the disable mask proves nothing",
    "link disable mask: cuts no link",
  ]);
});

test("an A100's registers are told in words", () => {
  const { block, lock } = ga100LinkRegisters(5);
  assert.deepEqual(words("GA100", [block, 1], [lock, 0]), ["block of link 5: blocked", "lock of link 5: not locked"]);
});

test("what was not read proves nothing, and readings that differ are both told", () => {
  assert.deepEqual(words("GV100", [0xa00148, 0xffffffff], [0xa00148, 0xbadf1100]), [
    "link disable mask: all ones: the device does not answer, which proves nothing",
    "link disable mask: the read failed inside the chip, which proves nothing",
  ]);
  assert.deepEqual(words("GV100", [0x1234, 7]), ["unknown register: says nothing of links"]);
  assert.deepEqual(words("unknown", [0, 7]), []);
});
