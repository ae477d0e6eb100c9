import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import type { Gpu, Part } from "../machine/machine.js";
import type { PciFunction } from "../pci/function.js";
import { completeFunction } from "./default_function.js";

const GIB = 2 ** 30;

function gpuOf(part: Part): Gpu {
  return { address: "0035:03:00.0", name: "GPU3", part, nvlink: "present", links: [], bridges: [], origin: "wiring" };
}

function known(machine: string, part: Part): PciFunction | undefined {
  const { gpus, functions } = builtinMachine(machine);
  const gpu = gpus.find((each) => each.part === part);
  return functions.find(({ address }) => address === gpu?.address);
}

test("a GPU of which only the address is known has the ids, BARs and capabilities of its part", () => {
  for (const [part, machine] of [
    ["GP100", "minsky"],
    ["GV100", "sequoia"],
    ["GA100", "hgx-a100-4"],
  ] as const) {
    const bare = completeFunction(gpuOf(part), undefined);
    const real = known(machine, part);
    const sizes = (fn: PciFunction | undefined) => fn?.bars.map(({ index, size }) => [index, size]);
    assert.deepEqual(bare.capabilities, real?.capabilities);
    assert.deepEqual(sizes(bare), sizes(real));
    assert.deepEqual(bare.express, real?.express);
    assert.deepEqual(
      [bare.deviceId, bare.subsystemVendorId, bare.subsystemId, bare.classCode, bare.revision],
      [real?.deviceId, 0x10de, real?.subsystemId, 0x030200, 0xa1],
    );
  }
});

test("what the source says stays as it is", () => {
  const real = known("sequoia", "GV100");
  assert.ok(real !== undefined);
  const odd: PciFunction = { ...real, deviceId: 0x1db5, subsystemId: 0x1249, capabilities: [], bars: [] };
  const { capabilities, bars, ...rest } = completeFunction(gpuOf("GV100"), odd);
  const { capabilities: _, bars: __, ...given } = odd;
  assert.deepEqual(rest, given);
  assert.equal(capabilities.length, 11);
  assert.equal(bars.length, 3);
  assert.deepEqual(completeFunction(gpuOf("GV100"), real), real);
});

test("BARs whose size the source does not know get that of the part", () => {
  const real = known("sequoia", "GV100");
  assert.ok(real !== undefined);
  const bars = real.bars.map(({ size: _, ...bar }) => bar);
  assert.deepEqual(completeFunction(gpuOf("GV100"), { ...real, bars }).bars, real.bars);
});

test("BAR1 grows with the memory, to a power of two, and BAR3 moves out of its way", () => {
  const real = known("sequoia", "GV100");
  const of = (size: number) =>
    completeFunction(gpuOf("GV100"), real, size).bars.map((bar) => [bar.index, (bar.size ?? 0n) >> 25n, bar.address]);
  const [registers, window, doorbells] = of(16 * GIB);
  assert.deepEqual(window?.slice(0, 2), [1, 512n]);
  for (const size of [17 * GIB, 32 * GIB]) {
    const base = BigInt(window?.[2] ?? 0);
    assert.deepEqual(of(size), [registers, [1, 1024n, base], [3, 1n, base + 0x800000000n]]);
  }
  assert.deepEqual(of(GIB), [registers, window, doorbells], "and never shrinks");
});

test("a part that nobody knows has power management, MSI and Express, and no id", () => {
  const fn = completeFunction(gpuOf("unknown"), undefined);
  assert.deepEqual(
    fn.capabilities.map(({ id }) => id),
    [1, 5, 0x10],
  );
  assert.equal(fn.deviceId, 0);
  assert.equal(fn.express?.functionLevelReset, false);
});
