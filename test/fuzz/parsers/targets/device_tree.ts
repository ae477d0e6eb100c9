import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { runFirmware } from "../../../../src/cli/command/firmware.js";
import { DeviceTreeError } from "../../../../src/devicetree/error.js";
import { readDeviceTree } from "../../../../src/devicetree/read.js";
import type { DeviceTree, DeviceTreeNode } from "../../../../src/devicetree/tree.js";
import { writeDeviceTree } from "../../../../src/devicetree/write.js";
import { MachineError } from "../../../../src/machine/error.js";
import { needsProbe, probeNvlink } from "../../../../src/machine/firmware.js";
import { machineFromDeviceTree } from "../../../../src/machine/from_device_tree.js";
import type { Random } from "../../random.js";
import { inputFile, runCommand, useMachine } from "../commands.js";
import { BYTE_MUTATIONS } from "../mutation.js";
import { samples } from "../samples.js";
import { Finding, type MakeTarget, readOrRefused } from "../target.js";
import { copyOf, TREE_MUTATIONS } from "../tree_mutation.js";

const NAME = "input.dtb";

/** Flattened device trees, and the machines that are made of them. */
export const makeTarget: MakeTarget = (directory) => ({
  modules: ["/src/devicetree/", "/src/machine/from_device_tree", "/src/machine/firmware"],
  seeds: () => [...blobs(), unprobed()],
  mutations: [...BYTE_MUTATIONS, ...TREE_MUTATIONS, ...TREE_MUTATIONS],
  grown,
  async run(input, use) {
    const tree = readOrRefused(() => readDeviceTree(input), DeviceTreeError);
    if (tree === undefined) return false;
    checkRoundTrip(tree);
    if (needsProbe(tree)) readOrRefused(() => checkWritten(probeNvlink(tree)), MachineError, DeviceTreeError);
    const make = () => machineFromDeviceTree(tree, `device tree ${NAME}`);
    const machine = readOrRefused(make, MachineError, DeviceTreeError);
    if (machine === undefined) return false;
    await useMachine(machine, () => ({ deviceTree: inputFile(directory, input) }), use);
    if (use === "commands" && needsProbe(tree)) await checkFirmware(directory);
    return true;
  },
});

function checkRoundTrip(tree: DeviceTree): void {
  if (!isDeepStrictEqual(checkWritten(tree), tree)) throw new Finding("what is written reads back as another tree");
}

/** @returns what is read back of a tree that is written */
function checkWritten(tree: DeviceTree): DeviceTree {
  const bytes = written(tree);
  const again = readDeviceTree(bytes);
  if (!isDeepStrictEqual(written(again), bytes)) throw new Finding("what is read back is written in another way");
  return again;
}

function written(tree: DeviceTree): Uint8Array {
  try {
    return writeDeviceTree(tree);
  } catch (error) {
    throw new Finding(`a tree that was read cannot be written: ${error instanceof Error ? error.message : error}`);
  }
}

/** Has `linkfence firmware` complete the tree in {@link inputFile}. */
async function checkFirmware(directory: string): Promise<void> {
  const options = { deviceTree: join(directory, "input"), out: join(directory, "full.dtb"), json: true };
  await runCommand({ run: () => runFirmware(options).then(() => 0), schema: "firmware" }, {});
}

function blobs(): Uint8Array[] {
  return samples("devicetree").filter((bytes) => bytes[0] === 0xd0);
}

/** The tree of a socket as it was before PCI was probed. */
function unprobed(): Uint8Array {
  const tree = readDeviceTree(blobs().at(-1) ?? new Uint8Array());
  const isProbed = ({ properties }: DeviceTreeNode) =>
    properties.has("vendor-id") || Buffer.from(properties.get("compatible") ?? []).includes("npu-pciex");
  const before = (node: DeviceTreeNode): DeviceTreeNode => {
    return { ...node, children: node.children.filter((child) => !isProbed(child)).map(before) };
  };
  return writeDeviceTree({ ...tree, root: before(tree.root) });
}

/** The tree of a socket with its nodes copied until it is large enough. */
function grown(random: Random, size: number): Uint8Array {
  const seed = blobs().at(-1) ?? new Uint8Array();
  const tree = readDeviceTree(seed);
  const parents = [tree.root, ...tree.root.children].filter(({ children }) => children.length > 0);
  const originals = parents.flatMap((parent) =>
    parent.children.map((node) => ({ parent, node: copyOf(node, random) })),
  );
  for (let count = size / (2 * seed.length); count > 0; count--) {
    for (const { parent, node } of originals) parent.children.push(copyOf(node, random));
  }
  return writeDeviceTree(tree);
}
