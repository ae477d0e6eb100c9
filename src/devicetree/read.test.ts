import assert from "node:assert/strict";
import { test } from "node:test";
import { sample } from "../../test/device_tree_sample.js";
import { DeviceTreeError } from "./error.js";
import { MAX_DEPTH } from "./limits.js";
import { findNode, walk } from "./path.js";
import { readDeviceTree } from "./read.js";

const BOARD = sample("board.dtb");

function damage(bytes: Uint8Array): { code: string; offset: number | undefined } {
  try {
    readDeviceTree(bytes);
  } catch (error) {
    assert.ok(error instanceof DeviceTreeError, String(error));
    assert.doesNotMatch(error.message, /\n/);
    return { code: error.code, offset: error.offset };
  }
  return { code: "none", offset: undefined };
}

/** The board with one 32-bit word of its header or structure changed. */
function withWord(offset: number, value: number): Uint8Array {
  const bytes = BOARD.slice();
  new DataView(bytes.buffer).setUint32(offset, value);
  return bytes;
}

function words(...values: (number | string)[]): number[] {
  return values.flatMap((value) => {
    if (typeof value === "number") return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
    const bytes = [...Buffer.from(`${value}\0`, "latin1")];
    return [...bytes, ...new Array<number>(-bytes.length & 3).fill(0)];
  });
}

const [BEGIN, END_NODE, PROPERTY, NOP, END] = [1, 2, 3, 4, 9];
/** Where {@link tree} puts its structure block. */
const START = 56;

/** A version 17 tree around the words of a structure block; strings: `a` at 0, `phandle` at 2, `linux,phandle` at 10. */
function tree(...structure: (number | string)[]): Uint8Array {
  return treeWithStrings("a\0phandle\0linux,phandle\0", structure);
}

function treeWithStrings(strings: string, structure: (number | string)[]): Uint8Array {
  const body = words(...structure);
  const end = START + body.length;
  const header = words(0xd00dfeed, end + strings.length, START, end, 40, 17, 16, 0, strings.length, body.length);
  return Uint8Array.from([...header, ...words(0, 0, 0, 0), ...body, ...Buffer.from(strings, "latin1")]);
}

test("a tree is read with its names, values, order, reservations and boot CPU", () => {
  const { root, reservations, bootCpu } = readDeviceTree(BOARD);
  assert.equal(bootCpu, 8);
  assert.deepEqual(reservations, [
    { address: 0x31000000n, size: 0xc10000n },
    { address: 0x203ffd800000n, size: 0x400000n },
  ]);
  assert.deepEqual(
    [...root.properties.keys()],
    ["#address-cells", "#size-cells", "compatible", "model", "serial", "empty"],
  );
  assert.deepEqual(root.properties.get("serial"), Uint8Array.of(0, 1, 2, 0xff, 0xfe));
  assert.deepEqual(root.properties.get("empty"), new Uint8Array());
  assert.deepEqual(
    [...walk(root)].map(({ path }) => path),
    [
      "/",
      "/chosen",
      "/cpus",
      "/cpus/cpu@8",
      "/cpus/cpu@10",
      "/memory@0",
      "/npu@5011000",
      "/npu@5011000/link@0",
      "/npu@5011000/link@1",
      "/power-mgt",
    ],
  );
});

test("version 16, which does not say its structure's size, reads as version 17", () => {
  assert.deepEqual(readDeviceTree(sample("board-version-16.dtb")), readDeviceTree(BOARD));
});

test("a newer version that readers of 17 can read is read", () => {
  assert.deepEqual(readDeviceTree(withWord(20, 18)), readDeviceTree(BOARD));
});

test("bytes behind the tree, and in front of it in the same buffer, are not looked at", () => {
  const room = new Uint8Array(BOARD.length + 64).fill(0xa5);
  room.set(BOARD, 13);
  assert.deepEqual(readDeviceTree(room.subarray(13)), readDeviceTree(BOARD));
});

test("a Buffer reads as any other array of bytes", () => {
  assert.deepEqual(readDeviceTree(Buffer.from(BOARD)), readDeviceTree(BOARD));
});

test("no-operation tokens are skipped", () => {
  const plain = readDeviceTree(tree(BEGIN, "", PROPERTY, 4, 0, 7, END_NODE, END));
  assert.deepEqual(readDeviceTree(tree(NOP, BEGIN, "", NOP, PROPERTY, 4, 0, 7, NOP, END_NODE, NOP, END)), plain);
});

