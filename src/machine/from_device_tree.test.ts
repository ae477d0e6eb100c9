import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { DeviceTreeError } from "../devicetree/error.js";
import { findNode, walk } from "../devicetree/path.js";
import { cells, textBytes, u32, u32Bytes, u64Bytes } from "../devicetree/property.js";
import { readDeviceTree } from "../devicetree/read.js";
import type { DeviceTree, DeviceTreeNode } from "../devicetree/tree.js";
import { writeDeviceTree } from "../devicetree/write.js";
import { readCapture, writeCapture } from "./capture.js";
import { MachineError } from "./error.js";
import { probeNvlink } from "./firmware.js";
import { machineFromDeviceTree } from "./from_device_tree.js";
import type { Gpu, Machine } from "./machine.js";

const SOCKET = readFileSync(new URL("../../test/data/devicetree/sequoia-socket.dtb", import.meta.url));
const OP920 = new URL("../../../shared/data/op920.wsp.dtb", import.meta.url);
const QEMU = new URL("../../../shared/data/powernv9-skiboot.dtb", import.meta.url);
const noOp920 = existsSync(OP920) ? false : "../shared/data/op920.wsp.dtb is not there";
const noQemu = existsSync(QEMU) ? false : "../shared/data/powernv9-skiboot.dtb is not there";

const SWITCH = "/pciex@600c3c0400000/pci@0/pci@0";
const GPU = [`${SWITCH}/pci@a/3d-controller@0`, `${SWITCH}/pci@b/3d-controller@0`, `${SWITCH}/pci@c/3d-controller@0`];
const NPU = "/pciex@6030200000000";

/** A fresh tree of one Sequoia socket, whose bytes may be changed. */
const socket = () => readDeviceTree(Uint8Array.from(SOCKET));
const op920 = () => readDeviceTree(readFileSync(OP920));
const machine = (tree: DeviceTree) => machineFromDeviceTree(tree, "a test");

function at(tree: DeviceTree, path: string): DeviceTreeNode {
  const found = findNode(tree.root, path);
  assert.ok(found, `no node ${path}`);
  return found;
}

/** The machine of a socket after some damage, and its GPUs by slot. */
function damaged(damage: (tree: DeviceTree) => void): { machine: Machine; gpus: Gpu[] } {
  const tree = socket();
  damage(tree);
  const made = machine(tree);
  return { machine: made, gpus: made.gpus };
}

const set = (path: string, name: string, value: Uint8Array) => (tree: DeviceTree) =>
  void at(tree, path).properties.set(name, value);
const remove = (path: string, name: string) => (tree: DeviceTree) => void at(tree, path).properties.delete(name);

/** Changes one cell of GPU `slot`'s peers. */
const setPeer = (slot: number, link: number, phandle: (tree: DeviceTree) => number) => (tree: DeviceTree) => {
  const node = at(tree, GPU[slot] ?? "");
  const peers = cells(node, "ibm,nvlink-peers") ?? [];
  peers[link] = phandle(tree);
  node.properties.set("ibm,nvlink-peers", u32Bytes(...peers));
};

const phandle = (path: string) => (tree: DeviceTree) => u32(at(tree, path), "phandle") ?? 0;

function far(gpu: Gpu | undefined): string[] {
  return (gpu?.links ?? []).map(({ far }) => {
    if (far.kind === "gpu") return `${far.gpu.slice(-7, -5)}/${far.link ?? "?"}`;
    return far.kind === "bridge" ? far.bridge.slice(-4) : far.kind;
  });
}

const says = (machine: Machine, pattern: RegExp) =>
  assert.ok(
    machine.unknown.some(({ what }) => pattern.test(what)),
    `no unknown matches ${pattern}: ${JSON.stringify(machine.unknown.map(({ what }) => what))}`,
  );

