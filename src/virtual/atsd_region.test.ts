import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { whileFailing } from "../../test/failing_call.js";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { findNode } from "../devicetree/path.js";
import { u32Bytes, u64Bytes } from "../devicetree/property.js";
import { readDeviceTree } from "../devicetree/read.js";
import type { DeviceTree } from "../devicetree/tree.js";
import { builtinMachine } from "../machine/builtin.js";
import { machineFromDeviceTree } from "../machine/from_device_tree.js";
import type { Bridge, Machine } from "../machine/machine.js";
import { duplicateFd, getSeals, Mapping } from "../os/index.js";
import { VfioError } from "../vfio/error.js";
import { type AtsdRegion, atsdRegion } from "./atsd_region.js";

const SOCKET = readFileSync(new URL("../../test/data/devicetree/sequoia-socket.dtb", import.meta.url));
const BRIDGE = "0006:00:00.0";
const SECOND = "0006:00:00.1";

function withRegion(use: (region: AtsdRegion) => void, machine = builtinMachine("sequoia"), pageSize?: number): void {
  const region = atsdRegion(machine, BRIDGE, pageSize);
  try {
    use(region);
  } finally {
    region.close();
  }
}

/** A Sequoia with one bridge changed: `undefined` takes a property away. */
function changed(change: { [K in keyof Bridge]?: Bridge[K] | undefined }, address = BRIDGE): Machine {
  const machine = builtinMachine("sequoia");
  const bridges = machine.bridges.map((bridge) => {
    if (bridge.address !== address) return bridge;
    return Object.fromEntries(Object.entries({ ...bridge, ...change }).filter(([, value]) => value !== undefined));
  });
  return { ...machine, bridges: bridges as unknown as Bridge[] };
}

/** What finding the region comes to: size, TGT address and speed, or the error's code. */
function outcome(machine: Machine, address = BRIDGE): unknown[] {
  try {
    const atsd = atsdRegion(machine, address);
    atsd.close();
    const { size, capabilities } = atsd.region;
    const [, target, speed] = capabilities ?? [];
    return [size, target?.kind === "nvlink2-ssatgt" && target.tgt, speed?.kind === "nvlink2-lnkspd" && speed.linkSpeed];
  } catch (error) {
    if (error instanceof VfioError) return [error.code];
    throw error;
  }
}

const read = (region: AtsdRegion, offset: number, length: number) => {
  const data = new Uint8Array(length);
  return { count: region.read(offset, data), data: [...data] };
};

test("the region is one page, typed in IBM's own numbers, with the TGT address and the link's speed", () => {
  for (const pageSize of [4096, 65536]) {
    withRegion(
      ({ region }) => {
        const { size, readable, writable, clips, capabilities, mapping } = region;
        assert.deepEqual([size, readable, writable, clips], [pageSize, true, true, true]);
        assert.deepEqual(capabilities, [
          { kind: "type", type: 0x80001014, subtype: 1 },
          { kind: "nvlink2-ssatgt", tgt: 0x3e000000000n },
          { kind: "nvlink2-lnkspd", linkSpeed: builtinMachine("sequoia").bridges[0]?.speed },
        ]);
        assert.equal(mapping?.areas, undefined);
      },
      undefined,
      pageSize,
    );
  }
});

test("accesses are cut at the page's end and refused from there on", () => {
  withRegion((region) => {
    assert.equal(region.write(4094, Uint8Array.of(1, 2, 3)), 2);
    assert.deepEqual(read(region, 4093, 5), { count: 3, data: [0, 1, 2, 0, 0] });
    for (const offset of [4096, 2 ** 40, -1, 1.5]) {
      assert.throws(() => read(region, offset, 1), { code: "EINVAL" });
      assert.throws(() => region.write(offset, Uint8Array.of(1)), { code: "EINVAL" });
    }
  });
});

test("exactly the page is mapped, as often as one likes, and shows what is written", () => {
  withRegion((region) => {
    for (const [offset, length] of [
      [0, 4095],
      [0, 8192],
      [0, 0],
      [4096, 4096],
      [0, 65536],
    ] as const) {
      assert.throws(() => region.mmap(offset, length), { code: "EINVAL" }, `${length} at ${offset}`);
    }
    for (let turn = 0; turn < 2; turn++) assert.equal(region.mmap(0, 4096).fd, region.region.mapping?.fd);
    const file = duplicateFd(region.mmap(0, 4096).fd);
    assert.equal(getSeals(file), 7, "sealed against another size");
    const mapped = new Mapping(file, 0, 4096, "read-write");
    region.write(8, Uint8Array.of(5));
    assert.equal(mapped.bytes[8], 5);
    mapped.bytes[9] = 6;
    assert.deepEqual(read(region, 8, 2).data, [5, 6]);
    region.renew();
    assert.deepEqual(read(region, 8, 2).data, [0, 0], "the next owner's page is another one");
    mapped.bytes[8] = 7;
    assert.deepEqual(read(region, 8, 2).data, [0, 0]);
    mapped.unmap();
    file.close();
  });
});

