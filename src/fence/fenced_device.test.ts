import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type MadeUp, MadeUpGpuDevice } from "../../test/made_up_gpu_device.js";
import { runs } from "../../test/runs.js";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_ENABLE } from "../machine/part.js";
import type { DeviceClient, VfioDevice } from "../vfio/device.js";
import { runToEnd, type Steps, withinTime } from "../vfio/steps.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import { FencedDevice } from "./fenced_device.js";
import { Fences } from "./fences.js";
import type { FenceEvent } from "./progress.js";
import { littleEndian, vfioPort } from "./vfio_port.js";

const CLIENT: DeviceClient = {
  dma: { read: () => assert.fail("no DMA"), write: () => assert.fail("no DMA") },
  trigger: () => false,
  setIntx: () => {},
  start: () => {},
};
const BARS = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24];

/** Runs steps to their end, which must come: a lost turn would be waited for without end. */
function run(steps: Steps): void {
  runToEnd(withinTime(steps, 1000));
}

/** The GPUs of a machine, each alone with an owner and behind a fenced device. */
function setUp({ machine = "c4140", pageSize = 4096, made = {} as MadeUp } = {}) {
  const vm = new VirtualMachine(structuredClone(builtinMachine(machine)));
  const assign = vm.machine.gpus.map((gpu, i) => `vm${i}=${gpu.name}`);
  const plan = makePlan(vm.machine, parseAssignments(vm.machine, assign), { resetAll: true });
  const inners = vm.machine.gpus.map((gpu) => new MadeUpGpuDevice(vm, gpu.address, made));
  const byAddress = new Map(inners.map((inner) => [inner.address, inner]));
  const fences = new Fences(plan, (at) => vfioPort(byAddress.get(at) ?? assert.fail(), () => vm.linksUp(at)));
  const events: FenceEvent[] = [];
  const onEvent = (event: FenceEvent) => events.push(event);
  const devices = inners.map((inner) => new FencedDevice(inner, fences.of(inner.address), { pageSize, onEvent }));
  const [inner, device] = [inners[0] ?? assert.fail(), devices[0] ?? assert.fail()];
  return { vm, fences, inners, devices, inner, device, events, gpu: vm.gpu(inner.address) };
}

/** The same with a client at the first GPU. */
function attached(options: Parameters<typeof setUp>[0] = {}) {
  const all = setUp(options);
  run(all.fences.renewAll());
  attach(all.device);
  all.inner.writes.length = 0;
  all.inner.events.length = 0;
  return all;
}

function attach(device: FencedDevice): void {
  run(device.beforeOpen());
  device.open(CLIENT);
}

function detach(device: FencedDevice): void {
  device.close();
  run(device.afterClose());
}

function read(device: VfioDevice, region: number, offset: number, size: number): number {
  const data = new Uint8Array(size);
  device.read(region, offset, data);
  return littleEndian(data);
}

function write(device: VfioDevice, region: number, offset: number, size: number, value: number): void {
  device.write(
    region,
    offset,
    Uint8Array.from({ length: size }, (_, i) => value >>> (8 * i)),
  );
}

test("a client is let in behind a reset and a fence, and before that everything is EIO with the reason", () => {
  const { device, fences, inner, gpu } = setUp();
  const tries = [
    () => read(device, 0, 0, 4),
    () => write(device, 7, 4, 2, 2),
    () => read(device, 1, 0, 4),
    () => device.mmap?.(1, 0, 4096),
    () => device.ioevent?.(0, { offset: 0, size: 4 }),
    () => device.open(CLIENT),
  ];
  const refused = (message: RegExp) => {
    for (const each of tries) assert.throws(each, { code: "EIO", message });
  };
  refused(/GPU0 is not served: it is not fenced yet/);
  const opening = device.beforeOpen();
  opening.next();
  refused(/it is being reset/);
  run(opening);
  device.open(CLIENT);
  assert.equal(fences.of(inner.address).attached, true);
  write(device, 7, 4, 2, 2);
  assert.equal(read(device, 0, 0, 4), 0x140000a1);
  assert.deepEqual(inner.events, ["reset", "open"]);
  inner.failing = "after";
  assert.throws(() => run(device.reset()), { code: "EIO", message: /did not come back/ });
  refused(/its fence has failed: it did not come back/);
  assert.equal(gpu.linkEnabled(0), false);
  inner.failing = undefined;
  run(device.reset());
  write(device, 7, 4, 2, 2);
  assert.equal(read(device, 0, 0, 4), 0x140000a1, "a later reset recovers it");
});

