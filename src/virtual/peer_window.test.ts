import assert from "node:assert/strict";
import { test } from "node:test";
import { carryOutPlan } from "../fence/carry_out_plan.js";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { LINK_DISABLE, NV_PMC_ENABLE, NV_PMC_ENABLE_NVLINK } from "../machine/part.js";
import { runSteps } from "../vfio/steps.js";
import { GpuDevice } from "./gpu_device.js";
import { PEER_BASE, PEER_LINK, PEER_STATUS, PEER_WINDOW_START } from "./peer_window.js";
import { VirtualMachine } from "./virtual_machine.js";

const ADDRESSES = ["0004:04:00.0", "0004:05:00.0", "0004:06:00.0"] as const;
const MEMORY = 2 ** 24;
/** Links of GPU0 by what a Sequoia has at their far ends. */
const TO_GPU1 = 0;
const TO_CPU = 1;
const TO_GPU2 = 2;

/** The three GPUs of one socket, all links up. */
function socket(count = 3) {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const devices = ADDRESSES.slice(0, count).map((at) => new GpuDevice(machine, at, { memorySize: MEMORY }));
  return { machine, devices, end: () => devices.map((device) => device.dispose()) };
}

function write32(device: GpuDevice | undefined, offset: number, value: number): void {
  device?.write(0, offset, new Uint8Array(Uint32Array.of(value).buffer));
}

function read32(device: GpuDevice | undefined, offset: number): number {
  const data = new Uint8Array(4);
  device?.read(0, offset, data);
  return new DataView(data.buffer).getUint32(0, true);
}

/** Sends a value over a link of a GPU and says what arrived at the far GPU, and what came back over the link. */
function sendOver(from: GpuDevice | undefined, link: number, to: GpuDevice | undefined, value: number) {
  to?.memory.clear();
  write32(from, PEER_LINK, link);
  write32(from, PEER_BASE, 0x12);
  write32(from, PEER_WINDOW_START + 0x40, value);
  const there = new Uint8Array(4);
  to?.memory.read(0x12_0040, there);
  const arrived = new DataView(there.buffer).getUint32(0, true);
  return { arrived, seen: read32(from, PEER_WINDOW_START + 0x40), up: read32(from, PEER_STATUS) };
}

/** What a hypervisor and a driver do after a reset: addresses, decoding, the priv ring, the NVLink engine. */
function bringUp(device: GpuDevice | undefined): void {
  device?.write(7, 0x10, new Uint8Array(Uint32Array.of(0x5a000000).buffer));
  device?.write(7, 0x04, Uint8Array.of(6, 0));
  write32(device, 0x12004c, 4);
  write32(device, 0x122204, 2);
  write32(device, NV_PMC_ENABLE, read32(device, NV_PMC_ENABLE) | NV_PMC_ENABLE_NVLINK);
}

test("bytes cross between two owners before the fence and not after it, and resets open it again", async () => {
  const { machine, devices, end } = socket();
  const [gpu0, gpu1, gpu2] = devices;
  for (const link of [2, 3]) {
    assert.deepEqual(sendOver(gpu0, link, gpu2, 0xcafe0001), { arrived: 0xcafe0001, seen: 0xcafe0001, up: 1 });
  }
  const description = machine.machine;
  const plan = makePlan(description, parseAssignments(description, ["a=GPU0,GPU1", "b=GPU2"]));
  const result = await carryOutPlan(plan, (at) => machine.port(at));
  assert.equal(result.verified, true);
  for (const [from, link, to] of [
    [gpu0, 2, gpu2],
    [gpu0, 3, gpu2],
    [gpu2, 1, gpu0],
    [gpu2, 0, gpu1],
  ] as const) {
    const { arrived, seen, up } = sendOver(from, link, to, 0xcafe0002);
    assert.deepEqual([arrived, seen >>> 16, up], [0, 0xbadf, 0], "nothing arrives, nothing comes back");
  }
  assert.deepEqual(sendOver(gpu0, TO_GPU1, gpu1, 3), { arrived: 3, seen: 3, up: 1 }, "inside one owner it does");

  await runSteps(gpu0?.reset() ?? assert.fail());
  bringUp(gpu0);
  assert.equal(read32(gpu0, LINK_DISABLE), 0, "a reset clears the disable bits");
  assert.equal(sendOver(gpu0, TO_GPU2, gpu2, 4).arrived, 0, "the far end is cut still");
  await runSteps(gpu2?.reset() ?? assert.fail());
  bringUp(gpu2);
  assert.deepEqual(sendOver(gpu0, TO_GPU2, gpu2, 5), { arrived: 5, seen: 5, up: 1 });
  end();
});

test("a link carries memory only while both ends are enabled and both drivers asked", () => {
  const { machine, devices, end } = socket();
  const [gpu0, , gpu2] = devices;
  const crosses = () => sendOver(gpu0, TO_GPU2, gpu2, 7).arrived === 7;
  for (const address of [ADDRESSES[0], ADDRESSES[2]]) {
    const gpu = machine.gpu(address);
    assert.equal(crosses(), true);
    gpu.driverAsks = false;
    assert.equal(crosses(), false);
    gpu.driverAsks = true;
    const enabled = gpu.readBar0(NV_PMC_ENABLE);
    gpu.writeBar0(NV_PMC_ENABLE, enabled & ~NV_PMC_ENABLE_NVLINK);
    assert.equal(crosses(), false);
    gpu.writeBar0(NV_PMC_ENABLE, enabled);
  }
  assert.equal(crosses(), true);
  write32(gpu2, LINK_DISABLE, 1 << (16 + 1));
  assert.equal(crosses(), false, "GPU2's link 1 is the far end of GPU0's link 2");
  end();
});

test("the window shows 64 KiB from its base on, of any size, and ends where the far memory does", () => {
  const { devices, end } = socket();
  const [gpu0, , gpu2] = devices;
  write32(gpu0, PEER_LINK, TO_GPU2);
  write32(gpu0, PEER_BASE, MEMORY / 0x10000 - 1);
  const sent = Uint8Array.from({ length: 0x10000 }, (_, i) => i * 7);
  gpu0?.write(0, PEER_WINDOW_START, sent);
  const there = new Uint8Array(0x10000);
  gpu2?.memory.read(MEMORY - 0x10000, there);
  assert.deepEqual(there, sent);
  const back = new Uint8Array(5);
  gpu0?.read(0, PEER_WINDOW_START + 0xfffb, back);
  assert.deepEqual(back, sent.subarray(0xfffb));
  for (const base of [MEMORY / 0x10000, 0xffffffff]) {
    write32(gpu0, PEER_BASE, base);
    assert.equal(read32(gpu0, PEER_BASE), base);
    assert.equal(read32(gpu0, PEER_WINDOW_START) >>> 16, 0xbadf);
    write32(gpu0, PEER_WINDOW_START, 1);
  }
  end();
});

test("links that are there and lead to no memory say that they are up and read as errors", () => {
  const { devices, end } = socket(1);
  const [gpu0] = devices;
  for (const [link, up] of [
    [TO_GPU2, 1],
    [TO_CPU, 1],
    [17, 0],
    [0xffffffff, 0],
  ] as const) {
    write32(gpu0, PEER_LINK, link);
    write32(gpu0, PEER_WINDOW_START, 1);
    assert.equal(read32(gpu0, PEER_STATUS), up, `link ${link}`);
    assert.equal(read32(gpu0, PEER_WINDOW_START) >>> 16, 0xbadf);
  }
  end();
});
