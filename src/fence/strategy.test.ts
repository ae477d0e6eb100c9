import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { builtinMachine } from "../machine/builtin.js";
import type { Machine, Part } from "../machine/machine.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE, PART_FACTS } from "../machine/part.js";
import type { VirtualGpu } from "../virtual/virtual_gpu.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import type { GpuPort } from "./gpu_port.js";
import { type FenceStrategy, provenCut, strategyFor } from "./strategy.js";

const COMMAND = 0x04;
const MACHINES = { GP100: "minsky", GV100: "sequoia", GA100: "hgx-a100-4" } as const;
const PARTS = ["GP100", "GV100", "GA100"] as const;

/** The first GPU of a built-in machine of that part, and a log of everything that is written to it. */
function setUp(part: keyof typeof MACHINES, change: (machine: Machine) => Machine = (machine) => machine) {
  const vm = new VirtualMachine(change(structuredClone(builtinMachine(MACHINES[part]))));
  const address = vm.machine.gpus[0]?.address ?? "";
  const writes: [number, number][] = [];
  const inner = vm.port(address);
  const port: GpuPort = {
    ...inner,
    writeBar0: (offset, value) => {
      writes.push([offset, value]);
      inner.writeBar0(offset, value);
    },
  };
  return { gpu: vm.gpu(address), port, writes };
}

function strategyOf(part: Part): FenceStrategy {
  const strategy = strategyFor(part);
  assert.ok(strategy);
  return strategy;
}

function command(gpu: VirtualGpu): number {
  return gpu.readConfig(COMMAND, 2);
}

test("there is a strategy for each part that is known, and none for an unknown one", () => {
  for (const part of PARTS) assert.equal(strategyFor(part)?.part, part);
  assert.equal(strategyFor("unknown"), undefined);
});

for (const [mask, links] of [
  [0x000c0000, [2, 3]],
  [0x00170000, [0, 1, 2, 4]],
  [0x001d0000, [0, 2, 3, 4]],
  [0x003f0000, [0, 1, 2, 3, 4, 5]],
] as const) {
  test(`cutting links ${links.join(" ")} of a V100 leaves 0x${mask.toString(16)} in its disable register`, () => {
    const { gpu, port } = setUp("GV100");
    strategyOf("GV100").cut(port, links);
    assert.equal(gpu.readBar0(LINK_DISABLE), mask);
    assert.deepEqual(provenCut("GV100", strategyOf("GV100").read(port, [0, 1, 2, 3, 4, 5]), [0, 1, 2, 3, 4, 5]), links);
  });
}

test("cutting all links of a P100 leaves 0x000f0000, and a link it does not have is refused", () => {
  const { gpu, port, writes } = setUp("GP100");
  strategyOf("GP100").cut(port, [0, 1, 2, 3]);
  assert.equal(gpu.readBar0(LINK_DISABLE), 0x000f0000);
  writes.length = 0;
  assert.throws(() => strategyOf("GP100").cut(port, [4]), { code: "EFENCE_PLAN" });
  assert.deepEqual(writes, []);
});

test("the mask sequence is the documented one, and keeps the other engines and the bits already set", () => {
  const { gpu, port, writes } = setUp("GV100");
  gpu.writeBar0(LINK_DISABLE, 0x00010000);
  gpu.writeBar0(NV_PMC_ENABLE, 0x40000121);
  strategyOf("GV100").cut(port, [2, 3]);
  assert.deepEqual(writes, [
    [0x12004c, 0x4],
    [0x122204, 0x2],
    [0x000200, 0x42000121],
    [0xa00148, 0x000d0000],
  ]);
});