test("a full tree gives the machine its GPUs, names, parts and links", () => {
  const { name, platform, virtual, kernel, gpus, unknown, groups } = machine(socket());
  assert.deepEqual(
    { name, platform, virtual, unknown, groups },
    { name: "sequoia", platform: "powernv", virtual: true, unknown: [], groups: undefined },
  );
  assert.deepEqual(kernel, { commandLine: "root=/dev/sda2 vfio_pci.isolate_nvlink" });
  assert.deepEqual(
    gpus.map(({ name, address, part }) => `${name} ${address} ${part}`),
    ["GPU0 0004:04:00.0 GV100", "GPU1 0004:05:00.0 GV100", "GPU2 0004:06:00.0 GV100"],
  );
  assert.deepEqual(far(gpus[0]), ["05/0", "00.0", "06/1", "06/4", "05/4", "00.1"]);
  assert.deepEqual(far(gpus[1]), ["04/0", "01.0", "06/0", "06/2", "04/4", "01.1"]);
  assert.deepEqual(far(gpus[2]), ["05/2", "04/2", "05/3", "02.0", "04/3", "02.1"]);
});

test("which of several links of a pair meet is marked assumed, bridges are not", () => {
  for (const { links } of machine(socket()).gpus) {
    for (const link of links) assert.equal(link.assumed ?? false, link.far.kind === "gpu");
  }
});

test("a single link between two GPUs needs no assumption", () => {
  const none = () => 0;
  const { gpus } = damaged((tree) => {
    setPeer(0, 4, none)(tree);
    setPeer(1, 4, none)(tree);
  });
  assert.deepEqual(gpus[0]?.links[0], {
    number: 0,
    far: { kind: "gpu", gpu: "0004:05:00.0", link: 0 },
    state: "up",
    origin: "device-tree",
  });
  assert.deepEqual(gpus[0]?.links[4], { number: 4, far: { kind: "none" }, state: "down", origin: "device-tree" });
});

test("functions have their ids, buses, parents and NUMA nodes", () => {
  const functions = new Map(machine(socket()).functions.map((fn) => [fn.address, fn]));
  assert.equal(functions.size, 14);
  const gpu = functions.get("0004:05:00.0");
  assert.deepEqual(
    [gpu?.vendorId, gpu?.deviceId, gpu?.classCode, gpu?.revision, gpu?.headerType, gpu?.parent, gpu?.numaNode],
    [0x10de, 0x1db1, 0x030200, 0xa1, 0, "0004:02:0b.0", 0],
  );
  assert.deepEqual(functions.get("0004:00:00.0")?.buses, { primary: 0, secondary: 1, subordinate: 6 });
  assert.deepEqual(functions.get("0004:01:00.0")?.buses, { primary: 1, secondary: 2, subordinate: 6 });
  assert.deepEqual(functions.get("0004:02:0c.0")?.buses, { primary: 2, secondary: 6, subordinate: 6 });
  const bridge = functions.get("0006:00:02.1");
  assert.deepEqual([bridge?.parent, bridge?.multifunction, bridge?.headerType], [null, true, 0]);
});

test("assigned-addresses become BARs", () => {
  const [fn] = machine(socket()).functions.filter(({ address }) => address === "0004:04:00.0");
  assert.deepEqual(
    fn?.bars.map(({ index, address, size, width, prefetchable }) => ({ index, address, size, width, prefetchable })),
    [
      { index: 0, address: 0x80000000n, size: 0x1000000n, width: 32, prefetchable: false },
      { index: 1, address: 0x6004000000000n, size: 0x400000000n, width: 64, prefetchable: true },
      { index: 3, address: 0x6004400000000n, size: 0x2000000n, width: 64, prefetchable: true },
    ],
  );
});

test("bridges have their link's numbers, speed, ATSD register and TGT address", () => {
  const { bridges, memory } = machine(socket());
  assert.deepEqual(bridges[3], {
    address: "0006:00:01.1",
    gpu: "0004:05:00.0",
    linkIndex: 3,
    npu: NPU,
    slotLabel: "GPU1",
    groupId: 1,
    brickId: 3,
    speed: 9,
    atsd: 0x6030200830000n,
    tgt: 0x3c000000000n,
    origin: "device-tree",
  });
  assert.deepEqual(memory[2], {
    gpu: "0004:06:00.0",
    base: 0x3a000000000n,
    size: 0x2000000000n,
    tgt: 0x3a000000000n,
    origin: "device-tree",
  });
});

test("a tree from before the probe is completed, marked so, and says what was assumed", { skip: noOp920 }, () => {
  const made = machine(op920());
  assert.equal(made.name, "redbud");
  assert.deepEqual(
    made.gpus.map(({ name, address }) => `${name} ${address}`),
    ["GPU0 0004:04:00.0", "GPU1 0004:05:00.0", "GPU3 0035:03:00.0", "GPU4 0035:04:00.0"],
  );
  assert.deepEqual(far(made.gpus[2]), ["04/0", "00.0", "04/2", "00.1", "04/4", "00.2"]);
  for (const { origin } of [...made.gpus, ...made.bridges, ...made.memory]) assert.equal(origin, "firmware");
  says(made, /a V100 in each labelled slot is assumed/);
});