test("every shorter piece of a tree is truncated, at its last byte", () => {
  for (let length = 0; length < BOARD.length; length++) {
    assert.deepEqual(damage(BOARD.slice(0, length)), { code: "EFDT_TRUNCATED", offset: length });
  }
});

test("every shorter structure block is damage, whatever it cuts", () => {
  for (let size = 0; size < 0x320; size++) assert.notEqual(damage(withWord(36, size)).code, "none", `size ${size}`);
});

const DAMAGE: [name: string, bytes: Uint8Array, code: string, offset: number][] = [
  ["an empty file", new Uint8Array(), "EFDT_TRUNCATED", 0],
  ["a PNG", Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), "EFDT_MAGIC", 0],
  ["source text", new TextEncoder().encode("/dts-v1/; / { };"), "EFDT_MAGIC", 0],
  ["a tree in the other byte order", withWord(0, 0xedfe0dd0), "EFDT_MAGIC", 0],
  ["version 3", withWord(20, 3), "EFDT_VERSION", 20],
  ["a version only readers of 18 can read", withWord(24, 18), "EFDT_VERSION", 24],
  ["a size beyond the file", withWord(4, BOARD.length + 1), "EFDT_TRUNCATED", BOARD.length],
  ["the largest size", withWord(4, 0xffffffff), "EFDT_TRUNCATED", BOARD.length],
  ["a size that does not hold the header", withWord(4, 39), "EFDT_BOUNDS", 4],
  ["a structure block outside", withWord(8, 0xfffffffc), "EFDT_BOUNDS", 8],
  ["a structure block that ends outside", withWord(36, 0xffffffff), "EFDT_BOUNDS", 36],
  ["a misaligned structure block", withWord(8, 0x5a), "EFDT_BOUNDS", 8],
  ["a strings block outside", withWord(12, 0x10000), "EFDT_BOUNDS", 12],
  ["a strings block that ends outside", withWord(32, 0xa3), "EFDT_BOUNDS", 32],
  ["reservations outside", withWord(16, 0x10000), "EFDT_BOUNDS", 16],
  ["misaligned reservations", withWord(16, 0x2c), "EFDT_BOUNDS", 16],
  ["a structure block in the header", withWord(8, 0x20), "EFDT_OVERLAP", 8],
  ["reservations in the header", withWord(16, 0x20), "EFDT_OVERLAP", 16],
  ["a strings block in the structure block", withWord(12, 0x370), "EFDT_OVERLAP", 0x370],
  ["a structure block in the reservations", withWord(8, 0x30), "EFDT_OVERLAP", 0x30],
  ["reservations in the structure block", withWord(16, 0x300), "EFDT_OVERLAP", 0x300],
  ["reservations without an end", withWord(0x54, 1), "EFDT_UNTERMINATED", 0x28],
  ["an unknown token", tree(BEGIN, "", 5, END_NODE, END), "EFDT_TOKEN", START + 8],
  ["a structure without an end", tree(BEGIN, "", END_NODE), "EFDT_TRUNCATED", START + 12],
  ["a property cut off after its length", tree(BEGIN, "", PROPERTY, 4), "EFDT_TRUNCATED", START + 16],
  ["a value beyond the structure", tree(BEGIN, "", PROPERTY, 9, 0, END_NODE, END), "EFDT_BOUNDS", START + 12],
  ["a property name outside", tree(BEGIN, "", PROPERTY, 0, 24, END_NODE, END), "EFDT_BOUNDS", START + 16],
  ["a node that does not end", tree(BEGIN, "", BEGIN, "x", END_NODE, END), "EFDT_UNBALANCED", START],
  ["a node that did not begin", tree(BEGIN, "", END_NODE, END_NODE, END), "EFDT_UNBALANCED", START + 12],
  ["no root", tree(END), "EFDT_UNBALANCED", START],
  ["two roots", tree(BEGIN, "", END_NODE, BEGIN, "", END_NODE, END), "EFDT_UNBALANCED", START + 12],
  ["a property outside every node", tree(PROPERTY, 0, 0, BEGIN, "", END_NODE, END), "EFDT_UNBALANCED", START],
  ["a property behind a child", tree(BEGIN, "", BEGIN, "x", END_NODE, PROPERTY, 0, 0, END), "EFDT_ORDER", START + 20],
  ["a root with a name", tree(BEGIN, "root", END_NODE, END), "EFDT_NAME", START],
  ["a child without a name", tree(BEGIN, "", BEGIN, "", END_NODE, END_NODE, END), "EFDT_NAME", START + 8],
  ["a slash in a name", tree(BEGIN, "", BEGIN, "a/b", END_NODE, END_NODE, END), "EFDT_NAME", START + 13],
  ["an escape in a name", tree(BEGIN, "", BEGIN, "\x1b[2", END_NODE, END_NODE, END), "EFDT_NAME", START + 12],
  ["a long name", tree(BEGIN, "", BEGIN, "x".repeat(256), END_NODE, END_NODE, END), "EFDT_NAME", START + 8],
  ["a property without a name", tree(BEGIN, "", PROPERTY, 0, 1, END_NODE, END), "EFDT_NAME", START + 16],
  ["two children of one name", tree(BEGIN, "", BEGIN, "x", END_NODE, BEGIN, "x"), "EFDT_DUPLICATE", START + 20],
  ["two properties of one name", tree(BEGIN, "", PROPERTY, 0, 0, PROPERTY, 0, 0), "EFDT_DUPLICATE", START + 20],
  ["a phandle of two bytes", tree(BEGIN, "", PROPERTY, 2, 2, 0x10000), "EFDT_PHANDLE", START + 8],
  ["a phandle of 0", tree(BEGIN, "", PROPERTY, 4, 2, 0), "EFDT_PHANDLE", START + 8],
  ["a phandle of all ones", tree(BEGIN, "", PROPERTY, 4, 10, 0xffffffff), "EFDT_PHANDLE", START + 8],
  ["phandles that disagree", tree(BEGIN, "", PROPERTY, 4, 2, 1, PROPERTY, 4, 10, 2), "EFDT_PHANDLE", START + 24],
  [
    "a phandle twice",
    tree(BEGIN, "", PROPERTY, 4, 2, 1, BEGIN, "x", PROPERTY, 4, 10, 1),
    "EFDT_DUPLICATE_PHANDLE",
    START + 32,
  ],
  [
    "a property name that does not end",
    treeWithStrings("a\0b", [BEGIN, "", PROPERTY, 0, 2, END_NODE, END]),
    "EFDT_UNTERMINATED",
    START + 16,
  ],
  [
    "a property name longer than any",
    treeWithStrings("n".repeat(257), [BEGIN, "", PROPERTY, 0, 0, END_NODE, END]),
    "EFDT_NAME",
    START + 16,
  ],
  ["a node name that does not end", tree(BEGIN, "", BEGIN, 0x78787878), "EFDT_UNTERMINATED", START + 8],
];

