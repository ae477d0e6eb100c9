import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type LspciFunction, parseLspci } from "../lspci.js";

const DUMP = readFileSync(new URL("../../../test/data/lspci/dump.txt", import.meta.url), "utf8");
const V100 = "0035:03:00.0 3D controller: NVIDIA Corporation GV100GL [Tesla V100 SXM2] (rev a1)";

/** The lines of the V100's dump. */
function dumpLines(bytes: number): string[] {
  const lines = DUMP.slice(DUMP.indexOf("0035:03:00.0")).split("\n").slice(1);
  return lines.slice(0, bytes / 16);
}

function first(text: string): LspciFunction {
  const fn = parseLspci(text).functions[0];
  assert.ok(fn);
  return fn;
}

test("a dump alone tells ids, class, BARs and capabilities", () => {
  const fn = first([V100, ...dumpLines(4096)].join("\n"));
  assert.deepEqual([fn.vendorId, fn.deviceId, fn.classCode, fn.multifunction], [0x10de, 0x1db1, 0x030200, false]);
  assert.equal(fn.name, "NVIDIA Corporation GV100GL [Tesla V100 SXM2]");
  assert.equal(fn.capabilities.length, 11);
  assert.deepEqual(
    fn.bars.map(({ index, address }) => `${index} ${address.toString(16)}`),
    ["0 80000000", "1 6228000000000", "3 6228400000000"],
  );
  assert.equal(fn.text.capabilitiesKnown, true);
});

test("sizes, driver, NUMA node and IRQ come from the text, addresses as the bus sees them from the dump", () => {
  const text = [
    V100,
    "\tFlags: fast devsel, IRQ 82, NUMA node 8",
    "\tMemory at 620c280000000 (32-bit, non-prefetchable) [disabled] [size=16M]",
    "\tMemory at 6228000000000 (64-bit, prefetchable) [disabled] [size=16G]",
    "\tMemory at 6228400000000 (64-bit, prefetchable) [disabled] [size=32M]",
    "\tCapabilities: [900] #19",
    "\tKernel driver in use: vfio-pci",
    ...dumpLines(256),
  ];
  const fn = first(text.join("\n"));
  assert.deepEqual([fn.driver, fn.numaNode, fn.irq], ["vfio-pci", 8, 82]);
  assert.deepEqual(
    fn.bars.map(({ index, address, size }) => `${index} ${address.toString(16)} ${size}`),
    ["0 80000000 16777216", "1 6228000000000 17179869184", "3 6228400000000 33554432"],
  );
  assert.deepEqual(
    fn.capabilities.map(({ offset }) => offset),
    [0x60, 0x68, 0x78, 0x900],
  );
  assert.equal(fn.damage, undefined);
});

test("a dump of 64 bytes leaves capabilities unknown and is no damage", () => {
  const fn = first([V100, ...dumpLines(64)].join("\n"));
  assert.deepEqual([fn.deviceId, fn.text.capabilitiesKnown, fn.damage], [0x1db1, false, undefined]);
});

test("a dump with a line missing is used up to there, and said so", () => {
  const lines = dumpLines(4096);
  lines.splice(20, 1);
  const { functions, problems } = parseLspci([V100, ...lines].join("\n"));
  assert.deepEqual(
    functions[0]?.capabilities.map(({ offset }) => offset),
    [0x60, 0x68, 0x78],
  );
  assert.match(problems[0]?.message ?? "", /only its first 256 bytes are used, a line is missing .* at offset 0x140/);
});

test("a dump cut off inside the header gives nothing", () => {
  const { functions, problems } = parseLspci([V100, ...dumpLines(48)].join("\n"));
  assert.equal(functions[0]?.deviceId, undefined);
  assert.match(problems[0]?.message ?? "", /only its first 0 bytes are used, the rest is cut off at 0x30/);
});

test("a dump of another device than its line names is damage", () => {
  const fn = first(["0035:03:00.0 0302: 10de:1db4 (rev a1)", ...dumpLines(64)].join("\n"));
  assert.equal(fn.deviceId, 0x1db4);
  assert.deepEqual(fn.damage, ["the hex dump is of another device than the line above it names"]);
});

test("a function that does not answer keeps what the text says of it", () => {
  const ones = Array.from({ length: 4 }, (_, i) => `${(16 * i).toString(16).padStart(2, "0")}:${" ff".repeat(16)}`);
  const fn = first(["41:00.4 0302: 10de:20b5 (rev a1)", ...ones].join("\n"));
  assert.deepEqual([fn.vendorId, fn.deviceId, fn.classCode], [0x10de, 0x20b5, 0x030200]);
  assert.match(fn.damage?.[0] ?? "", /does not answer/);
});