test("the written full tree gives the same machine but for what it says about origins", { skip: noOp920 }, () => {
  const derived = machine(op920());
  const read = machine(readDeviceTree(writeDeviceTree(probeNvlink(op920()))));
  const plain = (made: Machine) => ({
    ...made,
    unknown: [],
    gpus: made.gpus.map((gpu) => ({ ...gpu, origin: "", links: gpu.links.map((link) => ({ ...link, origin: "" })) })),
    bridges: made.bridges.map((bridge) => ({ ...bridge, origin: "" })),
    memory: made.memory.map((memory) => ({ ...memory, origin: "" })),
  });
  assert.deepEqual(plain(read), plain(derived));
  assert.equal(read.gpus[0]?.origin, "device-tree");
});

test("QEMU's powernv9 tree is a machine without GPUs", { skip: noQemu }, () => {
  const made = machine(readDeviceTree(readFileSync(QEMU)));
  assert.deepEqual([made.gpus, made.bridges, made.unknown, made.platform], [[], [], [], "powernv"]);
  assert.deepEqual(
    made.functions.map(({ address, parent }) => `${address} ${parent}`),
    [
      "0000:00:00.0 null",
      "0000:01:00.0 0000:00:00.0",
      "0001:00:00.0 null",
      "0001:01:00.0 0001:00:00.0",
      "0001:02:00.0 0001:01:00.0",
      "0001:02:01.0 0001:01:00.0",
      "0001:03:00.0 0001:02:00.0",
      "0001:04:00.0 0001:02:01.0",
    ],
  );
});

test("an empty tree is a machine without anything", () => {
  const root: DeviceTreeNode = { name: "", properties: new Map(), children: [] };
  const made = machine({ root, reservations: [], bootCpu: 0 });
  assert.deepEqual([made.functions, made.gpus, made.unknown, made.platform], [[], [], [], "unknown"]);
});

test("a dangling phandle among the peers is a far end that is not known", () => {
  const { machine, gpus } = damaged(setPeer(0, 2, () => 0x7777));
  assert.deepEqual(far(gpus[0]), ["05/0", "00.0", "unknown", "06/1", "05/4", "00.1"]);
  assert.equal(gpus[0]?.links[2]?.state, "unknown");
  says(machine, /where link 2 of GPU0 lead/);
});

test("GPUs that list each other a different number of times keep the surplus without a far link", () => {
  const { machine, gpus } = damaged(setPeer(0, 2, () => 0));
  assert.deepEqual(far(gpus[0]), ["05/0", "00.0", "none", "06/1", "05/4", "00.1"]);
  assert.deepEqual(far(gpus[2]), ["05/2", "04/3", "05/3", "02.0", "04/?", "02.1"]);
  says(machine, /which links of GPU0 meet those of GPU2: GPU2 lists 2, GPU0 lists 1/);
});

test("a peer that does not list a GPU back is joined with it all the same", () => {
  const { machine, gpus } = damaged((tree) => {
    for (const link of [0, 4]) setPeer(1, link, () => 0)(tree);
  });
  assert.deepEqual(far(gpus[0]).slice(0, 1), ["05/?"]);
  assert.equal(gpus[0]?.links[0]?.assumed, true);
  says(machine, /GPU0 lists 2, GPU1 lists 0/);
});

test("a GPU that lists itself, a port or memory does not know where the link leads", () => {
  for (const path of [GPU[0] ?? "", `${SWITCH}/pci@a`, "/memory@3e000000000"]) {
    const { machine, gpus } = damaged((tree) => {
      const node = at(tree, path);
      if (!node.properties.has("phandle")) node.properties.set("phandle", u32Bytes(0x999));
      setPeer(0, 0, phandle(path))(tree);
    });
    assert.equal(far(gpus[0])[0], "unknown");
    says(machine, /where link 0 of GPU0 lead/);
  }
});