test("GA100 links are blocked and locked at the documented addresses", () => {
  const { port, writes } = setUp("GA100");
  strategyOf("GA100").cut(port, [0, 5, 11]);
  const link5 = 0xa00000 + 0x40000 + 0x17000 + 0x8000;
  assert.deepEqual(writes, [
    [0xa1764c, 1],
    [0xa17650, 1],
    [link5 + 0x64c, 1],
    [link5 + 0x650, 1],
    [0xaaf64c, 1],
    [0xaaf650, 1],
  ]);
  assert.deepEqual(provenCut("GA100", strategyOf("GA100").read(port, [0, 1, 5, 11]), [0, 1, 5, 11]), [0, 5, 11]);
  assert.throws(() => strategyOf("GA100").cut(port, [12]), { code: "EFENCE_PLAN" });
});

for (const part of PARTS) {
  test(`${part}: decoding is switched on for the sequence and put back as found, whether it was on or off`, () => {
    for (const found of [0x0000, 0x0002, 0x0006, 0x0404]) {
      const { gpu, port } = setUp(part);
      gpu.writeConfig(COMMAND, 2, found);
      strategyOf(part).cut(port, [1, 2]);
      assert.equal(command(gpu), found);
      assert.deepEqual(provenCut(part, strategyOf(part).read(port, [0, 1, 2]), [0, 1, 2]), [1, 2]);
      assert.equal(command(gpu), found);
    }
  });

  test(`${part}: no register is written before NV_PMC_BOOT_0 has said that it is this part`, () => {
    for (const boot0 of [0x0, 0x150000a1, 0x140000a2, 0xbadf1234, 0xbad00200, 0xffffffff]) {
      const { gpu, port, writes } = setUp(part);
      gpu.writeConfig(COMMAND, 2, 0);
      gpu.faults.stuckReads.set(NV_PMC_BOOT_0, boot0);
      const code = boot0 >>> 16 >= 0xbad0 ? "EFENCE_UNREADABLE" : "EFENCE_PART";
      for (const act of [
        () => strategyOf(part).identify(port),
        () => strategyOf(part).cut(port, [0]),
        () => strategyOf(part).read(port, [0]),
      ]) {
        assert.throws(act, { code, name: "FenceError" });
      }
      assert.deepEqual(writes, []);
      assert.equal(command(gpu), 0, "decoding is put back");
    }
  });

  test(`${part}: a register that answers with an error is never taken for a cut link`, () => {
    const registers = part === "GA100" ? Object.values(ga100LinkRegisters(1)) : [NV_PMC_ENABLE, LINK_DISABLE];
    for (const register of registers) {
      for (const value of [0xffffffff, 0xbad00200, 0xbadf1100, 0xbadfffff]) {
        const { gpu, port } = setUp(part);
        gpu.writeConfig(COMMAND, 2, 0);
        gpu.faults.stuckReads.set(register, value);
        assert.throws(() => strategyOf(part).cut(port, [1]), { code: "EFENCE_UNREADABLE" });
        assert.throws(() => strategyOf(part).read(port, [1]), { code: "EFENCE_UNREADABLE" });
        assert.equal(command(gpu), 0);
      }
    }
  });

  test(`${part}: a write that is lost is noticed`, () => {
    const register = part === "GA100" ? ga100LinkRegisters(1).lock : LINK_DISABLE;
    const { gpu, port } = setUp(part);
    gpu.faults.droppedWrites.add(register);
    assert.throws(() => strategyOf(part).cut(port, [1]), { code: "EFENCE_READBACK", errno: "EIO" });
    assert.deepEqual(provenCut(part, strategyOf(part).read(port, [1]), [1]), []);
  });

  test(`${part}: config space that does not answer, and a BAR0 without an address, are refused unwritten`, () => {
    const gone = setUp(part);
    gone.gpu.faults.configUnreadable = true;
    assert.throws(() => strategyOf(part).cut(gone.port, [0]), { code: "EFENCE_UNREADABLE" });
    const lost = setUp(part);
    lost.gpu.secondaryBusReset();
    assert.throws(() => strategyOf(part).cut(lost.port, [0]), { code: "EFENCE_DECODE" });
    assert.deepEqual([...gone.writes, ...lost.writes], []);
    assert.equal(command(lost.gpu), 0);
  });

  test(`${part}: cutting is safe to repeat, and only adds`, () => {
    const all = Array.from({ length: PART_FACTS[part].links }, (_, link) => link);
    fc.assert(
      fc.property(fc.array(fc.subarray(all), { maxLength: 4 }), (rounds) => {
        const { port } = setUp(part);
        const expected = new Set<number>();
        for (const links of rounds) {
          strategyOf(part).cut(port, links);
          for (const link of links) expected.add(link);
          const proven = provenCut(part, strategyOf(part).read(port, all), all);
          assert.deepEqual(
            proven,
            [...expected].sort((a, b) => a - b),
          );
        }
      }),
      { numRuns: 30 },
    );
  });
}

