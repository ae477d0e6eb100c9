import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Evidence, Gpu, Link, Part } from "../machine/machine.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE, PART_FACTS } from "../machine/part.js";
import { BAR0_SIZE } from "./bar0.js";
import { NV_PTIMER_TIME_0 } from "./timer_registers.js";
import { VirtualGpu } from "./virtual_gpu.js";

const COMMAND = 0x04;
const ENGINE_ON = 0x02000000;

function gpuOf(part: Part, evidence?: Evidence): VirtualGpu {
  const link: Link = { number: 0, far: { kind: "unknown" }, state: "up", origin: "wiring" };
  const links = [evidence === undefined ? link : { ...link, evidence }];
  const gpu: Gpu = {
    address: "0000:1a:00.0",
    name: "GPU0",
    part,
    nvlink: "present",
    links,
    bridges: [],
    origin: "wiring",
  };
  return new VirtualGpu(gpu, undefined);
}

/** A GPU right after a secondary bus reset whose config space was restored. */
function afterReset(part: Part): VirtualGpu {
  const gpu = gpuOf(part);
  const bar0 = gpu.readConfig(0x10, 4);
  gpu.secondaryBusReset();
  gpu.writeConfig(0x10, 4, bar0);
  gpu.writeConfig(COMMAND, 2, 2);
  return gpu;
}

function setMask(gpu: VirtualGpu, mask: number): void {
  gpu.writeBar0(0x12004c, 4);
  gpu.writeBar0(0x122204, 2);
  gpu.writeBar0(NV_PMC_ENABLE, gpu.readBar0(NV_PMC_ENABLE) | ENGINE_ON);
  gpu.writeBar0(LINK_DISABLE, mask);
}

for (const part of ["GP100", "GV100", "GA100"] as const) {
  test(`${part} says which chip it is and answers 0xBADFxxxx for registers it does not have`, () => {
    const gpu = gpuOf(part);
    assert.equal(gpu.readBar0(NV_PMC_BOOT_0), PART_FACTS[part].boot0);
    assert.equal(gpu.readBar0(0x9000) >>> 16, 0xbadf);
  });
}

test("after a reset GV100's engines are enabled as its manual has them: priv ring and display", () => {
  assert.equal(afterReset("GV100").readBar0(NV_PMC_ENABLE), 0x40000020);
});

test("a part that nobody modelled answers no register at all", () => {
  const gpu = gpuOf("unknown");
  const others = [0x100, 0x140, 0x1700, 0x9400, 0x700000, 0xfe0000, 0xff0000];
  for (const at of [NV_PMC_BOOT_0, NV_PMC_ENABLE, LINK_DISABLE, ...others]) {
    gpu.writeBar0(at, 1);
    assert.equal(gpu.readBar0(at) >>> 16, 0xbadf);
  }
});

for (const part of ["GP100", "GV100", "GA100"] as const) {
  test(`${part}: every page of BAR0 that is skipped as empty really is`, () => {
    const gpu = gpuOf(part);
    const { registers } = gpu;
    assert.ok(registers);
    const page = new Uint8Array(4096);
    for (let at = 0; at < BAR0_SIZE; at += 4096) {
      registers.readBytes(at, page);
      const words = new Uint32Array(page.buffer);
      const wrong = words.findIndex((word, i) => word !== gpu.readBar0(at + 4 * i) && at + 4 * i !== NV_PTIMER_TIME_0);
      assert.equal(wrong, -1, `word ${wrong} from 0x${at.toString(16)}; the time goes on between two reads`);
    }
  });
}

test("with memory decoding off reads are all ones and writes are lost", () => {
  const gpu = gpuOf("GV100");
  gpu.writeConfig(COMMAND, 2, 0);
  gpu.writeBar0(LINK_DISABLE, 0x3f0000);
  assert.equal(gpu.readBar0(NV_PMC_BOOT_0), 0xffffffff);
  gpu.writeConfig(COMMAND, 2, 2);
  assert.equal(gpu.readBar0(LINK_DISABLE), 0);
});

test("after a reset decoding alone is not enough: BAR0 has to be where it was", () => {
  const gpu = gpuOf("GV100");
  const bar0 = gpu.readConfig(0x10, 4);
  gpu.secondaryBusReset();
  gpu.writeConfig(COMMAND, 2, 2);
  assert.equal(gpu.readBar0(NV_PMC_BOOT_0), 0xffffffff);
  gpu.writeConfig(0x10, 4, bar0 + 0x1000000);
  assert.equal(gpu.readBar0(NV_PMC_BOOT_0), 0xffffffff);
  gpu.writeConfig(0x10, 4, bar0);
  assert.equal(gpu.readBar0(NV_PMC_BOOT_0), 0x140000a1);
});

test("beyond the 16 MiB of BAR0 nothing answers", () => {
  assert.equal(gpuOf("GV100").readBar0(0x1000000), 0xffffffff);
});

test("the disable register is reached only over a ring started in order and with the NVLink engine on", () => {
  const steps: [number, number][] = [
    [0x12004c, 4],
    [0x122204, 2],
    [NV_PMC_ENABLE, ENGINE_ON],
  ];
  for (const left of steps) {
    const gpu = afterReset("GV100");
    for (const step of steps) if (step !== left) gpu.writeBar0(...step);
    gpu.writeBar0(LINK_DISABLE, 0x3f0000);
    assert.equal(gpu.readBar0(LINK_DISABLE) >>> 16, 0xbadf, `without ${left[0].toString(16)}`);
    for (const step of steps) gpu.writeBar0(...step);
    assert.equal(gpu.readBar0(LINK_DISABLE), 0, "and what was written before is lost");
  }
  const swapped = afterReset("GV100");
  for (const [at, value] of [steps[1], steps[0], steps[2]] as [number, number][]) swapped.writeBar0(at, value);
  assert.equal(swapped.readBar0(LINK_DISABLE) >>> 16, 0xbadf);
});