test("what a device consists of is EIO too once its fence has failed under a client, and is there again after a reset", () => {
  const { device, gpu } = attached();
  assert.ok(device.regions[1] && device.irqs);
  gpu.faults.droppedWrites.add(LINK_DISABLE);
  assert.throws(() => run(device.reset()), { code: "EIO" });
  const refused = { code: "EIO", message: /GPU0 is not served: its fence has failed/ };
  assert.throws(() => device.regions, refused);
  assert.throws(() => device.irqs, refused);
  gpu.faults.droppedWrites.clear();
  run(device.reset());
  assert.ok(device.regions[1] && device.irqs);
});

test("a device whose fence does not read back turns clients away until it does", () => {
  for (const fault of ["dropped", "0xbadf"]) {
    const { device, gpu } = setUp();
    if (fault === "dropped") gpu.faults.droppedWrites.add(LINK_DISABLE);
    else gpu.faults.stuckReads.set(LINK_DISABLE, 0xbadf5040);
    for (let i = 0; i < 2; i++) assert.throws(() => run(device.beforeOpen()), { code: "EIO" });
    assert.throws(() => device.open(CLIENT), { code: "EIO" });
    gpu.faults.droppedWrites.clear();
    gpu.faults.stuckReads.clear();
    attach(device);
  }
});

test("after a client the GPU is reset, then the device forgets the client; neither is left out before the next one", () => {
  const { device, inner, fences } = attached();
  inner.failingAfterClose = true;
  device.close();
  assert.throws(() => run(device.afterClose()), /could not be cleared/);
  assert.deepEqual(inner.events, ["close", "reset"]);
  assert.throws(() => device.open(CLIENT), { code: "EIO", message: /after its last client/ });
  assert.throws(() => run(device.beforeOpen()), /could not be cleared/);
  inner.failingAfterClose = false;
  attach(device);
  assert.deepEqual(inner.events, ["close", "reset", "cleared", "reset", "open"]);
  inner.failing = "before";
  device.close();
  assert.throws(() => run(device.afterClose()), { code: "EIO" });
  assert.equal(fences.of(inner.address).attached, true, "what the client left running may still run");
  assert.equal(inner.events.at(-1), "cleared");
  inner.failing = undefined;
  inner.events.length = 0;
  attach(device);
  assert.deepEqual(inner.events, ["reset", "cleared", "reset", "open"], "what ran on may have written since");
  detach(device);
  assert.equal(fences.of(inner.address).attached, false);
});

test("what a client left undone is done before the next one, though another device stands for the GPU by then", () => {
  const { device, inner, fences } = attached();
  inner.failing = "before";
  device.close();
  assert.throws(() => run(device.afterClose()), { code: "EIO" });
  inner.failing = undefined;
  inner.events.length = 0;
  attach(new FencedDevice(inner, fences.of(inner.address), { pageSize: 4096 }));
  assert.deepEqual(inner.events, ["reset", "cleared", "reset", "open"]);
});

test("a client sees power-on values after each reset, while the hardware has its addresses and no decoding", () => {
  const { device, gpu } = attached({ made: { rom: 0x80000 } });
  const hardware = BARS.map((at) => gpu.readConfig(at, 4));
  for (let round = 0; round < 2; round++) {
    assert.deepEqual(
      [...BARS, 0x30].map((at) => read(device, 7, at, 4)),
      [0, 0xc, 0, 0xc, 0, 0, 0],
    );
    assert.equal(read(device, 7, 4, 2), 0);
    write(device, 7, 4, 2, 0x0406);
    write(device, 7, 0x10, 4, 0xe0000000);
    write(device, 7, 0x14, 4, 0x40000000);
    write(device, 7, 0x18, 4, 0x12);
    write(device, 7, 0x30, 4, 0xe1000001);
    assert.equal(read(device, 7, 4, 2), 0x0406);
    assert.deepEqual(
      [0x10, 0x14, 0x18, 0x30].map((at) => read(device, 7, at, 4)),
      [0xe0000000, 0xc, 0x10, 0xe1000001],
    );
    assert.deepEqual(
      BARS.map((at) => gpu.readConfig(at, 4)),
      hardware,
    );
    assert.equal(read(device, 0, 0, 4), 0x140000a1, "decoding works although the addresses are the guest's");
    run(device.reset());
    assert.deepEqual(
      BARS.map((at) => gpu.readConfig(at, 4)),
      hardware,
    );
  }
});

