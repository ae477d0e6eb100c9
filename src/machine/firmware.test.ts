import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findNode, walk } from "../devicetree/path.js";
import { phandleIndex } from "../devicetree/phandle.js";
import { cells, text, textBytes, texts, u32, u32Bytes, u64, u64s } from "../devicetree/property.js";
import { readDeviceTree } from "../devicetree/read.js";
import type { DeviceTree, DeviceTreeNode } from "../devicetree/tree.js";
import { writeDeviceTree } from "../devicetree/write.js";
import { MachineError } from "./error.js";
import { needsProbe, probeNvlink, witherspoonBoard } from "./firmware.js";

const OP920 = new URL("../../../shared/data/op920.wsp.dtb", import.meta.url);
const noOp920 = existsSync(OP920) ? false : "../shared/data/op920.wsp.dtb is not there";
const noDtc = spawnSync("dtc", ["--version"]).error === undefined ? noOp920 : "dtc is not installed";

const op920 = () => readDeviceTree(readFileSync(OP920));

function node(name: string, properties: Record<string, Uint8Array>, children: DeviceTreeNode[] = []): DeviceTreeNode {
  return { name, properties: new Map(Object.entries(properties)), children };
}

/** What an AC922's boot firmware must at least say: two chips with an NPU each, `groups` being the links' groups. */
function firmwareTree(groups: readonly number[], labels: readonly (readonly string[])[]): DeviceTree {
  const chips = [0, 8].map((chip, socket) =>
    node(`xscom@${chip}`, { compatible: textBytes("ibm,xscom"), "ibm,chip-id": u32Bytes(chip) }, [
      node(
        "npu@5011000",
        { compatible: textBytes("ibm,power9-npu"), "ibm,npu-index": u32Bytes(socket), reg: u32Bytes(0x5011000, 0x2c) },
        groups.map((group, index) =>
          node(`link@${index}`, {
            compatible: textBytes("ibm,npu-link"),
            "ibm,npu-link-index": u32Bytes(index),
            "ibm,npu-group-id": u32Bytes(group),
            "ibm,slot-label": textBytes(labels[socket]?.[group] ?? ""),
            "nvidia,link-speed": u32Bytes(9),
          }),
        ),
      ),
    ]),
  );
  const root = node("", { compatible: textBytes("ibm,powernv", "ibm,witherspoon") }, chips);
  return { root, reservations: [], bootCpu: 0 };
}

const redbud = () =>
  firmwareTree(
    [0, 0, 0, 1, 1, 1],
    [
      ["GPU0", "GPU1"],
      ["GPU3", "GPU4"],
    ],
  );
const sequoia = () =>
  firmwareTree(
    [0, 0, 1, 1, 2, 2],
    [
      ["GPU0", "GPU1", "GPU2"],
      ["GPU3", "GPU4", "GPU5"],
    ],
  );

function at(tree: DeviceTree, path: string): DeviceTreeNode {
  const found = findNode(tree.root, path);
  assert.ok(found, `no node ${path}`);
  return found;
}

/** The node's peers by path. */
function peers(tree: DeviceTree, path: string): string[] {
  const index = phandleIndex(tree);
  return (cells(at(tree, path), "ibm,nvlink-peers") ?? []).map((phandle) => index.get(phandle)?.path ?? "none");
}

const GPU0 = "/pciex@600c3c0400000/pci@0/pci@0/pci@a/3d-controller@0";
const GPU1 = "/pciex@600c3c0400000/pci@0/pci@0/pci@b/3d-controller@0";
const GPU2 = "/pciex@600c3c0400000/pci@0/pci@0/pci@c/3d-controller@0";
const GPU3 = "/pciex@620c3c0500000/pci@0/pci@0/pci@4/3d-controller@0";
const NPU0 = "/pciex@6030200000000";
const NPU1 = "/pciex@6230200000000";