test("a link without a register has a region of size 0 that still tells the address and the speed", () => {
  assert.deepEqual(outcome(changed({ atsd: undefined })), [0, 0x3e000000000n, outcome(builtinMachine("sequoia"))[2]]);
  withRegion(
    (region) => {
      assert.ok(region.region.readable && region.region.writable && region.region.mapping !== undefined);
      assert.throws(() => read(region, 0, 1), { code: "EINVAL" });
      assert.throws(() => region.write(0, Uint8Array.of(1)), { code: "EINVAL" });
      for (const length of [0, 4096]) assert.throws(() => region.mmap(0, length), { code: "EINVAL" });
      region.renew();
    },
    changed({ atsd: undefined }),
  );
});

test("a bridge without a GPU is ENODEV, without TGT address or speed EFAULT", () => {
  assert.deepEqual(outcome(builtinMachine("sequoia"), "0006:00:09.0"), ["ENODEV"]);
  assert.deepEqual(outcome(changed({ gpu: undefined })), ["ENODEV"]);
  assert.deepEqual(outcome(changed({ gpu: undefined, speed: undefined })), ["ENODEV"]);
  assert.deepEqual(outcome(changed({ speed: undefined })), ["EFAULT"]);
  assert.deepEqual(outcome({ ...builtinMachine("sequoia"), memory: [] }), ["EFAULT"]);
});

test("a damaged device tree gives each bridge what the kernel would", () => {
  const npu = "/pciex@6030200000000";
  const first = `${npu}/unknown-bridge@0`;
  const second = `${npu}/unknown-bridge@0,1`;
  const whole = [4096, 0x3e000000000n, 9];
  const node = (tree: DeviceTree, path: string) => findNode(tree.root, path) ?? assert.fail(`no ${path}`);
  const set = (path: string, name: string, value: Uint8Array) => (tree: DeviceTree) =>
    node(tree, path).properties.set(name, value);
  const remove = (path: string, name: string) => (tree: DeviceTree) => node(tree, path).properties.delete(name);
  const cases: [(tree: DeviceTree) => unknown, unknown[], unknown[]][] = [
    [() => {}, whole, whole],
    [remove(first, "ibm,gpu"), ["ENODEV"], whole],
    [set(first, "ibm,gpu", u32Bytes(0x7777)), ["ENODEV"], whole],
    [remove(first, "ibm,device-tgt-addr"), ["EFAULT"], whole],
    [remove(second, "ibm,device-tgt-addr"), whole, ["EFAULT"]],
    [set(second, "ibm,device-tgt-addr", u64Bytes(9n)), whole, [4096, 9n, 9]],
    [remove(first, "ibm,nvlink-speed"), ["EFAULT"], whole],
    [set(first, "ibm,nvlink-speed", u64Bytes(9n)), ["EFAULT"], whole],
    // Without the memory node the GPU goes without its region, and its bridges do not.
    [remove(first, "memory-region"), whole, whole],
    [remove(npu, "ibm,mmio-atsd"), [0, ...whole.slice(1)], [0, ...whole.slice(1)]],
    [set(npu, "ibm,mmio-atsd", u64Bytes(0x6030200800000n)), whole, [0, ...whole.slice(1)]],
    [set(npu, "ibm,mmio-atsd", new Uint8Array(7)), [0, ...whole.slice(1)], [0, ...whole.slice(1)]],
  ];
  for (const [damage, ...expected] of cases) {
    const tree = readDeviceTree(Uint8Array.from(SOCKET));
    damage(tree);
    const machine = machineFromDeviceTree(tree, "a test");
    assert.deepEqual([outcome(machine), outcome(machine, SECOND)], expected, damage.toString());
  }
});

test("a region whose page cannot be mapped leaves no file behind", () => {
  const before = openFiles();
  whileFailing("mmap", () => assert.throws(() => atsdRegion(builtinMachine("sequoia"), BRIDGE)));
  assert.deepEqual(openFiles(), before);
});
