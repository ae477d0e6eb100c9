import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import { duplicateFd, Mapping } from "../os/index.js";
import type { DeviceClient } from "../vfio/device.js";
import { runToEnd } from "../vfio/steps.js";
import { BridgeDevice } from "./bridge_device.js";
import { GpuDevice } from "./gpu_device.js";
import { VirtualMachine } from "./virtual_machine.js";

const GPU0 = "0004:04:00.0";
const BRIDGE = "0006:00:00.0";
const SECOND = "0006:00:00.1";
const MEMORY = 2 ** 20;
const [BAR0, BAR1, BAR2, BAR4, CONFIG, EXTRA] = [0, 1, 2, 4, 7, 9];
const COMMAND = 0x04;
const DEVICE_CONTROL_HIGH = 0x49;
const INITIATE_FLR = 0x80;

interface Made {
  machine: VirtualMachine;
  gpu: GpuDevice;
  bridge: BridgeDevice;
}

/** GPU0 of a Sequoia and its first bridge, which shows the GPU's memory when asked to. */
function withBridge(ramAsBar: boolean, use: (made: Made) => void): void {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const gpu = new GpuDevice(machine, GPU0, { memorySize: MEMORY });
  const bridge = new BridgeDevice(machine, BRIDGE, ramAsBar ? { ram: gpu.memoryClients } : {});
  try {
    use({ machine, gpu, bridge });
  } finally {
    bridge.dispose();
    gpu.dispose();
  }
}

const client = {} as DeviceClient;

function read(device: BridgeDevice | GpuDevice, region: number, offset: number, length = 4): number[] {
  const data = new Uint8Array(length);
  device.read(region, offset, data);
  return [...data];
}

function put(device: BridgeDevice | GpuDevice, region: number, offset: number, ...bytes: number[]): void {
  device.write(region, offset, Uint8Array.from(bytes));
}

/** What a client finds mapped, in the file that it is given now. */
function mapped(device: BridgeDevice | GpuDevice, region: number): { bytes: Uint8Array; close(): void } {
  const { fd, offset } = device.regions[region]?.mapping ?? assert.fail(`region ${region} is not mapped`);
  const file = duplicateFd(fd);
  const mapping = new Mapping(file, offset, 4096, "read-write");
  file.close();
  return { bytes: mapping.bytes, close: () => mapping.unmap() };
}

function leave(device: BridgeDevice | GpuDevice): void {
  device.close();
  runToEnd(device.afterClose());
}

test("a bridge has its two BARs, config space, INTA and the ATSD region, and BAR4 only when asked", () => {
  const describe = (bridge: BridgeDevice) =>
    bridge.regions.map((region) => region && [region.size, region.mapping !== undefined]);
  const config = [256, false];
  const atsd = [4096, true];
  const none = undefined;
  withBridge(false, ({ bridge }) => {
    const bars = [[0x20000, false], none, [0x10000, false], none, none, none];
    assert.deepEqual(describe(bridge), [...bars, none, config, none, atsd]);
    assert.deepEqual(bridge.irqs, [{ count: 1, flags: 7 }, none, none, { count: 1, flags: 9 }, none]);
    assert.deepEqual(bridge.warnings, []);
    assert.deepEqual(read(bridge, CONFIG, 0), [0x14, 0x10, 0xea, 0x04]);
  });
  withBridge(true, ({ bridge }) => {
    const bars = [[0x20000, false], none, [0x10000, false], none, [MEMORY, true], none];
    assert.deepEqual(describe(bridge), [...bars, none, config, none, atsd]);
  });
});

test("what is behind the BARs reads 0 while memory decoding is on, and ones while it is off", () => {
  withBridge(false, ({ bridge }) => {
    bridge.open();
    for (const region of [BAR0, BAR2]) assert.deepEqual(read(bridge, region, 8), [255, 255, 255, 255]);
    put(bridge, CONFIG, COMMAND, 2);
    for (const region of [BAR0, BAR2]) {
      put(bridge, region, 8, 1, 2, 3, 4);
      assert.deepEqual(read(bridge, region, 8), [0, 0, 0, 0]);
    }
  });
});