test("a tree from before the probe needs one, and what the probe makes of it needs none", () => {
  for (const tree of [redbud(), sequoia()]) {
    assert.equal(needsProbe(tree), true);
    const full = probeNvlink(tree);
    assert.equal(needsProbe(full), false);
    assert.equal(probeNvlink(full), full);
  }
});

test("a tree of another machine, or without NPU links, is returned as it is", () => {
  const other = redbud();
  other.root.properties.set("compatible", textBytes("ibm,powernv"));
  const linkless = firmwareTree([], []);
  for (const tree of [other, linkless]) {
    assert.equal(needsProbe(tree), false);
    assert.equal(probeNvlink(tree), tree);
  }
});

test("the highest GPU group tells the boards apart", () => {
  assert.equal(witherspoonBoard(redbud()), "redbud");
  assert.equal(witherspoonBoard(sequoia()), "sequoia");
  assert.equal(witherspoonBoard(firmwareTree([0, 0], [["GPU0"], ["GPU1"]])), undefined);
  assert.equal(witherspoonBoard(firmwareTree([0, 3], [["GPU0"], ["GPU1"]])), undefined);
});

test("the probe leaves its input unchanged", () => {
  const tree = redbud();
  const before = writeDeviceTree(tree);
  probeNvlink(tree);
  assert.deepEqual(writeDeviceTree(tree), before);
});

test("every phandle of the full tree is its own, and every reference leads somewhere", () => {
  const full = readDeviceTree(writeDeviceTree(probeNvlink(sequoia())));
  const index = phandleIndex(full);
  const references = ["ibm,npu", "ibm,nvlink-peers", "ibm,gpu", "ibm,nvlink", "memory-region", "ibm,npcq"];
  let seen = 0;
  for (const { node, path } of walk(full.root)) {
    for (const name of references) {
      for (const phandle of cells(node, name) ?? []) {
        assert.ok(index.has(phandle), `${path} ${name}`);
        seen++;
      }
    }
  }
  // Per GPU 2 bridges and 6 peers, per bridge 3 references, per NPU host bridge its NPU.
  assert.equal(seen, 6 * (2 + 6) + 12 * 3 + 2);
});

test("a Redbud's GPUs are wired to each other and to three bridges each", () => {
  const full = probeNvlink(redbud());
  const bridge = (unit: string) => `${NPU0}/unknown-bridge@${unit}`;
  assert.deepEqual(peers(full, GPU0), [GPU1, bridge("0"), GPU1, bridge("0,1"), GPU1, bridge("0,2")]);
  assert.deepEqual(peers(full, GPU1), [GPU0, bridge("1"), GPU0, bridge("1,1"), GPU0, bridge("1,2")]);
  assert.equal(cells(at(full, GPU0), "ibm,npu")?.length, 3);
});

test("a Sequoia's GPUs are wired as its board is", () => {
  const full = probeNvlink(sequoia());
  const bridge = (unit: string) => `${NPU0}/unknown-bridge@${unit}`;
  assert.deepEqual(peers(full, GPU0), [GPU1, bridge("0"), GPU2, GPU2, GPU1, bridge("0,1")]);
  assert.deepEqual(peers(full, GPU1), [GPU0, bridge("1"), GPU2, GPU2, GPU0, bridge("1,1")]);
  assert.deepEqual(peers(full, GPU2), [GPU1, GPU0, GPU1, bridge("2"), GPU0, bridge("2,1")]);
});

test("NPU host bridges get the lowest free domains, 6 and 7 where all six of chip 0 are in use", () => {
  const full = probeNvlink(redbud());
  assert.equal(u64(at(full, NPU0), "ibm,opal-phbid"), 6n);
  assert.equal(u64(at(full, NPU1), "ibm,opal-phbid"), 7n);
  assert.equal(u64(at(full, "/pciex@620c3c0500000"), "ibm,opal-phbid"), 0x35n);
});

