import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { gpu, machineOf, to } from "../../test/made_up_machine.js";
import { findNode } from "../devicetree/path.js";
import { u32Bytes, u64Bytes } from "../devicetree/property.js";
import { readDeviceTree } from "../devicetree/read.js";
import type { DeviceTree } from "../devicetree/tree.js";
import { builtinMachine } from "../machine/builtin.js";
import { machineFromDeviceTree } from "../machine/from_device_tree.js";
import type { CoherentMemory, Machine } from "../machine/machine.js";
import { duplicateFd, Mapping } from "../os/index.js";
import { VfioError } from "../vfio/error.js";
import { type CoherentRamRegion, coherentRamRegion } from "./coherent_region.js";
import { GIB, GpuMemory } from "./gpu_memory.js";

const SOCKET = readFileSync(new URL("../../test/data/devicetree/sequoia-socket.dtb", import.meta.url));
const GPU0 = "0004:04:00.0";
const MEMORY = 2 ** 20;
const WINDOW = 128 * GIB;

function withMemory<T>(use: (memory: GpuMemory) => T, size = MEMORY): T {
  const memory = new GpuMemory("test", size);
  try {
    return use(memory);
  } finally {
    memory.close();
  }
}

function withRegion(use: (region: CoherentRamRegion, memory: GpuMemory) => void, size?: number): void {
  withMemory((memory) => use(coherentRamRegion(builtinMachine("sequoia"), GPU0, memory), memory), size);
}

/** A machine whose GPU0 has this memory and a bridge. */
function machineWith(memory: Partial<CoherentMemory> | undefined, bridges = ["0006:00:00.0"]): Machine {
  const one = { ...gpu(GPU0, "GPU0", [to("0004:05:00.0")]), bridges };
  const window: CoherentMemory = { gpu: GPU0, base: 0n, size: 0x100000n, tgt: 5n, origin: "wiring", ...memory };
  return machineOf([one], {
    bridges: [{ address: "0006:00:00.0", gpu: GPU0, linkIndex: 0, npu: "npu", origin: "wiring" }],
    memory: memory === undefined ? [] : [window],
  });
}

/** What finding the region comes to: its TGT address, or the error's code. */
function outcome(machine: Machine, address = GPU0, pageSize?: number): string | bigint | undefined {
  return withMemory((memory) => {
    try {
      const { capabilities } = coherentRamRegion(machine, address, memory, pageSize).region;
      return capabilities?.flatMap((each) => (each.kind === "nvlink2-ssatgt" ? [each.tgt] : []))[0];
    } catch (error) {
      if (error instanceof VfioError) return error.code;
      throw error;
    }
  });
}

const read = (region: CoherentRamRegion, offset: number, length: number) => {
  const data = new Uint8Array(length);
  return { count: region.read(offset, data), data: [...data] };
};

test("the region is a window of 128 GiB, typed in NVIDIA's own numbers, with the memory's TGT address", () => {
  withRegion(({ region }) => {
    const { size, readable, writable, clips, capabilities } = region;
    assert.deepEqual(
      { size, readable, writable, clips, capabilities },
      {
        size: WINDOW,
        readable: true,
        writable: true,
        clips: true,
        capabilities: [
          { kind: "type", type: 0x800010de, subtype: 1 },
          { kind: "nvlink2-ssatgt", tgt: 0x3e000000000n },
        ],
      },
    );
  });
});

test("one sparse area covers the real memory, whatever its size, and no more than the window", () => {
  for (const size of [MEMORY, 16 * GIB, 32 * GIB]) {
    withRegion(({ region }, memory) => {
      assert.deepEqual(region.mapping, { fd: memory.fd, offset: 0, areas: [{ offset: 0, size }] });
    }, size);
  }
  withMemory((memory) => {
    const { region } = coherentRamRegion(machineWith({ size: 0x3000n }), GPU0, memory);
    assert.deepEqual([region.size, region.mapping?.areas], [0x3000, [{ offset: 0, size: 0x3000 }]]);
  });
});

test("after a renewal the region is the new file, and says so to who registers it", () => {
  withRegion(({ region }, memory) => {
    const before = region.deviceMemory;
    assert.match(before?.id ?? "", /^\d+:\d+$/);
    assert.equal(before?.size, MEMORY);
    assert.deepEqual(region.deviceMemory, before);
    memory.renew();
    assert.equal(region.mapping?.fd, memory.fd);
    assert.notDeepEqual(region.deviceMemory, before);
  });
});

