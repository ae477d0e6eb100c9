import { closeSync, constants, type Dirent, fstatSync, opendirSync, openSync, readSync } from "node:fs";
import { join, resolve } from "node:path";
import { DeviceTreeError } from "../devicetree/error.js";
import { MAX_DEPTH, MAX_TREE_BYTES } from "../devicetree/limits.js";
import { isName } from "../devicetree/name.js";
import { phandleIndex } from "../devicetree/phandle.js";
import type { DeviceTree, DeviceTreeNode } from "../devicetree/tree.js";
import { errnoInWords, errnoOf } from "./error.js";

/** A device tree as a directory shows it. */
export interface DirectoryDeviceTree extends DeviceTree {
  /** Properties and nodes that could not be read, by path from the root: Linux shows `security-*` to root alone. */
  unreadable: string[];
}

/** One of these is in the root of every device tree. */
const ROOT_PROPERTIES = ["#address-cells", "compatible", "model"];

/** Most files and directories looked at, of whatever kind. A POWER9 host has some 5,000. */
const MAX_ENTRIES = 1 << 18;

/**
 * Reads a device tree from a directory as Linux shows it in `/proc/device-tree`: directories are nodes, files properties.
 * The directory itself may be a symbolic link; below it links, and all that is neither file nor directory, are left out.
 * A directory has no order, so properties come in that of their names, nodes in that of their names and unit addresses
 * (as hexadecimal numbers). A `name` property that repeats the node's name, which Linux adds to every node, is left out,
 * so that the tree is the same as the flattened one. Reservations and the boot CPU are not in a directory: none, and 0.
 * @throws DeviceTreeError EFDT_DIRECTORY when the directory cannot be read or its root has none of `#address-cells`,
 * `compatible` and `model`; EFDT_NAME, EFDT_DEPTH, EFDT_LIMIT, EFDT_PHANDLE and EFDT_DUPLICATE_PHANDLE as for flattened
 * trees.
 */
export function readDeviceTreeDirectory(path: string): DirectoryDeviceTree {
  const reader = new DirectoryReader(resolve(path));
  const tree = { root: reader.read(), reservations: [], bootCpu: 0, unreadable: reader.unreadable };
  phandleIndex(tree);
  return tree;
}

interface WaitingNode {
  node: DeviceTreeNode;
  /** Path from the tree's root, empty for the root. */
  path: string;
  depth: number;
}

class DirectoryReader {
  readonly unreadable: string[] = [];
  #entries = 0;
  #bytes = 0;

  constructor(readonly top: string) {}

  read(): DeviceTreeNode {
    this.#checkRoot();
    const root: DeviceTreeNode = { name: "", properties: new Map(), children: [] };
    const waiting: WaitingNode[] = [{ node: root, path: "", depth: 1 }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      for (const child of this.#fill(next)) waiting.push(child);
    }
    return root;
  }

  /** Looks for three files only, so that a directory that is no tree costs nothing, however much there is in it. */
  #checkRoot(): void {
    const found = ROOT_PROPERTIES.some((name) => {
      try {
        const value = readProperty(join(this.top, name), MAX_TREE_BYTES);
        return name === "#address-cells" ? value?.length === 4 : value?.at(-1) === 0;
      } catch {
        return false;
      }
    });
    if (found) return;
    try {
      opendirSync(this.top).closeSync();
    } catch (error) {
      throw directoryError(error, this.top);
    }
    const problem = `${this.top} holds no device tree: none of ${ROOT_PROPERTIES.join(", ")} is a property in it`;
    throw new DeviceTreeError("EFDT_DIRECTORY", problem);
  }