test("ATSD registers are 64 KiB apart in the NPU's registers, eight of them", () => {
  const full = probeNvlink(redbud());
  const registers = u64s(at(full, NPU1), "ibm,mmio-atsd");
  assert.deepEqual(
    registers,
    Array.from({ length: 8 }, (_, n) => 0x6230200800000n + BigInt(n) * 0x10000n),
  );
});

test("GPU memory is a 128 GiB window that stays offline, one node below the other for NUMA", () => {
  const full = probeNvlink(sequoia());
  const memory = at(full, "/memory@3a000000000");
  assert.deepEqual(u64s(memory, "reg"), [0x3a000000000n, 0x2000000000n]);
  assert.deepEqual(u64s(memory, "linux,usable-memory"), [0x3a000000000n, 0n]);
  assert.deepEqual(texts(memory, "compatible"), ["ibm,coherent-device-memory"]);
  assert.equal(u32(memory, "ibm,chip-id"), 253);
  assert.deepEqual(cells(memory, "ibm,associativity"), [4, 253, 253, 253, 253]);
  assert.equal(u64(at(full, `${NPU1}/unknown-bridge@0`), "ibm,device-tgt-addr"), 0xbe000000000n);
});

test("a bridge carries its link's speed and label", () => {
  const bridge = at(probeNvlink(redbud()), `${NPU1}/unknown-bridge@1,2`);
  assert.equal(u32(bridge, "ibm,nvlink-speed"), 9);
  assert.equal(text(bridge, "ibm,loc-code"), "GPU4");
  assert.deepEqual([u32(bridge, "vendor-id"), u32(bridge, "device-id")], [0x1014, 0x4ea]);
});

test("a board of unknown wiring gets bridges and GPUs, and no peers", () => {
  const tree = firmwareTree([0, 0, 3], [["GPU0"], ["GPU3"]]);
  tree.root.children.push(
    node("ibm,pcie-slots", {}, [
      node("root-complex@0,4", { compatible: textBytes("ibm,pcie-port", "ibm,pcie-root-port"), reg: u32Bytes(0, 4) }, [
        node("switch-up@10b5,8725", { reg: u32Bytes(0x10b5, 0x8725) }, [
          node("down-port@a", {
            compatible: textBytes("ibm,pcie-port"),
            reg: u32Bytes(0xa),
            "ibm,slot-label": textBytes("GPU0"),
          }),
        ]),
      ]),
    ]),
  );
  const full = probeNvlink(tree);
  assert.equal(cells(at(full, GPU0), "ibm,npu")?.length, 2);
  assert.equal(at(full, GPU0).properties.has("ibm,nvlink-peers"), false);
  // GPU3 has no slot in this tree: its bridges are there and lead to no GPU.
  assert.equal(at(full, `${NPU1}/unknown-bridge@0`).properties.has("ibm,gpu"), false);
});

test("a host bridge that is disabled has no GPUs behind it, and its domain is free", () => {
  const tree = redbud();
  const stack = (index: number, status: string) =>
    node(`stack@${index}`, {
      compatible: textBytes("ibm,power9-phb-stack"),
      "ibm,phb-index": u32Bytes(index),
      status: textBytes(status),
    });
  const stacks = [0, 1, 2, 3, 4, 5].map((index) => stack(index, index === 4 ? "disabled" : "okay"));
  tree.root.children[0]?.children.push(node("pbcq@4010c00", {}, stacks));
  const full = probeNvlink(tree);
  assert.equal(findNode(full.root, "/pciex@600c3c0400000"), undefined);
  assert.equal(u64(at(full, NPU0), "ibm,opal-phbid"), 4n);
});