test("reading writes no register, and says so when the NVLink engine is off", () => {
  const { gpu, port, writes } = setUp("GV100");
  strategyOf("GV100").read(port, [0]);
  assert.deepEqual(writes, []);
  gpu.writeBar0(NV_PMC_ENABLE, 0x20);
  assert.throws(() => strategyOf("GV100").read(port, [0]), { code: "EFENCE_UNREADABLE", message: /engine is off/ });
  assert.deepEqual(writes, []);
});

test("decoding that cannot be had or put back is an error of its own", () => {
  const { gpu, port } = setUp("GV100");
  gpu.writeConfig(COMMAND, 2, 0);
  const dead: GpuPort = { ...port, writeConfig: () => {} };
  assert.throws(() => strategyOf("GV100").cut(dead, [0]), { code: "EFENCE_DECODE", message: /switched on/ });
  const sticky: GpuPort = { ...port, writeConfig: (at, size, value) => port.writeConfig(at, size, value | 2) };
  assert.throws(() => strategyOf("GV100").cut(sticky, [0]), { code: "EFENCE_DECODE", message: /put back/ });
});

test("a write that opens a link which was cut before is not accepted", () => {
  const { gpu, port } = setUp("GV100");
  gpu.writeBar0(LINK_DISABLE, 0x00010000);
  let written = false;
  const leaky: GpuPort = {
    ...port,
    writeBar0: (at, value) => {
      written ||= at === LINK_DISABLE;
      port.writeBar0(at, value);
    },
    readBar0: (at) => (written && at === LINK_DISABLE ? 0x00020000 : port.readBar0(at)),
  };
  assert.throws(() => strategyOf("GV100").cut(leaky, [1]), { code: "EFENCE_READBACK" });
});

test("a bit that is set outside the link bits by the write is not accepted", () => {
  const { port } = setUp("GV100");
  let written = false;
  const odd: GpuPort = {
    ...port,
    writeBar0: (at, value) => {
      written ||= at === LINK_DISABLE;
      port.writeBar0(at, value);
    },
    readBar0: (at) => port.readBar0(at) | (written && at === LINK_DISABLE ? 0x1 : 0),
  };
  assert.throws(() => strategyOf("GV100").cut(odd, [0]), { code: "EFENCE_READBACK" });
});

test("a link of a GA100 whose block was lost is not locked, whatever it reads as, and is cut by the next attempt", () => {
  for (const answer of [undefined, 0xbadf1100]) {
    const { gpu, port } = setUp("GA100");
    const { block, lock } = ga100LinkRegisters(3);
    gpu.faults.droppedWrites.add(block);
    if (answer !== undefined) gpu.faults.stuckReads.set(block, answer);
    assert.throws(() => strategyOf("GA100").cut(port, [3, 4]), { message: /link 3 is not blocked|is unreadable/ });
    assert.deepEqual([gpu.readBar0(lock), gpu.linkEnabled(3), gpu.linkEnabled(4)], [0, true, false]);
    gpu.faults.droppedWrites.clear();
    gpu.faults.stuckReads.clear();
    strategyOf("GA100").cut(port, [3]);
    assert.equal(gpu.linkEnabled(3), false);
  }
});