test("BARs are sized as PCI has it, at 32 and at 64 bits, and the ROM", () => {
  const { device } = attached({ made: { rom: 0x80000 } });
  for (const at of [...BARS, 0x30]) write(device, 7, at, 4, 0xffffffff);
  assert.deepEqual(
    [...BARS, 0x30].map((at) => read(device, 7, at, 4).toString(16)),
    ["ff000000", "c", "fffffffc", "fe00000c", "ffffffff", "0", "fff80001"],
  );
  const wide = new Uint8Array(8).fill(0xff);
  device.write(7, 0x14, wide);
  device.read(7, 0x14, wide);
  assert.equal(new DataView(wide.buffer).getBigUint64(0, true), 0xfffffffc0000000cn, "16 GiB");
});

test("config accesses of any size and alignment: ours are ours bit by bit, the rest is the hardware's", () => {
  const { device, gpu, inner } = attached({ made: { rom: 0x10000 } });
  const express = capability(gpu.readConfig.bind(gpu), 0x10);
  const power = capability(gpu.readConfig.bind(gpu), 0x01);
  const hardware = () => [...BARS, 0x30].map((at) => gpu.readConfig(at, 4));
  const before = hardware();
  const masks = [0xff000000, 0, 0xfffffffc, 0xfe000000, 0xffffffff, 0];
  const model = new Uint8Array(0x34);
  const writable = new Uint8Array(0x34);
  masks.forEach((mask, i) => {
    new DataView(writable.buffer).setUint32(0x10 + 4 * i, mask, true);
  });
  new DataView(writable.buffer).setUint32(0x30, 0xffff0001, true);
  for (const at of [0x14, 0x1c]) model[at] = 0xc;
  new DataView(model.buffer).setUint32(0x10, 0, true);
  const access = fc.record({ at: fc.nat(0xd0), data: fc.uint8Array({ minLength: 1, maxLength: 40 }) });
  fc.assert(
    fc.property(access, ({ at, data }) => {
      inner.writes.length = 0;
      device.write(7, at, data);
      data.forEach((byte, i) => {
        const mask = writable[at + i] ?? 0;
        if (at + i < 0x34) model[at + i] = ((model[at + i] ?? 0) & ~mask) | (byte & mask);
      });
      const back = new Uint8Array(data.length);
      device.read(7, at, back);
      for (let i = 0; i < data.length; i++) {
        const place = at + i;
        const isOurs = (place >= 0x10 && place < 0x28) || (place >= 0x30 && place < 0x34);
        const hers = gpu.readConfig(place, 1);
        if (isOurs) assert.equal(back[i], model[place]);
        else if (place === express + 7) assert.equal(back[i], hers & ~0x10);
        else if (place === power + 4) assert.equal(back[i], (hers & ~0xb) | 8 | ((data[i] ?? 0) & 3));
        else assert.equal(back[i], hers);
      }
      const reached = new Map<number, number>();
      for (const [region, from, bytes] of inner.writes) {
        assert.equal(region, 7);
        bytes.forEach((byte, i) => {
          assert.ok(!reached.has(from + i), "a byte is written once");
          reached.set(from + i, byte);
        });
      }
      data.forEach((byte, i) => {
        const place = at + i;
        const isOurs = (place >= 0x10 && place < 0x28) || (place >= 0x30 && place < 0x34);
        const mask = place === express + 9 ? 0x7f : place === express + 7 ? 0xef : place === power + 4 ? 0xf4 : 0xff;
        assert.equal(reached.get(place), isOurs ? undefined : byte & mask);
      });
      assert.deepEqual(hardware(), before);
    }),
    { numRuns: runs(500), seed: 7 },
  );
  assert.equal(read(device, 7, power + 4, 1) & 8, 8);
});