test("an access at the end of the region or beyond is EINVAL, beyond the memory EIO with nothing moved", () => {
  withRegion((region, memory) => {
    for (const offset of [WINDOW, WINDOW + 1, Number.MAX_SAFE_INTEGER, -1, 0.5, Number.NaN]) {
      assert.throws(() => read(region, offset, 4), { code: "EINVAL" }, `${offset}`);
      assert.throws(() => region.write(offset, new Uint8Array(4)), { code: "EINVAL" }, `${offset}`);
    }
    for (const offset of [MEMORY, MEMORY - 1, WINDOW - 4, WINDOW - 1]) {
      assert.throws(() => read(region, offset, 4), { code: "EIO" }, `${offset}`);
      assert.throws(() => region.write(offset, Uint8Array.of(1, 1, 1, 1)), { code: "EIO" }, `${offset}`);
    }
    const last = new Uint8Array(1);
    memory.read(MEMORY - 1, last);
    assert.deepEqual([...last], [0]);
  });
});

test("an access that runs over the region's end is cut there, and tells how much moved", () => {
  withMemory((memory) => {
    const region = coherentRamRegion(machineWith({ size: BigInt(MEMORY) }), GPU0, memory);
    assert.equal(region.write(MEMORY - 2, Uint8Array.of(1, 2, 3, 4)), 2);
    assert.deepEqual(read(region, MEMORY - 3, 6), { count: 3, data: [0, 1, 2, 0, 0, 0] });
    assert.deepEqual(read(region, MEMORY - 1, 0), { count: 0, data: [] });
    assert.equal(read(region, 0, 5).count, 5);
  });
});

test("any access gives what a file of the window's size would, as far as the memory reaches", () => {
  const [size, window] = [2 ** 16, 2 ** 17];
  withMemory((memory) => {
    const region = coherentRamRegion(machineWith({ size: BigInt(window) }), GPU0, memory);
    const model = new Uint8Array(size);
    const near = (place: number) => fc.integer({ min: place - 9, max: place + 9 });
    const access = fc.record({
      offset: fc.oneof(fc.integer({ min: 0, max: 2 * window }), near(size), near(window), fc.nat(9)),
      data: fc.uint8Array({ maxLength: 12 }),
      write: fc.boolean(),
    });
    const expected = (offset: number, length: number) => {
      if (offset >= window) return "EINVAL";
      const count = Math.min(length, window - offset);
      return offset + count > size ? "EIO" : count;
    };
    fc.assert(
      fc.property(access, ({ offset, data, write }) => {
        const is = expected(offset, data.length);
        const act = () => (write ? region.write(offset, data) : region.read(offset, data));
        if (typeof is === "string") {
          assert.throws(act, { code: is });
          return;
        }
        const before = data.slice();
        assert.equal(act(), is);
        if (write) model.set(data.subarray(0, is), offset);
        else assert.deepEqual(data, Uint8Array.of(...model.subarray(offset, offset + is), ...before.subarray(is)));
      }),
      { numRuns: 500 },
    );
  }, size);
});

test("what is mapped and what is read are the same bytes", () => {
  withRegion((region) => {
    const { fd, offset } = region.mmap(0x1000, 0x1000);
    const file = duplicateFd(fd);
    const mapped = new Mapping(file, offset, 0x1000, "read-write");
    region.write(0x1ffe, Uint8Array.of(1, 2, 3));
    assert.deepEqual([...mapped.bytes.subarray(0xffe)], [1, 2]);
    mapped.bytes[0] = 7;
    assert.deepEqual(read(region, 0xfff, 3).data, [0, 7, 0]);
    mapped.unmap();
    file.close();
  });
});

test("it is mapped once until it is released, the whole window too, and a refused mapping does not count", () => {
  withRegion((region, memory) => {
    const refused: [number, number][] = [
      [0, WINDOW + 1],
      [0, 2 * WINDOW],
      [4096, WINDOW],
      [WINDOW, 4096],
      [0, 0],
      [-4096, 4096],
      [0, Number.NaN],
      [0.5, 4096],
    ];
    for (const [offset, length] of refused) {
      assert.throws(() => region.mmap(offset, length), { code: "EINVAL" }, `${length} at ${offset}`);
    }
    assert.deepEqual(region.mmap(0, WINDOW), { fd: memory.fd, offset: 0 });
    assert.throws(() => region.mmap(0, 4096), { code: "EPERM" });
    assert.throws(() => region.mmap(0, WINDOW + 1), { code: "EPERM" }, "as in the kernel: the second one first");
    region.release();
    region.release();
    assert.deepEqual(region.mmap(0x2000, 4096), { fd: memory.fd, offset: 0x2000 });
  });
});

