import type { DeviceTreeNode, MemoryReservation } from "../../src/devicetree/tree.js";

/**
 * Reads the source that dtc prints of a tree: one property or one brace to a line. It is no parser of what people write.
 * @throws Error for a line it does not know
 */
export function readPrintedSource(source: string): { root: DeviceTreeNode; reservations: MemoryReservation[] } {
  const reservations: MemoryReservation[] = [];
  const open: DeviceTreeNode[] = [];
  let root: DeviceTreeNode | undefined;
  for (const line of source.split("\n").map((each) => each.trim())) {
    if (line === "" || line === "/dts-v1/;") continue;
    const [, address, size] = /^\/memreserve\/\s+(\S+) (\S+);$/.exec(line) ?? [];
    if (address !== undefined && size !== undefined) {
      reservations.push({ address: BigInt(address), size: BigInt(size) });
      continue;
    }
    if (line === "};") {
      open.pop();
      continue;
    }
    const [, begun] = /^(\S+) \{$/.exec(line) ?? [];
    if (begun !== undefined) {
      const node: DeviceTreeNode = { name: begun === "/" ? "" : begun, properties: new Map(), children: [] };
      open.at(-1)?.children.push(node);
      root ??= node;
      open.push(node);
      continue;
    }
    const [, name, value] = /^([^\s=]+?)(?: = (.*))?;$/.exec(line) ?? [];
    if (name === undefined) throw new Error(`dtc prints ${JSON.stringify(line)}`);
    open.at(-1)?.properties.set(name, new Uint8Array(value === undefined ? Buffer.alloc(0) : valueBytes(value)));
  }
  if (root === undefined || open.length > 0) throw new Error("dtc prints half a tree");
  return { root, reservations };
}

function valueBytes(value: string): Buffer {
  const [, cells] = /^<([^>]*)>$/.exec(value) ?? [];
  if (cells !== undefined) {
    const words = Uint32Array.from(
      cells.split(" ").filter((each) => each !== ""),
      Number,
    );
    const bytes = Buffer.alloc(4 * words.length);
    for (const [i, each] of words.entries()) bytes.writeUInt32BE(each, 4 * i);
    return bytes;
  }
  const [, bytes] = /^\[([^\]]*)\]$/.exec(value) ?? [];
  if (bytes !== undefined) return Buffer.from(bytes.replaceAll(" ", ""), "hex");
  if (!/^".*"$/.test(value)) throw new Error(`dtc prints the value ${value}`);
  // Before version 1.7 a list is one string with NULs in it.
  const strings = [...value.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => `${unescaped(text)}\0`);
  return Buffer.from(strings.join(""), "latin1");
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  t: "\t",
  n: "\n",
  v: "\v",
  f: "\f",
  r: "\r",
  "0": "\0",
};

function unescaped(text: string): string {
  return text.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex: string | undefined, other: string) =>
    hex === undefined ? (ESCAPES[other] ?? other) : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