/** Where a capability lies. */
function capability(config: (offset: number, size: 1) => number, id: number): number {
  let at = config(0x34, 1);
  for (let hops = 0; at !== 0 && hops < 48; hops++, at = config(at + 1, 1)) if (config(at, 1) === id) return at;
  return assert.fail(`no capability ${id}`);
}

test("a part that has function level reset does not show it and is not reset by it, however it is written", () => {
  const machine = structuredClone(builtinMachine("c4140"));
  for (const fn of machine.functions) if (fn.express !== undefined) fn.express.functionLevelReset = true;
  const vm = new VirtualMachine(machine);
  const plan = makePlan(machine, parseAssignments(machine, ["a=GPU0"]), { resetAll: true });
  const address = machine.gpus[0]?.address ?? "";
  const inners = new Map(machine.gpus.map((gpu) => [gpu.address, new MadeUpGpuDevice(vm, gpu.address)]));
  const inner = inners.get(address) ?? assert.fail();
  const fences = new Fences(plan, (at) => vfioPort(inners.get(at) ?? assert.fail()));
  const device = new FencedDevice(inner, fences.of(address), { pageSize: 4096 });
  attach(device);
  const gpu = vm.gpu(address);
  const express = capability(gpu.readConfig.bind(gpu), 0x10);
  assert.equal((gpu.readConfig(express + 4, 4) >>> 28) & 1, 1);
  assert.equal((read(device, 7, express + 4, 4) >>> 28) & 1, 0);
  for (let at = express; at <= express + 9; at++) {
    for (const size of [1, 2, 3, 4, 8, 16]) device.write(7, at, new Uint8Array(size).fill(0xff));
  }
  assert.notEqual(gpu.readConfig(0x10, 4), 0, "a function level reset would have taken the address");
});

test("writes of any size and alignment only add bits to the disable register, and each is told once", () => {
  const { device, gpu, inner, events } = attached();
  write(device, 7, 4, 2, 2);
  const access = fc.record({
    at: fc.integer({ min: LINK_DISABLE - 20, max: LINK_DISABLE + 20 }),
    data: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  });
  fc.assert(
    fc.property(access, ({ at, data }) => {
      const before = gpu.readBar0(LINK_DISABLE);
      events.length = 0;
      inner.writes.length = 0;
      device.write(0, at, data);
      const asked = [0, 1, 2, 3]
        .map((i) => (data[LINK_DISABLE + i - at] ?? 0) * 256 ** i)
        .reduce((sum, byte) => sum + byte, 0);
      const reaches = at < LINK_DISABLE + 4 && at + data.length > LINK_DISABLE;
      const after = gpu.readBar0(LINK_DISABLE);
      assert.equal(after, (before | (asked & 0x003f0000)) >>> 0);
      const written = after === before ? null : after;
      assert.deepEqual(
        events.map((event) => event.write),
        reaches ? [{ offset: LINK_DISABLE, asked, written }] : [],
      );
      for (const [, from, bytes] of inner.writes) {
        if (from === LINK_DISABLE && reaches) continue;
        assert.deepEqual(bytes, [...data.slice(from - at, from - at + bytes.length)]);
      }
      const passed = inner.writes.filter(([, from]) => from !== LINK_DISABLE || !reaches);
      const covered = Math.max(0, Math.min(at + data.length, LINK_DISABLE + 4) - Math.max(at, LINK_DISABLE));
      assert.equal(
        passed.reduce((sum, [, , bytes]) => sum + bytes.length, 0),
        data.length - covered,
      );
    }),
    { numRuns: 500, seed: 3 },
  );
});

test("a client that writes nothing but zeros, or cannot reach the register, changes no mask", () => {
  const { device, gpu, events } = attached();
  write(device, 7, 4, 2, 2);
  const mask = gpu.readBar0(LINK_DISABLE);
  for (const size of [1, 2, 4, 8, 16]) device.write(0, LINK_DISABLE, new Uint8Array(size));
  assert.equal(gpu.readBar0(LINK_DISABLE), mask);
  write(device, 0, NV_PMC_ENABLE, 4, 0);
  events.length = 0;
  write(device, 0, LINK_DISABLE, 4, 0xffffffff);
  assert.deepEqual(events[0]?.write, { offset: LINK_DISABLE, asked: 0xffffffff, written: null });
  assert.match(events[0]?.detail ?? "", /0xffffffff to 0x00a00148: nothing was written/);
  assert.equal(events[0]?.gpu, "GPU0");
});

