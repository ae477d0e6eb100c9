import assert from "node:assert/strict";
import { test } from "node:test";
import { node, sample } from "../../test/device_tree_sample.js";
import { findNode } from "./path.js";
import { u32Bytes } from "./property.js";
import { readDeviceTree } from "./read.js";
import { reg } from "./reg.js";

const { root } = readDeviceTree(sample("board.dtb"));

function regAt(path: string, parent: string) {
  const [node, above] = [findNode(root, path), findNode(root, parent)];
  assert.ok(node && above);
  return reg(node, above);
}

test("addresses and sizes have the cells the parent says", () => {
  assert.deepEqual(regAt("/memory@0", "/"), [
    { address: 0n, size: 0x80000000n },
    { address: 0x200000000000n, size: 0x1000000000n },
  ]);
  assert.deepEqual(regAt("/cpus/cpu@10", "/cpus"), [{ address: 0x10n, size: 0n }]);
  const pci = node("pci", { "#address-cells": u32Bytes(3), "#size-cells": u32Bytes(2) });
  const bar = node("gpu", { reg: u32Bytes(0x02000000, 1, 2, 0, 4) });
  assert.deepEqual(reg(bar, pci), [{ address: 0x02000000_00000001_00000002n, size: 4n }]);
});

test("without cell counts an address has two cells and a size one", () => {
  assert.deepEqual(reg(node("x", { reg: u32Bytes(1, 2, 3) }), node("")), [{ address: 0x100000002n, size: 3n }]);
});

test("no reg is no entries", () => assert.deepEqual(reg(node("x"), node("")), []));

test("a reg that is no whole number of entries is an error", () => {
  const wrong = (parent: Record<string, Uint8Array>, value: Uint8Array) =>
    assert.throws(() => reg(node("x", { reg: value }), node("", parent)), { code: "EFDT_VALUE" });
  wrong({}, u32Bytes(1, 2));
  wrong({}, Uint8Array.of(1, 2, 3));
  wrong({ "#address-cells": u32Bytes(0), "#size-cells": u32Bytes(0) }, u32Bytes(1));
  wrong({ "#address-cells": u32Bytes(5) }, u32Bytes(1, 2, 3, 4, 5, 6));
  wrong({ "#size-cells": u32Bytes(0xffffffff) }, u32Bytes(1, 2, 3));
  wrong({ "#size-cells": u32Bytes(1, 1) }, u32Bytes(1, 2, 3));
});