test("the ATSD region is read, written and mapped, and each client has another page", () => {
  withBridge(false, ({ bridge }) => {
    bridge.open();
    const first = mapped(bridge, EXTRA);
    put(bridge, EXTRA, 16, 1, 2);
    assert.deepEqual([...first.bytes.subarray(16, 18)], [1, 2]);
    assert.throws(() => bridge.mmap(EXTRA, 0, 8192), { code: "EINVAL" });
    assert.equal(bridge.mmap(EXTRA, 0, 4096).fd, bridge.regions[EXTRA]?.mapping?.fd);
    leave(bridge);
    bridge.open();
    assert.deepEqual(read(bridge, EXTRA, 16), [0, 0, 0, 0]);
    first.bytes[16] = 9;
    assert.deepEqual(read(bridge, EXTRA, 16), [0, 0, 0, 0]);
    first.close();
  });
});

test("a bridge without its facts is served without the region, and says why", () => {
  const machine = builtinMachine("sequoia");
  const bridges = machine.bridges.map((bridge) => {
    const { gpu, speed, atsd, ...rest } = bridge;
    const [first, second] = machine.bridges;
    if (bridge === first) return rest;
    return bridge === second ? { ...rest, ...(gpu && { gpu }), ...(speed && { speed }) } : bridge;
  });
  const virtual = new VirtualMachine({ ...machine, bridges });
  const nothing = new BridgeDevice(virtual, BRIDGE);
  const noRegister = new BridgeDevice(virtual, SECOND);
  assert.match(nothing.warnings.join(), /^no ATSD region: .*\(ENODEV\)$/);
  assert.equal(nothing.regions.length, 9);
  nothing.open();
  assert.throws(() => read(nothing, EXTRA, 0), { code: "EINVAL" });
  assert.throws(() => nothing.mmap(EXTRA, 0, 4096), { code: "EINVAL" });
  assert.match(noRegister.warnings.join(), /^its link has no ATSD register.*size 0$/);
  assert.equal(noRegister.regions[EXTRA]?.size, 0);
  for (const device of [nothing, noRegister]) device.dispose();
});

test("BAR4 of the bridge, BAR1 and region 9 of the GPU are one memory, mapped and by messages", () => {
  withBridge(true, ({ gpu, bridge }) => {
    bridge.open();
    gpu.open(client);
    assert.deepEqual(read(bridge, BAR4, 0), [255, 255, 255, 255], "not decoded");
    put(bridge, BAR4, 0, 9);
    put(bridge, CONFIG, COMMAND, 2);
    const views = [mapped(bridge, BAR4), mapped(gpu, BAR1), mapped(gpu, EXTRA)];
    put(bridge, BAR4, 0, 1, 2);
    put(gpu, EXTRA, 2, 3);
    for (const { bytes } of views) assert.deepEqual([...bytes.subarray(0, 4)], [1, 2, 3, 0]);
    for (const [at, { bytes }] of views.entries()) bytes[8 + at] = 5 + at;
    assert.deepEqual(read(bridge, BAR4, 8), [5, 6, 7, 0]);
    assert.deepEqual(read(gpu, EXTRA, 8), [5, 6, 7, 0]);
    assert.deepEqual(bridge.regions[BAR4]?.deviceMemory, gpu.regions[EXTRA]?.deviceMemory);
    assert.deepEqual(bridge.mmap(BAR4, 4096, MEMORY - 4096), { fd: gpu.memory.fd, offset: 4096 });
    for (const [offset, length] of [
      [0, MEMORY + 1],
      [-1, 4096],
      [0, 0],
    ] as const)
      assert.throws(() => bridge.mmap(BAR4, offset, length), { code: "EINVAL" });
    assert.throws(() => bridge.mmap(BAR2, 0, 4096), { code: "EINVAL" });
    for (const view of views) view.close();
  });
});

test("BAR4 has the memory's size in config space, 64 bits wide and prefetchable", () => {
  withBridge(true, ({ bridge }) => {
    for (const at of [0x20, 0x24]) put(bridge, CONFIG, at, 255, 255, 255, 255);
    assert.deepEqual(read(bridge, CONFIG, 0x20, 8), [0x0c, 0, 0xf0, 0xff, 255, 255, 255, 255]);
  });
});