test("one write of a megabyte goes through around all of a GA100's block and lock registers", () => {
  const { device, gpu, inner, events } = attached({ machine: "hgx-a100-4" });
  write(device, 7, 4, 2, 2);
  inner.writes.length = 0;
  device.write(0, 0xa00000, new Uint8Array(2 ** 20));
  assert.equal(events.length, 24);
  const passed = inner.writes.reduce((sum, [, , data]) => sum + data.length, 0);
  assert.equal(passed, 2 ** 20 - 24 * 4);
  for (let link = 0; link < 12; link++) assert.equal(gpu.linkEnabled(link), false);
  assert.equal(gpu.readBar0(ga100LinkRegisters(11).lock), 1);
});

test("a client blocks and locks links of a GA100, but locks none that is not blocked: it could not be cut any more", () => {
  const vm = new VirtualMachine(builtinMachine("hgx-a100-4"));
  const planFor = (...assign: string[]) =>
    makePlan(vm.machine, parseAssignments(vm.machine, assign), { resetAll: true });
  const inners = new Map(vm.machine.gpus.map((gpu) => [gpu.address, new MadeUpGpuDevice(vm, gpu.address)]));
  const fences = new Fences(planFor("a=GPU0,GPU1"), (at) => vfioPort(inners.get(at) ?? assert.fail()));
  const [address = "", neighbour = ""] = vm.machine.gpus.map((gpu) => gpu.address);
  const device = new FencedDevice(inners.get(address) ?? assert.fail(), fences.of(address), { pageSize: 4096 });
  attach(device);
  write(device, 7, 4, 2, 2);
  const kept = fences.of(address).plan.keptLinks;
  const [first, second] = kept.map(ga100LinkRegisters);
  assert.ok(first && second && kept.length === 4);
  for (const { lock } of kept.map(ga100LinkRegisters)) write(device, 0, lock, 4, 1);
  assert.equal(read(device, 0, first.lock, 4), 0);
  device.write(0, first.block, new Uint8Array(8).fill(0xff));
  assert.deepEqual([read(device, 0, first.block, 4), read(device, 0, first.lock, 4)], [1, 1]);
  fences.replan(planFor("a=GPU0", "b=GPU1"));
  assert.equal(fences.of(address).state.kind, "in force");
  for (const link of kept) assert.equal(vm.gpu(address).linkEnabled(link), false);
  run(fences.of(neighbour).renew());
});

test("the pages with registers that cut links, or with a copy of config space, are not mapped, whatever the page size and the device's own areas", () => {
  const areas = (options: Parameters<typeof setUp>[0]) => setUp(options).device.regions[0]?.mapping?.areas;
  assert.deepEqual(areas({}), [
    { offset: 0, size: 0x88000 },
    { offset: 0x89000, size: 0x977000 },
    { offset: 0xa01000, size: 0x5ff000 },
  ]);
  assert.deepEqual(areas({ pageSize: 65536 }), [
    { offset: 0, size: 0x80000 },
    { offset: 0x90000, size: 0x970000 },
    { offset: 0xa10000, size: 0x5f0000 },
  ]);
  const own = [
    { offset: 0x1000, size: 0x1000 },
    { offset: 0x9ff000, size: 0x3000 },
  ];
  assert.deepEqual(areas({ made: { areas: own } }), [
    { offset: 0x1000, size: 0x1000 },
    { offset: 0x9ff000, size: 0x1000 },
    { offset: 0xa01000, size: 0x1000 },
  ]);
  assert.equal(setUp({ made: { areas: [{ offset: 0xa00000, size: 0x1000 }] } }).device.regions[0]?.mapping, undefined);
  const ampere = areas({ machine: "hgx-a100-4" }) ?? [];
  assert.equal(ampere.length, 14);
  for (const { offset, size } of ampere) {
    for (let link = 0; link < 12; link++) {
      const { block } = ga100LinkRegisters(link);
      assert.ok(block + 8 <= offset || block >= offset + size);
    }
  }
  const { device } = attached();
  assert.equal(device.regions[7]?.mapping, undefined, "config space is never mapped");
  for (const [offset, length] of [
    [0xa00000, 4096],
    [0xa00fff, 1],
    [0x88fff, 1],
    [0, 0x1000000],
  ] as const) {
    assert.throws(() => device.mmap?.(0, offset, length), { code: "EINVAL" });
  }
  assert.throws(() => device.mmap?.(7, 0, 4096), { code: "EINVAL" });
  assert.deepEqual(device.mmap?.(0, 0xa01000, 4096), { fd: 99, offset: 0xa01000 });
});

