import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { DeviceTreeError, type DeviceTreeErrorCode } from "../../src/devicetree/error.js";
import { walk } from "../../src/devicetree/path.js";
import { readDeviceTree } from "../../src/devicetree/read.js";
import type { DeviceTree, DeviceTreeNode } from "../../src/devicetree/tree.js";
import { writeDeviceTree } from "../../src/devicetree/write.js";
import type { Check } from "./check.js";
import { damagedTrees } from "./damaged_tree.js";
import { assertGot } from "./fdtget.js";
import { flatten, layouts } from "./flattened.js";
import { asDeviceTree, generatedTrees } from "./generated_tree.js";
import { readPrintedSource } from "./printed_source.js";
import { printedTree, printSource, run } from "./programs.js";
import type { Tally } from "./tally.js";
import { ways, writeSource } from "./written_source.js";

/** Trees laid out as anybody may: our reader against dtc and fdtget, and both against what our writer makes of them. */
export const flattenedTrees: Check = (directory, tally) =>
  fc.property(generatedTrees, layouts, (tree, layout) => {
    const [file, written] = [join(directory, "tree.dtb"), join(directory, "written.dtb")];
    const bytes = flatten(tree, layout);
    writeFileSync(file, bytes);
    const ours = readDeviceTree(bytes);
    assert.deepEqual(ours, asDeviceTree(tree), "our reader");
    const { source } = assertPrinted(file, ours);
    for (const version of ["16", "17"]) {
      const made = readDeviceTree(run("dtc", ["-q", "-V", version, "-I", "dtb", "-O", "dtb", file]));
      assert.deepEqual(made, withoutNames(ours), `dtc -V ${version}`);
    }
    const hasNops = layout.nops.some((count) => count > 0);
    const others = assertGot(file, ours, hasNops);
    writeFileSync(written, writeDeviceTree(ours));
    assert.equal(printedTree(written).source, source, "dtc prints what is written");
    assertGot(written, ours, false);
    tally.add("flattened trees", 1);
    count(tally, ours);
    tally.add("nodes of which fdtget finds another", others);
  });

/** Source as people write it, compiled by dtc: we read what it says. */
export const compiledTrees: Check = (_, tally) =>
  fc.property(generatedTrees, ways, (tree, way) => {
    const args = ["-q", "-b", `${tree.bootCpu}`, "-I", "dts", "-O", "dtb", "-"];
    const compiled = run("dtc", args, writeSource(tree, way));
    const ours = readDeviceTree(compiled);
    assert.deepEqual(ours, withoutNames(asDeviceTree(tree)));
    tally.add("compiled sources", 1);
    count(tally, ours);
  });

/** Damaged trees: taken by both and the same to both, or refused by both, or refused for a reason that the other has not. */
export const brokenTrees: Check = (directory, tally) =>
  fc.property(damagedTrees, (bytes) => {
    const file = join(directory, "damaged.dtb");
    writeFileSync(file, bytes);
    const ours = readOrRefuse(bytes);
    const theirs = printSource(file);
    const what =
      "refused" in ours
        ? `refused by ${"refused" in theirs ? "both" : "us"}`
        : "refused" in theirs
          ? "refused by dtc"
          : "taken by both";
    tally.add(`damaged trees ${what}`, 1);
    if ("refused" in ours) {
      assert.ok("refused" in theirs || STRICTER.has(ours.refused.code), `dtc takes it; ${ours.refused.message}`);
      return;
    }
    // Only what it lists stops at a NOP, so nothing is listed of these.
    assertGot(file, ours.tree, true);
    if ("refused" in theirs) assert.match(theirs.refused, TIDIER, "we take what dtc refuses");
    else assert.deepEqual(readPrintedSource(theirs.source), withoutBootCpu(withoutNames(ours.tree)), "dtc prints");
  });

/** What dtc does not look at: names longer than a file name, where blocks are, how deep nodes are, what a tree says of its version. */
const STRICTER: ReadonlySet<DeviceTreeErrorCode> = new Set([
  "EFDT_NAME",
  "EFDT_OVERLAP",
  "EFDT_BOUNDS",
  "EFDT_UNTERMINATED",
  "EFDT_TRUNCATED",
  "EFDT_VERSION",
  "EFDT_DEPTH",
]);

/** What dtc wants of source that people write, and firmware does not keep to: fewer characters in names, a name that fits. */
const TIDIER = /ERROR \((property_name_chars|node_name_chars|node_name_format|name_properties|name_is_string)\)/;

function readOrRefuse(bytes: Uint8Array): { tree: DeviceTree } | { refused: DeviceTreeError } {
  try {
    return { tree: readDeviceTree(bytes) };
  } catch (error) {
    if (error instanceof DeviceTreeError) return { refused: error };
    throw error;
  }
}

function assertPrinted(file: string, ours: DeviceTree): { source: string } {
  const { root, reservations, source } = printedTree(file);
  assert.deepEqual({ root, reservations }, withoutBootCpu(withoutNames(ours)), "dtc prints");
  return { source };
}

function withoutBootCpu({ root, reservations }: DeviceTree): Omit<DeviceTree, "bootCpu"> {
  return { root, reservations };
}

/** dtc leaves out a name property that says what the node is named. */
function withoutNames(tree: DeviceTree): DeviceTree {
  const strip = ({ name, properties, children }: DeviceTreeNode): DeviceTreeNode => {
    const left = new Map(properties);
    left.delete("name");
    return { name, properties: left, children: children.map(strip) };
  };
  return { ...tree, root: strip(tree.root) };
}

function count(tally: Tally, { root, reservations }: DeviceTree): void {
  tally.add("reservations", reservations.length);
  for (const { node } of walk(root)) {
    tally.add("nodes", 1);
    tally.add("properties", node.properties.size);
  }
}