test("links that cannot be placed are refused with their path", () => {
  const damaged = (damage: (link: DeviceTreeNode) => void) => {
    const tree = redbud();
    damage(at(tree, "/xscom@8/npu@5011000/link@3"));
    return () => probeNvlink(tree);
  };
  const set = (name: string, value: number) => damaged(({ properties }) => properties.set(name, u32Bytes(value)));
  const error = (pattern: RegExp) => (thrown: unknown) =>
    thrown instanceof MachineError && pattern.test(thrown.message);
  assert.throws(set("ibm,npu-group-id", 6), error(/xscom@8\/npu@5011000\/link@3: ibm,npu-group-id is 6/));
  assert.throws(set("ibm,npu-link-index", 6), error(/link@3: ibm,npu-link-index is 6/));
  assert.throws(set("ibm,npu-link-index", 2), error(/two links with ibm,npu-link-index 2/));
  const withoutIndex = damaged(({ properties }) => properties.delete("ibm,npu-link-index"));
  assert.throws(withoutIndex, error(/ibm,npu-link-index is missing/));
});

test("a seventh link, a second NPU on a chip and a chip beyond the memory map are refused", () => {
  const seven = firmwareTree(
    [0, 0, 0, 1, 1, 1, 1],
    [
      ["GPU0", "GPU1"],
      ["GPU3", "GPU4"],
    ],
  );
  assert.throws(() => probeNvlink(seven), MachineError);
  const twin = redbud();
  at(twin, "/xscom@8").properties.set("ibm,chip-id", u32Bytes(0));
  assert.throws(() => probeNvlink(twin), MachineError);
  const far = redbud();
  at(far, "/xscom@8").properties.set("ibm,chip-id", u32Bytes(128));
  assert.throws(() => probeNvlink(far), MachineError);
});

test("a real Redbud's tree gets its PCI nodes and nothing else changes", { skip: noOp920 }, () => {
  const tree = op920();
  const full = probeNvlink(tree);
  const paths = new Set([...walk(tree.root)].map(({ path }) => path));
  const added = [...walk(full.root)].map(({ path }) => path).filter((path) => !paths.has(path));
  assert.equal(added.filter((path) => path.includes("3d-controller")).length, 4);
  assert.equal(added.filter((path) => path.includes("unknown-bridge")).length, 12);
  assert.equal(added.filter((path) => path.startsWith("/memory@")).length, 4);
  assert.equal(
    text(at(full, "/pciex@600c3c0400000/pci@0/pci@0/pci@a"), "ibm,slot-location-code"),
    "UOPWR.7887E6A-Node0-GPU0",
  );
  assert.deepEqual(cells(at(full, "/pciex@620c3c0500000"), "ibm,associativity"), [4, 0, 0, 2, 8]);
  for (const { node, path } of walk(tree.root)) {
    for (const [name, value] of node.properties) {
      assert.deepEqual(at(full, path).properties.get(name), value, `${path} ${name}`);
    }
  }
});

test("dtc reads the written tree without a new complaint and fdtget finds what was written", { skip: noDtc }, () => {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-firmware-"));
  try {
    const out = join(folder, "full.dtb");
    writeFileSync(out, writeDeviceTree(probeNvlink(op920())));
    const dtc = (file: string) => spawnSync("dtc", ["-I", "dtb", "-O", "dts", "-o", join(folder, "out.dts"), file]);
    const written = dtc(out);
    assert.equal(written.status, 0, String(written.stderr));
    assert.doesNotMatch(String(written.stderr), /pciex@|memory@3[ce]/);
    const get = (...args: string[]) => execFileSync("fdtget", args, { encoding: "utf8" }).trim();
    assert.equal(get("-t", "x", out, GPU3, "vendor-id"), "10de");
    assert.equal(get("-t", "x", out, "/memory@23e000000000", "reg"), "23e0 0 20 0");
    assert.equal(get(out, `${NPU1}/unknown-bridge@0`, "ibm,loc-code"), "GPU3");
    assert.equal(get("-t", "x", out, NPU0, "ibm,mmio-atsd").split(" ").slice(-2).join(" "), "60302 870000");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
