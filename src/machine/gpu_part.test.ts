import assert from "node:assert/strict";
import { test } from "node:test";
import type { PciFunction } from "../pci/function.js";
import { identifyGpu, physicalFunction } from "./gpu_part.js";

function fn(facts: Partial<PciFunction>): PciFunction {
  return { address: "0000:01:00.0", classCode: 0x030200, bars: [], capabilities: [], ...facts };
}

/** `part nvlink links` by device id. */
function byId(deviceId: number): string {
  const gpu = identifyGpu(fn({ vendorId: 0x10de, deviceId }));
  return `${gpu?.part} ${gpu?.nvlink} ${gpu?.linkCount ?? "-"}`;
}

function byName(name: string): string {
  const gpu = identifyGpu(fn({ name: `NVIDIA Corporation ${name}` }));
  return `${gpu?.part} ${gpu?.nvlink} ${gpu?.linkCount ?? "-"}`;
}

const IDS: readonly [id: number, expected: string][] = [
  [0x102d, "unknown none -"], // Tesla K80
  [0x13f2, "unknown none -"], // Tesla M60
  [0x17fd, "unknown none -"], // Tesla M40
  [0x1b38, "unknown none -"], // Tesla P40
  [0x15f0, "GP100 present 4"],
  [0x15f7, "GP100 none 4"],
  [0x15f8, "GP100 none 4"],
  [0x15f9, "GP100 present 4"],
  [0x15fe, "GP100 present 4"],
  [0x15f1, "GP100 unknown 4"],
  [0x1725, "GP100 unknown 4"],
  [0x1d81, "GV100 none 6"],
  [0x1db1, "GV100 present 6"],
  [0x1db4, "GV100 none 6"],
  [0x1db5, "GV100 present 6"],
  [0x1db6, "GV100 none 6"],
  [0x1db7, "GV100 present 6"],
  [0x1db8, "GV100 present 6"],
  [0x1dba, "GV100 present 6"],
  [0x1df6, "GV100 none 6"],
  [0x1df0, "GV100 unknown 6"],
  [0x1dff, "GV100 unknown 6"],
  [0x20b0, "GA100 present 12"],
  [0x20b7, "GA100 present 12"],
  [0x20f1, "GA100 present 12"],
  [0x20c2, "GA100 unknown 12"],
  [0x1e04, "unknown present 2"],
  [0x1eb8, "unknown none 1"],
  [0x1f02, "unknown none -"], // GeForce RTX 2070
  [0x2204, "unknown present 4"],
  [0x2206, "unknown unknown 4"],
  [0x2330, "unknown present 18"],
  [0x2684, "unknown none -"], // GeForce RTX 4090
  [0x2901, "unknown present 18"],
  [0x3340, "unknown unknown -"],
  [0xfffe, "unknown unknown -"],
];

test("a device id tells part, connectors and links", () => {
  for (const [id, expected] of IDS) assert.equal(byId(id), expected, `10de:${id.toString(16)}`);
});

const NAMES: readonly [name: string, expected: string][] = [
  ["GK210GL [Tesla K80]", "unknown none -"],
  ["GM200GL [Tesla M40]", "unknown none -"],
  ["GP102 [GeForce GTX 1080 Ti]", "unknown none -"],
  ["GP100GL [Tesla P100 SXM2 16GB]", "GP100 present 4"],
  ["GP100GL [Tesla P100 PCIe 16GB]", "GP100 none 4"],
  ["GP100GL", "GP100 unknown 4"],
  ["GV100GL [Tesla V100 SXM2]", "GV100 present 6"],
  ["GV100GL [Tesla V100 SXM2 32GB]", "GV100 present 6"],
  ["GV100GL [Tesla V100 DGXS 32GB]", "GV100 present 6"],
  ["GV100GL [Tesla V100 PCIe]", "GV100 none 6"],
  ["GV100GL [Tesla V100S PCIe 32GB]", "GV100 none 6"],
  ["GV100GL [Quadro GV100]", "GV100 present 6"],
  ["GV100 [TITAN V]", "GV100 none 6"],
  ["GV100 [CMP 100-210]", "GV100 unknown 6"],
  ["GA100 [A100 SXM4 40GB]", "GA100 present 12"],
  ["GA100GL [A30 PCIe]", "GA100 present 12"],
  ["GA100 [CMP 170HX]", "GA100 unknown 12"],
  ["TU104GL [Tesla T4]", "unknown none 1"],
  ["GH100[H100 SXM5 80GB]", "unknown present 18"],
  ["AD102 [GeForce RTX 4090]", "unknown none -"],
  ["GA103", "unknown unknown -"], // an H100, to pci.ids of its time
  ["Tesla V100-SXM2-16GB", "GV100 present 6"],
  ["Device abcd", "unknown unknown -"],
];