test("without BAR4 nobody waits for the bridge, and its client reaches no memory", () => {
  withBridge(false, ({ gpu, bridge }) => {
    bridge.open();
    put(bridge, CONFIG, COMMAND, 2);
    assert.throws(() => bridge.mmap(BAR4, 0, 4096), { code: "EINVAL" });
    gpu.open(client);
    const { fd } = gpu.memory;
    leave(gpu);
    assert.notEqual(gpu.memory.fd, fd);
    gpu.open(client);
  });
});

test("a client that stays at the bridge keeps its own memory, and sees nothing of the next owner's", () => {
  withBridge(true, ({ gpu, bridge }) => {
    gpu.open(client);
    bridge.open();
    put(bridge, CONFIG, COMMAND, 2);
    const old = mapped(bridge, BAR4);
    put(gpu, EXTRA, 0, 1);
    leave(gpu);
    assert.throws(() => gpu.open(client), { code: "EBUSY" });
    leave(bridge);
    runToEnd(gpu.beforeOpen());
    gpu.open(client);
    runToEnd(bridge.beforeOpen());
    bridge.open();
    put(bridge, CONFIG, COMMAND, 2);
    assert.deepEqual(read(bridge, BAR4, 0), [0, 0, 0, 0]);
    old.bytes[0] = 7;
    put(gpu, EXTRA, 1, 8);
    assert.deepEqual(read(bridge, BAR4, 0), [0, 8, 0, 0]);
    assert.notEqual(old.bytes[1], 8);
    const now = mapped(bridge, BAR4);
    assert.equal(now.bytes[1], 8, "the region's file is the new one");
    for (const view of [old, now]) view.close();
  });
});

test("a reset loses config space, and the link is up again", () => {
  withBridge(true, ({ machine, bridge }) => {
    const up = machine.linksUp(GPU0);
    assert.deepEqual(up, [0, 1, 2, 3, 4, 5]);
    for (const reset of [
      () => runToEnd(bridge.reset()),
      () => put(bridge, CONFIG, DEVICE_CONTROL_HIGH, INITIATE_FLR),
      () => bridge.open(),
    ]) {
      put(bridge, CONFIG, COMMAND, 2);
      put(bridge, CONFIG, 0x10, 0, 0, 0xfe, 0xff);
      reset();
      assert.deepEqual(read(bridge, CONFIG, COMMAND, 2), [0, 0]);
      assert.deepEqual(read(bridge, CONFIG, 0x10), [4, 0, 0, 0]);
      assert.deepEqual(machine.linksUp(GPU0), up);
    }
    assert.equal(machine.hmis, 0);
  });
});

test("no reset of a bridge lets go of a link that the platform holds, or thaws a frozen one", () => {
  withBridge(false, ({ machine, gpu, bridge }) => {
    const end = machine.bridge(BRIDGE);
    const resets = [
      () => runToEnd(bridge.reset()),
      () => put(bridge, CONFIG, DEVICE_CONTROL_HIGH, INITIATE_FLR),
      () => {
        leave(bridge);
        bridge.open();
      },
    ];
    bridge.open();
    const gpuReset = gpu.reset();
    gpuReset.next();
    for (const reset of resets) {
      reset();
      assert.equal(end.linkEnabled, false, "the GPU is in reset");
    }
    runToEnd(gpuReset);
    assert.equal(end.linkEnabled, true);
    machine.holdNpuLinks(GPU0);
    for (const reset of resets) {
      reset();
      assert.equal(end.linkEnabled, false, "held by a fence that has failed");
    }
    machine.releaseNpuLinks(GPU0);
    machine.secondaryBusReset(GPU0, "port");
    assert.ok(machine.hmis > 0);
    assert.throws(() => runToEnd(bridge.reset()), { code: "EIO" });
    for (const reset of resets.slice(1)) reset();
    assert.deepEqual(read(bridge, CONFIG, 0), [255, 255, 255, 255]);
    assert.deepEqual(read(bridge, BAR0, 0), [255, 255, 255, 255]);
    assert.equal(end.linkEnabled, false);
  });
});
