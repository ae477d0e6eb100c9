import assert from "node:assert/strict";
import { test } from "node:test";
import { isCutHere } from "./link_state.js";
import type { Link, Part } from "./machine.js";
import { disableMask, ga100LinkRegisters, isReadable, maskedLinks } from "./part.js";

function cut(part: Part, number: number, registers: [number, number][]): boolean {
  const link: Link = { number, far: { kind: "unknown" }, state: "cut", origin: "register" };
  return isCutHere(part, { ...link, evidence: { registers: registers.map(([offset, value]) => ({ offset, value })) } });
}

const ON: [number, number] = [0x200, 0x02000000];

test("a mask proves a cut only with the NVLINK engine on and the link's own bit set", () => {
  assert.equal(cut("GV100", 2, [ON, [0xa00148, 0x40000]]), true);
  assert.equal(cut("GV100", 3, [ON, [0xa00148, 0x40000]]), false);
  assert.equal(cut("GV100", 2, [[0xa00148, 0x40000]]), false);
  assert.equal(
    cut("GV100", 2, [
      [0x200, 0],
      [0xa00148, 0x40000],
    ]),
    false,
  );
  assert.equal(cut("GV100", 6, [ON, [0xa00148, 0x400000]]), false);
  assert.equal(cut("GP100", 4, [ON, [0xa00148, 0x100000]]), false);
  assert.equal(cut("unknown", 2, [ON, [0xa00148, 0x40000]]), false);
});

test("values that are no register contents prove nothing although their bits look like links", () => {
  for (const value of [0xbadf1234, 0xbadfffff, 0xbad0011f, 0xffffffff]) {
    assert.equal(isReadable(value), false);
    assert.equal(cut("GV100", 2, [ON, [0xa00148, value]]), false);
    assert.equal(
      cut("GV100", 2, [
        [0x200, value],
        [0xa00148, 0x40000],
      ]),
      false,
    );
  }
  assert.equal(isReadable(0xbad10000), true);
});

test("a register that was read twice with two results proves nothing", () => {
  assert.equal(cut("GV100", 2, [ON, [0xa00148, 0x40000], [0xa00148, 0]]), false);
});

test("GA100 is cut where block and lock both read 1, at the addresses of its IO blocks", () => {
  assert.deepEqual(ga100LinkRegisters(0), { block: 0xa1764c, lock: 0xa17650 });
  assert.deepEqual(ga100LinkRegisters(5), { block: 0xa5f64c, lock: 0xa5f650 });
  assert.deepEqual(ga100LinkRegisters(11), { block: 0xaaf64c, lock: 0xaaf650 });
  const { block, lock } = ga100LinkRegisters(5);
  assert.equal(
    cut("GA100", 5, [
      [block, 1],
      [lock, 1],
    ]),
    true,
  );
  assert.equal(
    cut("GA100", 5, [
      [block, 1],
      [lock, 0],
    ]),
    false,
  );
  assert.equal(
    cut("GA100", 5, [
      [block, 3],
      [lock, 1],
    ]),
    false,
  );
  assert.equal(
    cut("GA100", 4, [
      [block, 1],
      [lock, 1],
    ]),
    false,
  );
});

test("link n is bit 16 + n of the mask", () => {
  assert.equal(disableMask([0, 1, 2, 3, 4, 5]), 0x003f0000);
  assert.equal(disableMask([15]), 0x80000000);
  assert.deepEqual(maskedLinks(0x00170000, 6), [0, 1, 2, 4]);
});