test("the mirror of config space in BAR0 is the client's config space, apart from the register that rearms the MSI", () => {
  const { device, inner, gpu } = attached();
  write(device, 7, 0x04, 2, 0x2);
  const address = gpu.readConfig(BARS[0] ?? 0, 4);
  const toBar0 = () => inner.writes.flatMap(([region, offset]) => (region === 0 ? [offset] : []));
  inner.writes.length = 0;
  assert.equal(read(device, 0, 0x88000, 4), 0x1db110de);
  write(device, 0, 0x88010, 4, 0x5a000000);
  assert.equal(read(device, 0, 0x88010, 4), 0x5a000000, "the client's own");
  assert.equal(gpu.readConfig(BARS[0] ?? 0, 4), address, "the hardware's stays");
  assert.deepEqual(toBar0(), [], "nothing of it reaches BAR0");
  write(device, 0, 0x88704, 4, 0);
  assert.deepEqual(toBar0(), [0x88704]);
  // An access that begins before the mirror and ends behind it goes to each in its part.
  const data = new Uint8Array(0x1008);
  device.read(0, 0x87ffc, data);
  assert.equal(littleEndian(data.subarray(4, 8)), 0x1db110de);
});

test("a GPU that somebody else has reset is found open and cut at once; its client goes on behind a reset of its own", () => {
  const { vm, fences, device, inner, gpu } = attached();
  const fence = fences.of(inner.address);
  const cutBits = () => gpu.readBar0(LINK_DISABLE);
  write(device, 7, 0x04, 2, 0x2);
  assert.equal(fence.lookAfter(), false);
  const cut = cutBits();
  const resetByKernel = () => vm.secondaryBusReset(inner.address, "port");
  resetByKernel();
  assert.equal(fence.lookAfter(), true);
  vm.port(inner.address).writeConfig(0x04, 2, 0x2);
  assert.equal(cutBits(), cut, "cut again");
  assert.match(
    fence.state.kind === "failed" ? fence.state.reason : "",
    /somebody else has reset it; its links are cut again, its client has to reset it/,
  );
  assert.throws(() => read(device, 0, 0, 4), { code: "EIO" });
  run(device.reset());
  assert.equal(fence.state.kind, "in force");
  detach(device);
  resetByKernel();
  assert.equal(fence.lookAfter(), true);
  assert.equal(fence.state.kind, "in force", "nobody relied on it");
  vm.port(inner.address).writeConfig(0x04, 2, 0x2);
  assert.equal(cutBits(), cut);
});

test("doorbells on registers that cut links are taken away, others stay", () => {
  const stays = { offset: 0x100, size: 4 } as const;
  const ioeventfds = [
    stays,
    { offset: LINK_DISABLE, size: 4 },
    { offset: LINK_DISABLE - 4, size: 8 },
    { offset: LINK_DISABLE - 7, size: 0 },
    { offset: LINK_DISABLE + 3, size: 1 },
  ] as const;
  const { device } = setUp({ made: { ioeventfds: [...ioeventfds] } });
  assert.deepEqual(device.regions[0]?.ioeventfds, [stays]);
});

test("what the device does not have the fenced one has not, save the reset", () => {
  const { inner, fences } = setUp();
  const bare: VfioDevice = { regions: inner.regions, irqs: [], read: () => {}, write: () => {} };
  const device = new FencedDevice(bare, fences.of(inner.address), { pageSize: 4096 });
  for (const name of ["mmap", "ioevent", "setIrqs", "dmaMapped", "dmaUnmapped", "afterDmaUnmap"] as const) {
    assert.equal(device[name], undefined);
  }
  const afterDmaUnmap = function* (this: VfioDevice): Steps {
    assert.equal(this.afterDmaUnmap, afterDmaUnmap);
    yield { deadline: 0 };
  };
  const waiting = new FencedDevice({ ...bare, afterDmaUnmap }, fences.of(inner.address), { pageSize: 4096 });
  assert.equal([...(waiting.afterDmaUnmap?.() ?? [])].length, 1);
  assert.equal(typeof device.reset, "function");
  for (const pageSize of [0, 2048, 5000, Number.NaN]) {
    assert.throws(() => new FencedDevice(bare, fences.of(inner.address), { pageSize }), { code: "EINVAL" });
  }
});