test("a GPU without an NPU bridge has no such region (ENODEV), whatever memory the machine lists", () => {
  assert.equal(outcome(machineWith({}, [])), "ENODEV");
  assert.equal(outcome(machineWith({}, ["0006:00:07.0"])), "ENODEV", "a bridge that is not there");
  assert.equal(outcome(machineWith({}), "0004:05:00.0"), "ENODEV", "no GPU");
  const x86 = builtinMachine("dgx1v");
  assert.equal(outcome(x86, x86.gpus[0]?.address), "ENODEV");
});

test("a GPU without memory, or with a window that is none, has no such region (EINVAL)", () => {
  assert.equal(outcome(machineWith(undefined)), "EINVAL");
  assert.equal(outcome(machineWith({ gpu: "0004:05:00.0" })), "EINVAL", "another GPU's");
  const windows = [
    { size: 0n },
    { size: 0x1001n },
    { size: 0x800n },
    { base: 1n },
    { size: 2n ** 53n },
    { size: -4096n },
  ];
  for (const window of windows) assert.equal(outcome(machineWith(window)), "EINVAL", `${Object.values(window)}`);
  assert.equal(outcome(machineWith({ size: 0x1000n })), 5n);
  assert.equal(outcome(machineWith({ size: 0x1000n }), GPU0, 0x10000), "EINVAL", "with pages of 64 KiB");
  assert.equal(outcome(machineWith({ size: 2n ** 53n - 4096n })), 5n);
});

test("a GPU whose TGT address is not known has no such region (EFAULT)", () => {
  const { tgt: _, ...window } = machineWith({}).memory[0] ?? assert.fail();
  assert.equal(outcome({ ...machineWith({}), memory: [window] }), "EFAULT");
});

test("a damaged device tree gives the errno of what it lacks, and leaves the other GPUs their regions", () => {
  const npu = "/pciex@6030200000000";
  const first = `${npu}/unknown-bridge@0`;
  const second = `${npu}/unknown-bridge@0,1`;
  const [memory, gpuNode] = ["/memory@3e000000000", "/pciex@600c3c0400000/pci@0/pci@0/pci@a/3d-controller@0"];
  const node = (tree: DeviceTree, path: string) => findNode(tree.root, path) ?? assert.fail(`no ${path}`);
  const set = (path: string, name: string, value: Uint8Array) => (tree: DeviceTree) =>
    node(tree, path).properties.set(name, value);
  const remove = (path: string, name: string) => (tree: DeviceTree) => node(tree, path).properties.delete(name);
  const cases: [string | bigint, (tree: DeviceTree) => unknown][] = [
    [0x3e000000000n, () => {}],
    ["ENODEV", remove(gpuNode, "ibm,npu")],
    ["ENODEV", set(gpuNode, "ibm,npu", u32Bytes(0x7777))],
    ["EINVAL", remove(first, "memory-region")],
    ["EINVAL", set(first, "memory-region", u32Bytes(0x7777))],
    ["EINVAL", set(first, "memory-region", new Uint8Array(3))],
    ["EINVAL", remove(memory, "reg")],
    ["EINVAL", set(memory, "reg", u32Bytes(1))],
    ["EINVAL", set(memory, "reg", u64Bytes(0x3e000000000n))],
    ["EINVAL", set(memory, "reg", u64Bytes(0x3e000000000n, 0x1000n, 0n))],
    ["EINVAL", set(memory, "reg", u64Bytes(0x3e000000000n, 0n))],
    ["EINVAL", set(memory, "reg", u64Bytes(0x3e000000000n, 0x1234n))],
    ["EINVAL", set(memory, "reg", u64Bytes(0x100000000000000n, 1n << 54n))],
    ["EFAULT", remove(first, "ibm,device-tgt-addr")],
    ["EFAULT", set(first, "ibm,device-tgt-addr", u32Bytes(1))],
    // As the kernel does, by the first bridge alone.
    [9n, set(first, "ibm,device-tgt-addr", u64Bytes(9n))],
    [0x3e000000000n, set(second, "ibm,device-tgt-addr", u64Bytes(9n))],
    [0x3e000000000n, set(second, "memory-region", u32Bytes(0x7777))],
  ];
  for (const [expected, damage] of cases) {
    const tree = readDeviceTree(Uint8Array.from(SOCKET));
    damage(tree);
    const machine = machineFromDeviceTree(tree, "a test");
    assert.equal(outcome(machine), expected, damage.toString());
    assert.equal(outcome(machine, "0004:06:00.0"), 0x3a000000000n);
  }
});