for (const [name, bytes, code, offset] of DAMAGE) {
  test(`${name} is ${code}`, () => assert.deepEqual(damage(bytes), { code, offset }));
}

test(`nodes may nest ${MAX_DEPTH} levels deep and no deeper`, () => {
  const nested = (levels: number) => {
    const begins = Array.from({ length: levels - 1 }, () => [BEGIN, "x"]).flat();
    return tree(BEGIN, "", ...begins, ...new Array<number>(levels).fill(END_NODE), END);
  };
  assert.equal(damage(nested(MAX_DEPTH)).code, "none");
  assert.deepEqual(damage(nested(MAX_DEPTH + 1)), { code: "EFDT_DEPTH", offset: START + 8 * MAX_DEPTH });
});

test("a million nodes inside each other are refused without the stack giving way", () => {
  const levels = 1_000_000;
  const bytes = new Uint8Array(START + 8 * levels + 4);
  bytes.set(tree(END).subarray(0, START));
  const view = new DataView(bytes.buffer);
  view.setUint32(4, bytes.length);
  view.setUint32(12, bytes.length);
  view.setUint32(32, 0);
  view.setUint32(36, bytes.length - START);
  for (let level = 0; level < levels; level++) {
    view.setUint32(START + 8 * level, BEGIN);
    if (level > 0) bytes[START + 8 * level + 4] = 0x78;
  }
  assert.equal(damage(bytes).code, "EFDT_DEPTH");
});

test("no change of one byte is more than an error", () => {
  for (let offset = 0; offset < BOARD.length; offset++) {
    const bytes = BOARD.slice();
    for (const value of [0, 1, 2, 3, 4, 9, 0x2f, 0x7f, 0x80, 0xff, (BOARD[offset] ?? 0) ^ 1]) {
      bytes[offset] = value;
      damage(bytes);
    }
  }
});

test("a link's own properties are found under its path", () => {
  const link = findNode(readDeviceTree(BOARD).root, "/npu@5011000/link@1");
  assert.deepEqual(link?.properties.get("phandle"), Uint8Array.of(0xff, 0xff, 0xff, 0xfe));
});