  /** Reads a node's properties and returns its children, to be filled. */
  #fill({ node, path, depth }: WaitingNode): WaitingNode[] {
    if (depth > MAX_DEPTH) {
      throw new DeviceTreeError("EFDT_DEPTH", `nodes nested deeper than ${MAX_DEPTH} levels in ${this.top}`);
    }
    const { files, directories } = this.#list(path);
    for (const name of files) this.#property(node, path, name);
    node.children = directories.map((name) => ({ name, properties: new Map(), children: [] }));
    return node.children.map((child) => ({ node: child, path: `${path}/${child.name}`, depth: depth + 1 }));
  }

  #property(node: DeviceTreeNode, path: string, name: string): void {
    const file = `${path}/${name}`;
    let value: Uint8Array | undefined;
    try {
      value = readProperty(this.top + file, MAX_TREE_BYTES - this.#bytes);
    } catch (error) {
      if (error instanceof DeviceTreeError) throw error;
      this.unreadable.push(file);
    }
    if (value === undefined) return;
    this.#bytes += value.length;
    const isRedundantName = name === "name" && Buffer.from(value).equals(Buffer.from(`${baseName(node.name)}\0`));
    if (!isRedundantName) node.properties.set(name, value);
  }

  /** The files and directories of a node, in order; an unreadable node below the root is noted and left empty. */
  #list(path: string): { files: string[]; directories: string[] } {
    try {
      const entries = readEntries(this.top + path, MAX_ENTRIES - this.#entries);
      this.#entries += entries.length;
      const names = (wanted: Dirent[]) => wanted.map(({ name }) => checkedName(name, this.top + path));
      return {
        files: names(entries.filter((entry) => entry.isFile())).sort(),
        directories: names(entries.filter((entry) => entry.isDirectory())).sort(compareNodeNames),
      };
    } catch (error) {
      if (error instanceof DeviceTreeError && (error.code !== "EFDT_DIRECTORY" || path === "")) throw error;
      this.unreadable.push(path);
      return { files: [], directories: [] };
    }
  }
}

/**
 * @throws DeviceTreeError EFDT_DIRECTORY when the directory cannot be read, EFDT_LIMIT when it has more entries than
 * `limit`; it is read piecemeal, so that a huge one costs no more than that.
 */
function readEntries(path: string, limit: number): Dirent[] {
  const entries: Dirent[] = [];
  try {
    const directory = opendirSync(path, { bufferSize: 256 });
    try {
      for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
        if (entries.push(entry) > limit) throw new DeviceTreeError("EFDT_LIMIT", `too many files, the last in ${path}`);
      }
    } finally {
      directory.closeSync();
    }
  } catch (error) {
    throw directoryError(error, path);
  }
  return entries;
}

function directoryError(error: unknown, path: string): DeviceTreeError {
  if (error instanceof DeviceTreeError) return error;
  const reason = errnoInWords(errnoOf(error));
  return new DeviceTreeError("EFDT_DIRECTORY", `cannot read the directory ${path}: ${reason}`);
}

function checkedName(name: string, directory: string): string {
  if (isName(name)) return name;
  throw new DeviceTreeError("EFDT_NAME", `${JSON.stringify(name)} in ${directory} cannot be a name`);
}

/**
 * The bytes of a file, or undefined when it is no regular file. Never waits (a FIFO would), never follows a link.
 * @throws DeviceTreeError EFDT_LIMIT when there are more than `limit`.
 */
function readProperty(path: string, limit: number): Uint8Array | undefined {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) return undefined;
    if (stat.size > limit) throw new DeviceTreeError("EFDT_LIMIT", `the tree has too many bytes, the last in ${path}`);
    const value = new Uint8Array(stat.size);
    let filled = 0;
    for (let count = -1; count !== 0 && filled < value.length; filled += count) {
      count = readSync(file, value, filled, value.length - filled, null);
    }
    return value.subarray(0, filled);
  } finally {
    closeSync(file);
  }
}

function baseName(nodeName: string): string {
  return splitName(nodeName)[0];
}

function splitName(nodeName: string): [base: string, unit: string] {
  const at = nodeName.indexOf("@");
  return at === -1 ? [nodeName, ""] : [nodeName.slice(0, at), nodeName.slice(at + 1)];
}

/** Orders siblings by name, then by unit address: hexadecimal numbers with commas between them. */
function compareNodeNames(a: string, b: string): number {
  const [baseA, unitA] = splitName(a);
  const [baseB, unitB] = splitName(b);
  return compareText(baseA, baseB) || compareText(sortableUnit(unitA), sortableUnit(unitB)) || compareText(a, b);
}

/** Pads each number, so that comparing texts compares numbers. */
function sortableUnit(unit: string): string {
  return unit
    .split(",")
    .map((number) => number.padStart(16, "0"))
    .join(",");
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