test("a name stands in where there are no ids", () => {
  for (const [name, expected] of NAMES) assert.equal(byName(name), expected, name);
});

test("a device id counts more than a name", () => {
  const gpu = identifyGpu(
    fn({ vendorId: 0x10de, deviceId: 0x1db4, name: "NVIDIA Corporation GV100GL [Tesla V100 SXM2]" }),
  );
  assert.deepEqual([gpu?.nvlink, gpu?.model], ["none", "Tesla V100 SXM2"]);
});

test("what is no NVIDIA display controller is no GPU", () => {
  const none: Partial<PciFunction>[] = [
    { vendorId: 0x1002, deviceId: 0x1db1 },
    { vendorId: 0x10de, deviceId: 0x10f7, classCode: 0x040300 },
    { vendorId: 0x10de, deviceId: 0x1af1, classCode: 0x068000, name: "NVIDIA Corporation GA100 [A100 NVSwitch]" },
    { name: "Advanced Micro Devices, Inc. [AMD/ATI] Vega 10" },
    { name: "Notnvidia Corporation GV100GL" },
    {},
  ];
  for (const facts of none) assert.equal(identifyGpu(fn(facts)), undefined, JSON.stringify(facts));
});

test("without a class only a GPU's name makes a GPU", () => {
  const { classCode: _, ...bare } = fn({ vendorId: 0x10de });
  assert.equal(identifyGpu({ ...bare, name: "NVIDIA Corporation GV100GL [Tesla V100 SXM2]" })?.part, "GV100");
  assert.equal(identifyGpu({ ...bare, name: "NVIDIA Corporation TU102 High Definition Audio Controller" }), undefined);
  assert.equal(identifyGpu({ ...bare, name: "NVIDIA Corporation GA100 [A100 NVSwitch]" }), undefined);
  assert.equal(identifyGpu(bare), undefined);
});

test("a virtual function is known by the SR-IOV capability of its physical function", () => {
  const sriov = [{ offset: 0xbcc, id: 0x10, extended: true, name: "Single Root I/O Virtualization (SR-IOV)" }];
  const a100 = { vendorId: 0x10de, deviceId: 0x20b5 };
  const physical = fn({ ...a100, address: "0000:41:00.0", capabilities: sriov });
  const virtual = fn({ ...a100, address: "0000:41:00.4" });
  const elsewhere = fn({ ...a100, address: "0000:42:00.4" });
  const other = fn({ vendorId: 0x10de, deviceId: 0x1db1, address: "0000:41:01.0" });
  const all = [physical, virtual, elsewhere, other];
  assert.deepEqual(
    all.map((one) => physicalFunction(one, all)?.address),
    [undefined, "0000:41:00.0", undefined, undefined],
  );
});

test("two GPUs on one bus of a virtual machine are two GPUs", () => {
  const gpus = ["0000:01:00.0", "0000:01:01.0"].map((address) => fn({ vendorId: 0x10de, deviceId: 0x1db1, address }));
  assert.deepEqual(
    gpus.map((gpu) => physicalFunction(gpu, gpus)),
    [undefined, undefined],
  );
});