test("links without a cell lead nobody knows where, and surplus cells add no links", () => {
  const peers = cells(at(socket(), GPU[0] ?? ""), "ibm,nvlink-peers") ?? [];
  const short = damaged(set(GPU[0] ?? "", "ibm,nvlink-peers", u32Bytes(...peers.slice(0, 4))));
  assert.deepEqual(far(short.gpus[0]).slice(3), ["06/4", "unknown", "unknown"]);
  says(short.machine, /ibm,nvlink-peers has 4 cells, and the GPU has 6 links/);
  const long = damaged(set(GPU[0] ?? "", "ibm,nvlink-peers", u32Bytes(...peers, ...peers)));
  assert.equal(long.gpus[0]?.links.length, 6);
  says(long.machine, /ibm,nvlink-peers has 12 cells/);
});

test("peers that are no cells, or are missing, leave every link unknown", () => {
  for (const damage of [
    set(GPU[1] ?? "", "ibm,nvlink-peers", new Uint8Array(23)),
    remove(GPU[1] ?? "", "ibm,nvlink-peers"),
  ]) {
    const { machine, gpus } = damaged(damage);
    assert.deepEqual(
      far(gpus[1]),
      Array.from({ length: 6 }, () => "unknown"),
    );
    assert.deepEqual(gpus[1]?.bridges, ["0006:00:01.0", "0006:00:01.1"]);
    says(machine, /where the links of GPU1 lead: it has no usable ibm,nvlink-peers \(2 of them lead to NPU bridges/);
  }
});

test("a bridge that names another GPU is nobody's, and the link to it leads nobody knows where", () => {
  const { machine, gpus } = damaged((tree) =>
    set(`${NPU}/unknown-bridge@0`, "ibm,gpu", u32Bytes(phandle(GPU[1] ?? "")(tree)))(tree),
  );
  assert.deepEqual(gpus[0]?.bridges, ["0006:00:00.1"]);
  assert.equal(far(gpus[0])[1], "unknown");
  assert.equal(gpus[1]?.bridges.includes("0006:00:00.0"), false);
  says(machine, /whose bridge 0006:00:00.0 is: ibm,npu of 0004:04:00.0 has it, and its ibm,gpu names 0004:05:00.0/);
});

test("a bridge that two GPUs claim and that names neither is nobody's", () => {
  const { machine, gpus } = damaged((tree) => {
    remove(`${NPU}/unknown-bridge@0`, "ibm,gpu")(tree);
    const mine = cells(at(tree, GPU[1] ?? ""), "ibm,npu") ?? [];
    set(GPU[1] ?? "", "ibm,npu", u32Bytes(...mine, phandle(`${NPU}/unknown-bridge@0`)(tree)))(tree);
  });
  assert.deepEqual(
    gpus.map(({ bridges }) => bridges.includes("0006:00:00.0")),
    [false, false, false],
  );
  assert.equal(far(gpus[0])[1], "unknown");
  says(machine, /whose bridge 0006:00:00.0 is/);
});

test("a bridge without ibm,gpu belongs to the one GPU that claims it", () => {
  const { machine, gpus } = damaged(remove(`${NPU}/unknown-bridge@0`, "ibm,gpu"));
  assert.deepEqual(gpus[0]?.bridges, ["0006:00:00.0", "0006:00:00.1"]);
  assert.equal(far(gpus[0])[1], "00.0");
  assert.deepEqual(machine.unknown, []);
});

test("dangling ibm,npu, ibm,gpu and ibm,nvlink are said and nothing is guessed from them", () => {
  const npu = damaged(set(GPU[0] ?? "", "ibm,npu", u32Bytes(0x7777)));
  assert.deepEqual(npu.gpus[0]?.bridges, []);
  assert.equal(far(npu.gpus[0])[1], "unknown");
  says(npu.machine, /1 of the phandles in ibm,npu lead to no NPU bridge/);
  const gpu = damaged(set(`${NPU}/unknown-bridge@0`, "ibm,gpu", u32Bytes(0x7777)));
  assert.equal(far(gpu.gpus[0])[1], "unknown");
  says(gpu.machine, /ibm,gpu is 0x7777, which no node has/);
  const link = damaged(set(`${NPU}/unknown-bridge@1`, "ibm,nvlink", u32Bytes(0x7777)));
  const [bridge] = link.machine.bridges.filter(({ address }) => address === "0006:00:01.0");
  assert.deepEqual([bridge?.linkIndex, bridge?.atsd, bridge?.slotLabel], [2, undefined, undefined]);
});

test("two bridges with one link index share no ATSD register", () => {
  const { machine } = damaged((tree) => {
    const link = "/xscom@603fc00000000/npu@5011000/link@1";
    set(link, "ibm,npu-link-index", u32Bytes(0))(tree);
  });
  assert.deepEqual(
    machine.bridges.slice(0, 2).map(({ atsd }) => atsd),
    [undefined, undefined],
  );
  says(machine, /which of the bridges 0006:00:00.0 and 0006:00:00.1 is link 0/);
});

test("an NPU with fewer ATSD registers than links leaves the rest without", () => {
  const { machine } = damaged(set(NPU, "ibm,mmio-atsd", u64Bytes(0x6030200800000n, 0n)));
  assert.deepEqual(
    machine.bridges.map(({ atsd }) => atsd !== undefined),
    [true, false, false, false, false, false],
  );
});

test("memory that is missing, malformed or no GPU's is left out and said", () => {
  const bridge = `${NPU}/unknown-bridge@0`;
  for (const [damage, pattern] of [
    [remove(bridge, "memory-region"), /leads to no memory-region/],
    [set(bridge, "memory-region", u32Bytes(0x7777)), /leads to no memory-region/],
    [set("/memory@3e000000000", "reg", u64Bytes(0x3e000000000n)), /not one base and one size/],
    [set("/memory@3e000000000", "reg", new Uint8Array(15)), /not one base and one size/],
    [set("/memory@3e000000000", "reg", u64Bytes(0x3e000000000n, 0n)), /no address range/],
    [set("/memory@3e000000000", "compatible", textBytes("ibm,memory")), /no GPU's memory/],
  ] as const) {
    const { machine } = damaged(damage);
    assert.deepEqual(
      machine.memory.map(({ gpu }) => gpu),
      ["0004:05:00.0", "0004:06:00.0"],
    );
    says(machine, pattern);
  }
});

test("two GPUs that lead to one memory get none", () => {
  const { machine } = damaged((tree) => {
    set(`${NPU}/unknown-bridge@0`, "memory-region", u32Bytes(phandle("/memory@3c000000000")(tree)))(tree);
  });
  assert.deepEqual(
    machine.memory.map(({ gpu }) => gpu),
    ["0004:06:00.0"],
  );
  says(machine, /two GPUs lead there/);
});

test("a missing or wrong TGT address is said, and the memory stays", () => {
  const missing = damaged(remove(`${NPU}/unknown-bridge@0`, "ibm,device-tgt-addr")).machine;
  assert.equal(missing.memory[0]?.tgt, undefined);
  says(missing, /ibm,device-tgt-addr/);
  const wrong = damaged(set(`${NPU}/unknown-bridge@0`, "ibm,device-tgt-addr", u64Bytes(1n))).machine;
  assert.equal(wrong.memory[0]?.tgt, 1n);
  says(wrong, /ibm,device-tgt-addr is 0x1/);
});

test("a bridge has its own TGT address and no other's, whatever becomes of the memory", () => {
  const own = (damage: (tree: DeviceTree) => void) => damaged(damage).machine.bridges.map(({ tgt }) => tgt);
  const rest = [0x3c000000000n, 0x3c000000000n, 0x3a000000000n, 0x3a000000000n];
  assert.deepEqual(own(remove(`${NPU}/unknown-bridge@0`, "memory-region")), [0x3e000000000n, 0x3e000000000n, ...rest]);
  for (const path of ["unknown-bridge@0", "unknown-bridge@0,1"]) {
    const tgts = own(set(`${NPU}/${path}`, "ibm,device-tgt-addr", u32Bytes(1)));
    assert.deepEqual(
      tgts,
      path.endsWith("1") ? [0x3e000000000n, undefined, ...rest] : [undefined, 0x3e000000000n, ...rest],
    );
  }
});

test("two GPUs with one label are called by their addresses", () => {
  const { machine, gpus } = damaged((tree) => {
    for (const link of [2, 3]) {
      set(`/xscom@603fc00000000/npu@5011000/link@${link}`, "ibm,slot-label", textBytes("GPU0"))(tree);
    }
  });
  assert.deepEqual(
    gpus.map(({ name }) => name),
    ["0004:04:00.0", "0004:05:00.0", "GPU2"],
  );
  says(machine, /"GPU0" is on 2 GPUs/);
});

test("a label that no command line could name is not a name", () => {
  for (const label of ["a,b", "a=b", "host", "", "0004:05:00.0", "-x", "x".repeat(65)]) {
    const { gpus } = damaged(set(GPU[0] ?? "", "ibm,slot-label", textBytes(label)));
    assert.equal(gpus[0]?.name, "0004:04:00.0", JSON.stringify(label));
  }
});

test("a GPU at an unknown id is a GPU of unknown part with the links it lists", () => {
  const { gpus } = damaged(set(GPU[0] ?? "", "device-id", u32Bytes(0xffff)));
  assert.deepEqual([gpus[0]?.part, gpus[0]?.nvlink, gpus[0]?.links.length], ["unknown", "present", 6]);
  assert.deepEqual(far(gpus[0]), ["05/0", "00.0", "06/1", "06/4", "05/4", "00.1"]);
});

test("a P100 has four links, whatever its peers say", () => {
  const { gpus } = damaged(set(GPU[0] ?? "", "device-id", u32Bytes(0x15f9)));
  assert.deepEqual([gpus[0]?.part, gpus[0]?.links.length], ["GP100", 4]);
});

test("a GPU without an address gets a free one, so that its links still count", () => {
  const { machine, gpus } = damaged(set(GPU[2] ?? "", "reg", new Uint8Array(3)));
  assert.deepEqual(
    gpus.map(({ address }) => address),
    ["0004:00:01.0", "0004:04:00.0", "0004:05:00.0"],
  );
  assert.deepEqual(far(gpus[1]), ["05/0", "00.0", "00/1", "00/4", "05/4", "00.1"]);
  says(machine, /does not tell a PCI address of its own/);
});

test("a GPU at the address of another is moved, a function without NVLinks is left out", () => {
  const { machine, gpus } = damaged(set(GPU[1] ?? "", "reg", u32Bytes(0x40000, 0, 0, 0, 0)));
  assert.equal(gpus.length, 3);
  assert.deepEqual(far(gpus.find(({ name }) => name === "GPU0")).slice(0, 2), ["00/0", "00.0"]);
  says(machine, /does not tell a PCI address of its own/);
  const ports = damaged(set(`${SWITCH}/pci@b`, "reg", u32Bytes(0x25000, 0, 0, 0, 0)));
  says(ports.machine, /have the same address/);
});

/** Two GPUs and their bridges in nodes that say nothing but how NVLinks join them: no address, id, class or bus. */
function bare(peers: number): DeviceTree {
  const node = (name: string, properties: Record<string, Uint8Array>, children: DeviceTreeNode[] = []) => ({
    name,
    properties: new Map(Object.entries(properties)),
    children,
  });
  const gpu = (slot: number) =>
    node(`gpu@${slot}`, {
      phandle: u32Bytes(slot + 1),
      "ibm,npu": u32Bytes(slot + 11),
      "ibm,nvlink-peers": u32Bytes(...[2 - slot, slot + 11, 0, 0, 2 - slot, 0].slice(0, peers)),
      "ibm,slot-label": textBytes(`GPU${slot}`),
    });
  const bridge = (slot: number) =>
    node(`bridge@${slot}`, { phandle: u32Bytes(slot + 11), "ibm,gpu": u32Bytes(slot + 1) });
  const npu = node("npu", { compatible: textBytes("ibm,power9-npu-pciex") }, [bridge(0), bridge(1)]);
  const root = node("", {}, [gpu(0), node("soc", { reg: u32Bytes(0) }), node("a", {}, [node("b", {}, [gpu(1)])]), npu]);
  return { root, reservations: [], bootCpu: 0 };
}

test("nodes with NVLink properties are GPUs and bridges wherever they are and whatever else they lack", () => {
  const made = machine(bare(6));
  assert.equal(made.platform, "powernv");
  assert.equal(made.functions.length, 4);
  assert.deepEqual(
    made.gpus.map(({ name, part, bridges }) => `${name} ${part} ${bridges.length}`),
    ["GPU0 GV100 1", "GPU1 GV100 1"],
  );
  assert.deepEqual(
    made.gpus.map(({ links }) => links.map(({ far }) => far.kind)),
    [
      ["gpu", "bridge", "none", "none", "gpu", "none"],
      ["gpu", "bridge", "none", "none", "gpu", "none"],
    ],
  );
  says(made, /its six links make it a V100/);
  assert.deepEqual(readCapture(writeCapture(made, "2026-01-02T03:04:05Z")).gpus, made.gpus);
});

test("ports and host bridges that say nothing but their addresses are still the way to the GPUs", () => {
  const full = machine(socket());
  const { machine: made } = damaged((tree) => {
    for (const { node } of walk(tree.root)) {
      for (const name of ["vendor-id", "device-id", "class-code", "device_type"]) node.properties.delete(name);
    }
  });
  const places = ({ functions }: Machine) => functions.map(({ address, parent }) => `${address} ${parent}`);
  assert.deepEqual(places(made), places(full));
  assert.deepEqual(made.gpus, full.gpus);
});

test("a GPU without ids is no V100 when it has another number of links", () => {
  for (const { part } of machine(bare(5)).gpus) assert.equal(part, "unknown");
});

test("a host bridge that tells no domain is numbered by its chip and index, else by what is free", () => {
  const { machine } = damaged(remove("/pciex@600c3c0400000", "ibm,opal-phbid"));
  assert.deepEqual([machine.gpus[0]?.address, machine.unknown], ["0004:04:00.0", []]);
  const lost = damaged((tree) => {
    for (const name of ["ibm,opal-phbid", "ibm,phb-index"]) remove("/pciex@600c3c0400000", name)(tree);
  });
  assert.equal(lost.gpus[0]?.address, "0000:04:00.0");
  says(lost.machine, /does not tell its PCI domain/);
  assert.equal(
    damaged(set("/pciex@600c3c0400000", "linux,pci-domain", u32Bytes(0x10000))).gpus[0]?.address,
    "10000:04:00.0",
  );
});

test("any damage to any property gives a machine with unique names and known ends, or one clear error", () => {
  const places = [...walk(socket().root)].flatMap(({ node, path }) =>
    [...node.properties.keys()].map((name) => ({ path, name })),
  );
  const damage = fc.record({
    place: fc.constantFrom(...places),
    value: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.array(fc.nat(0x20)).map((values) => u32Bytes(...values)),
    ),
  });
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
      const tree = socket();
      for (const { place, value } of damages) at(tree, place.path).properties.set(place.name, value);
      let made: Machine;
      try {
        made = machine(tree);
      } catch (error) {
        assert.ok(error instanceof DeviceTreeError || error instanceof MachineError, String(error));
        return;
      }
      const addresses = new Set(made.functions.map(({ address }) => address));
      assert.equal(addresses.size, made.functions.length);
      assert.equal(new Set(made.gpus.map(({ name }) => name)).size, made.gpus.length);
      for (const { address, links, bridges } of made.gpus) {
        assert.ok(addresses.has(address));
        for (const { far } of links) {
          if (far.kind === "gpu") assert.ok(far.gpu !== address && made.gpus.some((gpu) => gpu.address === far.gpu));
          if (far.kind === "bridge") assert.ok(bridges.includes(far.bridge));
        }
      }
      const owned = made.gpus.flatMap(({ bridges }) => bridges);
      assert.equal(new Set(owned).size, owned.length);
    }),
    { numRuns: 300 },
  );
});

test("numbers and paths that only a device tree can have are in its capture too", () => {
  const link = "/xscom@603fc00000000/npu@5011000/link@0";
  const host = "/pciex@600c3c0400000";
  const long = "x".repeat(200);
  const { machine: made } = damaged((tree) => {
    set(link, "ibm,npu-link-index", u32Bytes(32771))(tree);
    set(host, "ibm,associativity", u32Bytes(4, 0, 0, 0, 0x7fffffff))(tree);
    let parent = tree.root;
    for (let depth = 0; depth < 40; depth++) {
      const child: DeviceTreeNode = { name: `pci@${depth}${long}`, properties: new Map(), children: [] };
      parent.children.push(child);
      parent = child;
    }
    parent.properties.set("ibm,npu", u32Bytes(1));
  });
  assert.ok(made.bridges.some(({ linkIndex }) => linkIndex === 32771));
  assert.ok(made.functions.some(({ numaNode }) => numaNode === 0x7fffffff));
  assert.ok(made.unknown.some(({ what }) => what.length > 8000));
  assert.deepEqual(readCapture(writeCapture(made, "2026-01-01T00:00:00Z")), made);
});