test("disable bits only ever add up, only link bits exist, and nothing but a secondary bus reset clears them", () => {
  for (const part of ["GP100", "GV100"] as const) {
    const links = part === "GP100" ? 0x000f0000 : 0x003f0000;
    const action = fc.oneof(
      fc.record({ at: fc.constant(LINK_DISABLE), value: fc.integer({ min: 0, max: 0xffffffff }) }),
      fc.record({ at: fc.constantFrom(0x12004c, 0x122204, NV_PMC_ENABLE), value: fc.integer({ min: 0, max: 8 }) }),
    );
    fc.assert(
      fc.property(fc.array(action), (actions) => {
        const gpu = gpuOf(part);
        let set = 0;
        for (const { at, value } of actions) {
          const reachable = gpu.readBar0(LINK_DISABLE) >>> 16 !== 0xbadf;
          gpu.writeBar0(at, value);
          if (at === LINK_DISABLE && reachable) set |= value & links;
          if (at === NV_PMC_ENABLE) gpu.writeBar0(NV_PMC_ENABLE, ENGINE_ON);
          gpu.functionLevelReset();
          gpu.writeConfig(0x10, 4, 0x5a000000);
          gpu.writeConfig(COMMAND, 2, 2);
        }
        setMask(gpu, 0);
        assert.equal(gpu.readBar0(LINK_DISABLE), set >>> 0);
      }),
    );
    const reset = afterReset(part);
    setMask(reset, 0);
    assert.equal(reset.readBar0(LINK_DISABLE), 0);
  }
});

test("GA100 cuts a link when block and lock read 1, and then only a secondary bus reset opens it", () => {
  const gpu = gpuOf("GA100");
  const { block, lock } = ga100LinkRegisters(5);
  gpu.writeBar0(block, 1);
  assert.equal(gpu.linkEnabled(5), true, "blocked but not locked");
  gpu.writeBar0(lock, 1);
  assert.equal(gpu.linkEnabled(5), false);
  gpu.writeBar0(block, 0);
  gpu.writeBar0(lock, 0);
  assert.deepEqual([gpu.readBar0(block), gpu.readBar0(lock)], [1, 1]);
  assert.equal(gpu.linkEnabled(4), true);
  gpu.secondaryBusReset();
  assert.equal(gpu.linkEnabled(5), true);
});

test("GA100 is reset through its FLR bit, which loses config space and keeps locked links cut", () => {
  const gpu = gpuOf("GA100");
  const { block, lock } = ga100LinkRegisters(0);
  gpu.writeBar0(block, 1);
  gpu.writeBar0(lock, 1);
  gpu.writeConfig(0x78 + 8, 2, 0x8000);
  assert.equal(gpu.readConfig(0x10, 4), 0);
  assert.equal(gpu.linkEnabled(0), false);
});

test("GV100 has no FLR: the bit does nothing", () => {
  const gpu = gpuOf("GV100");
  gpu.writeConfig(0x78 + 8, 2, 0x8000);
  assert.notEqual(gpu.readConfig(0x10, 4), 0);
});

test("a machine that was recorded fenced comes up fenced", () => {
  const gpu = gpuOf("GV100", {
    registers: [
      { offset: NV_PMC_BOOT_0, value: 0x140000a1 },
      { offset: NV_PMC_ENABLE, value: 0x42000120 },
      { offset: LINK_DISABLE, value: 0x00170000 },
    ],
  });
  assert.equal(gpu.readBar0(LINK_DISABLE), 0x00170000);
  assert.equal(gpu.readBar0(NV_PMC_ENABLE), 0x42000120);
  assert.deepEqual([gpu.linkEnabled(2), gpu.linkEnabled(3)], [false, true]);
});

test("a register that was recorded unreadable answers just so, before and after a reset", () => {
  for (const value of [0xbadf1234, 0xbad00200, 0xffffffff]) {
    const gpu = gpuOf("GV100", { registers: [{ offset: LINK_DISABLE, value }] });
    assert.equal(gpu.readBar0(LINK_DISABLE), value);
    setMask(gpu, 0x3f0000);
    assert.equal(gpu.readBar0(LINK_DISABLE), value);
  }
});

test("of two records of one register only the bits count on which they agree", () => {
  const gpu = gpuOf("GV100", {
    registers: [
      { offset: LINK_DISABLE, value: 0x00030000 },
      { offset: LINK_DISABLE, value: 0x00060000 },
    ],
  });
  assert.equal(gpu.readBar0(LINK_DISABLE), 0x00020000);
});

test("faults: a stuck read, a lost write, a function that fell off the bus", () => {
  const gpu = gpuOf("GV100");
  gpu.faults.droppedWrites.add(LINK_DISABLE);
  gpu.writeBar0(LINK_DISABLE, 0x10000);
  assert.equal(gpu.readBar0(LINK_DISABLE), 0);
  gpu.faults.stuckReads.set(LINK_DISABLE, 0xbadf1234);
  assert.equal(gpu.readBar0(LINK_DISABLE), 0xbadf1234);
  gpu.faults.configUnreadable = true;
  assert.equal(gpu.readConfig(0, 4), 0xffffffff);
  assert.equal(gpu.readConfig(0, 2), 0xffff);
});
