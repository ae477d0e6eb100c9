import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { machineTreePath } from "../../test/device_tree_sample.js";
import { type Entry, madeUpConfig, madeUpFunction, madeUpHost } from "../../test/made_up_host.js";
import { readDeviceTree } from "../devicetree/read.js";
import type { DeviceTreeNode } from "../devicetree/tree.js";
import { builtinMachine } from "../machine/builtin.js";
import { probeNvlink } from "../machine/firmware.js";
import type { Machine } from "../machine/machine.js";
import { merge } from "./host_device_tree.js";
import { readHost } from "./sysfs_machine.js";

const BASE = "sys/firmware/devicetree/base";

/** A machine as sysfs shows it: the functions of a built-in one that pass, its GPUs without what the tree would say. */
function shownBySysfs(whole: Machine, shows: (address: string) => boolean): Machine {
  const gpus = whole.gpus.filter(({ address }) => shows(address));
  return {
    ...whole,
    virtual: false,
    functions: whole.functions.filter(({ address }) => shows(address)),
    gpus: gpus.map((gpu) => ({ ...gpu, name: gpu.address, links: [], bridges: [], origin: "sysfs" })),
    bridges: [],
    memory: [],
    unknown: [],
  };
}

test("GPUs take labels, links, bridges and memory from the tree by their addresses", () => {
  const tree = builtinMachine("sequoia");
  const merged = merge(
    shownBySysfs(tree, () => true),
    { ...tree, unknown: [] },
    [],
  );
  assert.deepEqual(merged.gpus, tree.gpus);
  assert.deepEqual([merged.bridges, merged.memory, merged.virtual], [tree.bridges, tree.memory, false]);
  assert.deepEqual(merged.unknown, []);
});

test("bridges that Linux does not show stay the links' far ends, and that is said once", () => {
  const tree = builtinMachine("sequoia");
  const hidden = new Set(tree.bridges.map(({ address }) => address));
  const merged = merge(
    shownBySysfs(tree, (address) => !hidden.has(address)),
    { ...tree, unknown: [] },
    [],
  );
  assert.deepEqual(merged.bridges, tree.bridges);
  assert.deepEqual(merged.gpus, tree.gpus);
  assert.ok(merged.functions.every(({ address }) => !hidden.has(address)));
  assert.equal(merged.unknown.length, 1);
  assert.match(merged.unknown[0]?.what ?? "", /12 links/);
});

test("a GPU that Linux does not show is no GPU of the machine, and is said to be in the tree", () => {
  const tree = builtinMachine("sequoia");
  const [gone] = tree.gpus;
  assert.ok(gone);
  const merged = merge(
    shownBySysfs(tree, (address) => address !== gone.address),
    { ...tree, unknown: [] },
    [],
  );
  assert.ok(merged.gpus.every(({ address }) => address !== gone.address));
  assert.equal(merged.memory.length, tree.memory.length - 1);
  assert.match(merged.unknown[0]?.what ?? "", new RegExp(`${gone.name} at ${gone.address}`));
});

test("a label of the tree's names one GPU only", () => {
  const tree = builtinMachine("sequoia");
  const sysfs = shownBySysfs(tree, () => true);
  const [gpu] = sysfs.gpus;
  assert.ok(gpu);
  const added = { ...gpu, address: "0001:01:00.0", name: "GPU0" };
  const merged = merge({ ...sysfs, gpus: [...sysfs.gpus, added] }, tree, []);
  assert.equal(new Set(merged.gpus.map(({ name }) => name)).size, merged.gpus.length);
});

const POWERNV = {
  [`${BASE}/compatible`]: "ibm,witherspoon\0ibm,powernv\0",
  [`${BASE}/#address-cells`]: "\0\0\0\u0002",
};

test("the platform is powernv where the tree's root says so, also by the link in /proc", (t) => {
  assert.equal(readHost(madeUpHost(t, POWERNV)).platform, "powernv");
  const linked = { ...POWERNV, "proc/device-tree": { link: "/sys/firmware/devicetree/base" } };
  assert.equal(readHost(madeUpHost(t, linked)).platform, "powernv");
  const copied = { sys: "folder/", "proc/device-tree/compatible": POWERNV[`${BASE}/compatible`] ?? "" } as const;
  assert.equal(readHost(madeUpHost(t, copied)).platform, "powernv");
  const guest = { [`${BASE}/compatible`]: "linux,dummy-virt\0", "sys/firmware/acpi": "folder/" } as const;
  assert.equal(readHost(madeUpHost(t, guest)).platform, "unknown");
});

test("a device tree that is damaged is said and leaves the rest as it is", (t) => {
  const root = madeUpHost(t, { ...POWERNV, [`${BASE}/a/phandle`]: "123", [`${BASE}/b/phandle`]: "\0\0\0\u0001" });
  const { platform, unknown } = readHost(root);
  assert.equal(platform, "powernv");
  assert.ok(unknown.some(({ what }) => what.startsWith("links, NPU bridges and GPU memory from the device tree:")));
});

const AC922 = machineTreePath("op920.wsp.dtb");

test("an AC922 read from its folders has the links of its device tree", {
  skip: AC922 === undefined && "the tree of an AC922 is not at hand",
}, (t) => {
  const tree = probeNvlink(readDeviceTree(readFileSync(AC922 ?? "")));
  const gpus = ["0004:04:00.0", "0004:05:00.0", "0035:03:00.0", "0035:04:00.0"];
  const config = madeUpConfig({ size: 4096, ids: [0x10de, 0x1db1], classCode: 0x030200 });
  const entries: Record<string, Entry> = {
    ...filesOf(tree.root, BASE),
    "proc/sys/kernel/osrelease": "6.1.0\n",
    ...Object.assign({}, ...gpus.map((address) => madeUpFunction(`pci${address.slice(0, 7)}`, address, { config }))),
  };
  const machine = readHost(madeUpHost(t, entries));
  assert.deepEqual([machine.platform, machine.virtual, machine.kernel?.release], ["powernv", false, "6.1.0"]);
  assert.deepEqual(
    machine.gpus.map(({ name, address, part, links, bridges }) => [name, address, part, links.length, bridges.length]),
    gpus.map((address, i) => [["GPU0", "GPU1", "GPU3", "GPU4"][i], address, "GV100", 6, 3]),
  );
  assert.equal(machine.memory.length, 4);
  assert.ok(machine.unknown.some(({ what }) => what.includes("12 links")));
});

function filesOf(node: DeviceTreeNode, path: string): Record<string, Entry> {
  const entries: Record<string, Entry> = { [path]: "folder/" };
  for (const [name, value] of node.properties) entries[`${path}/${name}`] = value;
  for (const child of node.children) Object.assign(entries, filesOf(child, `${path}/${child.name}`));
  return entries;
}