test("D3hot is the client's belief: the GPU stays awake and can prove to others that its links are cut", () => {
  const { device, devices, gpu } = attached();
  const power = capability(gpu.readConfig.bind(gpu), 0x01);
  write(device, 7, power + 4, 2, 3);
  assert.equal(read(device, 7, power + 4, 2) & 3, 3);
  assert.equal(gpu.readConfig(power + 4, 2) & 3, 0);
  attach(devices[1] ?? assert.fail());
  run(device.reset());
  assert.equal(read(device, 7, power + 4, 2) & 3, 0);
});

test("two hostile clients that reset, come and go in every order never have a link between them", () => {
  const act = fc.record({
    who: fc.nat(1),
    what: fc.constantFrom("reset", "leave or come", "step", "step", "step", "cancel", "attack", "attack", "attack"),
    at: fc.constantFrom(LINK_DISABLE, LINK_DISABLE - 2, NV_PMC_ENABLE, 0x12004c, 0x122204),
    config: fc.nat(0xff),
    data: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  });
  let attacks = 0;
  fc.assert(
    fc.property(fc.array(act, { minLength: 20, maxLength: 60 }), (acts) => {
      const { vm, fences, devices, inners } = setUp();
      run(fences.renewAll());
      const clients = [0, 1].map((i) => ({
        device: devices[i] ?? assert.fail(),
        address: inners[i]?.address ?? "",
        there: true,
        steps: undefined as Steps | undefined,
        atEnd: () => {},
      }));
      for (const { device } of clients) attach(device);
      const look = () => {
        for (const { address } of clients)
          for (let link = 0; link < 6; link++) assert.equal(vm.linkUp(address, link), false);
      };
      const broken: unknown[] = [];
      for (const inner of inners) {
        inner.onChange = () => {
          try {
            look();
          } catch (error) {
            broken.push(error);
          }
        };
      }
      const begin = (client: (typeof clients)[number], steps: Steps, atEnd: () => void) => {
        client.steps = steps;
        client.atEnd = atEnd;
      };
      const advance = (client: (typeof clients)[number]) => {
        try {
          if (client.steps?.next().done !== true) return;
          client.atEnd();
        } catch {
          // Turned away, or a reset that was refused.
        }
        client.steps = undefined;
      };
      for (const { who, what, at, config, data } of acts) {
        const client = clients[who] ?? assert.fail();
        const { device } = client;
        if (what === "reset" && client.there && client.steps === undefined) begin(client, device.reset(), () => {});
        if (what === "leave or come" && client.steps === undefined) {
          if (client.there) {
            client.there = false;
            device.close();
            begin(client, device.afterClose(), () => {});
          } else {
            begin(client, device.beforeOpen(), () => {
              device.open(CLIENT);
              client.there = true;
            });
          }
        }
        if (what === "step") advance(client);
        if (what === "cancel") {
          client.steps?.return();
          client.steps = undefined;
        }
        if (what === "attack" && client.there) {
          try {
            device.write(7, config, data);
            device.write(7, 4, Uint8Array.of(2));
            device.write(0, at, data);
            attacks++;
          } catch {
            assert.notEqual(fences.of(client.address).state.kind, "in force");
          }
        }
        look();
      }
      for (const client of clients)
        for (let i = 0; client.steps !== undefined; i++) {
          assert.ok(i < 100, "a reset waits for ever");
          for (const each of clients) if (each.steps !== undefined) advance(each);
        }
      for (const { device } of clients) run(device.reset());
      assert.deepEqual(broken, []);
    }),
    { numRuns: runs(50), seed: 99, endOnFailure: true },
  );
  assert.ok(attacks > 200, `only ${attacks} attacks`);
});
