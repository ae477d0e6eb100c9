import assert from "node:assert/strict";
import { type PlacedNode, walk } from "../../src/devicetree/path.js";
import { cells, texts } from "../../src/devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../../src/devicetree/tree.js";
import { run } from "./programs.js";

/** Levels of nodes that fdtget lists; it gives up where there are more. */
const LISTED_LEVELS = 32;

/**
 * Compares every property of every node with what fdtget gets of it: as bytes, as numbers where it can be, as strings where
 * it can be; and which properties and children each node has.
 * @param hasNops where there are any: a NOP ends what fdtget lists
 * @returns how many nodes could not be compared, because fdtget finds another one at their path
 */
export function assertGot(file: string, { root }: DeviceTree, hasNops: boolean): number {
  const all = [...walk(root)];
  const nodes = all.filter(({ path }) => isFound(root, path));
  if (!hasNops) {
    const names = nodes.flatMap(({ node }) => [...node.properties.keys()]);
    assert.deepEqual(
      got(
        ["-p"],
        file,
        nodes.map(({ path }) => path),
      ),
      names,
      "fdtget -p",
    );
  }
  if (!hasNops && levels(root) < LISTED_LEVELS) {
    const names = nodes.flatMap(({ node }) => node.children.map(({ name }) => name));
    assert.deepEqual(
      got(
        ["-l"],
        file,
        nodes.map(({ path }) => path),
      ),
      names,
      "fdtget -l",
    );
  }
  const properties = nodes.flatMap(({ node, path }) =>
    [...node.properties].map(([name, value]) => ({ node, path, name, value })),
  );
  const compare = (type: string, print: (property: (typeof properties)[number]) => string | undefined) => {
    const printed = properties
      .map((property) => ({ ...property, text: print(property) }))
      .filter(({ text }) => text !== undefined);
    const found = got(
      ["-t", type],
      file,
      printed.flatMap(({ path, name }) => [path, name]),
    );
    assert.deepEqual(
      found,
      printed.map(({ text }) => text),
      `fdtget -t ${type}`,
    );
  };
  compare("bx", ({ value }) => [...value].map((byte) => byte.toString(16)).join(" "));
  for (const [type, base] of [
    ["x", 16],
    ["u", 10],
  ] as const) {
    compare(type, ({ node, name, value }) => {
      return value.length % 4 === 0
        ? cells(node, name)
            ?.map((cell) => cell.toString(base))
            .join(" ")
        : undefined;
    });
  }
  compare("s", ({ node, name }) => stringsOf(node, name)?.join(" "));
  return all.length - nodes.length;
}

function stringsOf(node: DeviceTreeNode, name: string): string[] | undefined {
  try {
    return texts(node, name);
  } catch {
    return undefined;
  }
}

/** libfdt takes the first child `link@0` for `link`, where we take the one that is named so. */
function isFound(root: DeviceTreeNode, path: PlacedNode["path"]): boolean {
  let node = root;
  for (const name of path.split("/").filter((each) => each !== "")) {
    const isTaken = (child: DeviceTreeNode) =>
      child.name === name || (!name.includes("@") && child.name.startsWith(`${name}@`));
    const first = node.children.find(isTaken);
    if (first?.name !== name) return false;
    node = first;
  }
  return true;
}

function levels(node: DeviceTreeNode): number {
  return 1 + Math.max(0, ...node.children.map(levels));
}

function got(options: readonly string[], file: string, of: readonly string[]): string[] {
  if (of.length === 0) return [];
  return run("fdtget", [...options, "--", file, ...of])
    .toString("utf8")
    .split("\n")
    .slice(0, -1);
}
