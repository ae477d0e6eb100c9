import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { machineTreePath, missing, output, samplePath } from "../../test/device_tree_sample.js";
import { walk } from "./path.js";
import { text } from "./property.js";
import { readDeviceTree } from "./read.js";
import { writeDeviceTree } from "./write.js";

// Whether this reader and writer agree with the device tree compiler's programs on the same trees.

const directory = mkdtempSync(join(tmpdir(), "linkfence-devicetree-"));
after(() => rmSync(directory, { recursive: true }));

const noDtc = missing("dtc");
const noFdtget = missing("fdtget");
const noFdtdump = missing("fdtdump");

const TREES = [
  ["a board", samplePath("board.dtb")],
  ["a board in version 16", samplePath("board-version-16.dtb")],
  ["a Witherspoon", machineTreePath("op920.wsp.dtb")],
  ["an emulated POWER9", machineTreePath("powernv9-skiboot.dtb")],
] as const;

function written(path: string): Buffer {
  return Buffer.from(writeDeviceTree(readDeviceTree(readFileSync(path))));
}

function source(bytes: Uint8Array, ...options: string[]): string {
  return output("dtc", ["-q", ...options, "-I", "dtb", "-O", "dts", "-"], bytes).toString();
}

for (const [name, path] of TREES) {
  const absent = path === undefined ? "its tree is not at hand" : false;
  const at = path ?? "";

  test(`${name}: dtc prints what is written as it prints what was read`, { skip: absent || noDtc }, () => {
    const [before, now] = [readFileSync(at), written(at)];
    assert.equal(source(now), source(before));
    assert.equal(source(now, "-s"), source(before, "-s"));
  });

  test(`${name}: what dtc makes of the tree reads the same`, { skip: absent || noDtc }, () => {
    const tree = readDeviceTree(readFileSync(at));
    for (const { node } of walk(tree.root)) {
      // dtc drops a name property that repeats the node's name.
      if (text(node, "name") === node.name.replace(/@.*/, "")) node.properties.delete("name");
    }
    for (const version of ["16", "17"]) {
      const dtb = output("dtc", ["-q", "-V", version, "-I", "dtb", "-O", "dtb", "-"], readFileSync(at));
      assert.deepEqual(readDeviceTree(dtb), tree);
    }
  });

  test(`${name}: fdtdump finds the reservations and the header that were read`, { skip: absent || noFdtdump }, () => {
    const file = join(directory, "written.dtb");
    writeFileSync(file, written(at));
    const { reservations, bootCpu } = readDeviceTree(readFileSync(at));
    const dump = output("fdtdump", [file]).toString();
    const listed = [...dump.matchAll(/^\/memreserve\/ (\S+) (\S+);$/gm)].map(([, address = "", size = ""]) => ({
      address: BigInt(address),
      size: BigInt(size),
    }));
    assert.deepEqual(listed, reservations);
    assert.match(dump, new RegExp(`boot_cpuid_phys:\\s*0x${bootCpu.toString(16)}\n`));
    assert.match(dump, /version:\s*17\n.*last_comp_version:\s*16\n/);
  });
}

test("fdtget lists the same nodes and properties, and the same bytes in each", { skip: noFdtget }, () => {
  const path = samplePath("board.dtb");
  for (const { node, path: at } of walk(readDeviceTree(readFileSync(path)).root)) {
    const lines = (option: string) => output("fdtget", [option, path, at]).toString().split("\n").slice(0, -1);
    assert.deepEqual(lines("-p"), [...node.properties.keys()]);
    assert.deepEqual(
      lines("-l"),
      node.children.map(({ name }) => name),
    );
    for (const [name, value] of node.properties) {
      const shown = output("fdtget", ["-t", "bx", path, at, name]).toString().trim();
      assert.equal(shown, [...value].map((byte) => byte.toString(16)).join(" "), `${at} ${name}`);
    }
  }
});
