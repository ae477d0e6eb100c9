import fc from "fast-check";
import { textBytes, u32Bytes, u64Bytes } from "../../src/devicetree/property.js";
import type { DeviceTree, DeviceTreeNode } from "../../src/devicetree/tree.js";

/** What a property is made of, so that each of another program's ways to print one can be foretold. */
export type Value =
  | { kind: "empty" }
  | { kind: "strings"; strings: string[] }
  | { kind: "cells"; cells: number[] }
  | { kind: "bytes"; bytes: Uint8Array }
  | { kind: "wide"; numbers: bigint[] };

export interface GeneratedNode {
  name: string;
  properties: [name: string, value: Value][];
  children: GeneratedNode[];
}

export interface GeneratedTree {
  root: GeneratedNode;
  reservations: { address: bigint; size: bigint }[];
  bootCpu: number;
}

/** The bytes of a property, by the Devicetree Specification 0.4, section 2.2.4. */
export function bytesOf(value: Value): Uint8Array {
  switch (value.kind) {
    case "empty":
      return new Uint8Array();
    case "strings":
      return textBytes(...value.strings);
    case "cells":
      return u32Bytes(...value.cells);
    case "wide":
      return u64Bytes(...value.numbers);
    case "bytes":
      return value.bytes;
  }
}

/** As our reader has to give it back. */
export function asDeviceTree({ root, reservations, bootCpu }: GeneratedTree): DeviceTree {
  return { root: asNode(root), reservations, bootCpu };
}

function asNode({ name, properties, children }: GeneratedNode): DeviceTreeNode {
  return {
    name,
    properties: new Map(properties.map(([key, value]) => [key, bytesOf(value)])),
    children: children.map(asNode),
  };
}

/** All nodes with their paths, each before its children. */
export function* placed(node: GeneratedNode, path = "/"): Generator<{ node: GeneratedNode; path: string }> {
  yield { node, path };
  for (const child of node.children) yield* placed(child, `${path === "/" ? "" : path}/${child.name}`);
}

const text = fc.oneof(
  fc.string({ maxLength: 20, unit: fc.constantFrom(..."abcXYZ019 ,.-_/\\\"'{};<>[]&=#@") }),
  fc.constantFrom("", "okay", "ibm,power9", "ünï 日本", "0", "\\0", "a\\x41"),
);
const cell = fc.oneof(fc.nat(255), fc.nat(0xffffffff), fc.constantFrom(0, 0xffffffff, 0x41424300, 0x61000000));
const wide = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn });
const value: fc.Arbitrary<Value> = fc.oneof(
  fc.constant<Value>({ kind: "empty" }),
  fc.array(text, { minLength: 1, maxLength: 4 }).map((strings): Value => ({ kind: "strings", strings })),
  fc.array(cell, { minLength: 1, maxLength: 9 }).map((cells): Value => ({ kind: "cells", cells })),
  fc.array(wide, { minLength: 1, maxLength: 3 }).map((numbers): Value => ({ kind: "wide", numbers })),
  fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes): Value => ({ kind: "bytes", bytes })),
);

const RESERVED = ["name", "phandle", "linux,phandle"];
const propertyName = fc
  .oneof(
    { weight: 12, arbitrary: fc.stringMatching(/^[a-zA-Z0-9,._+?#-]{1,31}$/) },
    { weight: 1, arbitrary: fc.stringMatching(/^[a-z]{200,255}$/) },
    {
      weight: 3,
      arbitrary: fc.constantFrom("model", "ibm,slot-label", "ibm,npu-link-index", "clock-frequency", "label"),
    },
  )
  .filter((name) => !RESERVED.includes(name));
const nodeName = fc
  .tuple(
    fc.oneof(
      { weight: 12, arbitrary: fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9,._+-]{0,20}$/) },
      { weight: 1, arbitrary: fc.stringMatching(/^[a-z]{150,200}$/) },
      { weight: 2, arbitrary: fc.constantFrom("npu", "gpu", "link") },
    ),
    fc.option(fc.stringMatching(/^[0-9a-f]{1,8}(,[0-7])?$/), { freq: 2 }),
  )
  .map(([base, unit]) => (unit === null ? base : `${base}@${unit}`));
const properties = fc.uniqueArray(fc.tuple(propertyName, value), { selector: ([name]) => name, maxLength: 7 });

function nodes(levels: number): fc.Arbitrary<GeneratedNode> {
  const children =
    levels === 1
      ? fc.constant<GeneratedNode[]>([])
      : fc.uniqueArray(nodes(levels - 1), { selector: ({ name }) => name, maxLength: 4 });
  return fc.record({ name: nodeName, properties, children });
}

const word64 = fc.bigInt({ min: 1n, max: 0xffffffffffffffffn });
const phandle = fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 0xfffffffe }));

/** Any tree that everybody has to take. */
export const generatedTrees: fc.Arbitrary<GeneratedTree> = fc
  .record({
    root: nodes(4),
    deep: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 58 }) }),
    phandles: fc.uniqueArray(phandle, { maxLength: 8 }),
    choices: fc.array(fc.nat(4), { minLength: 5, maxLength: 20 }),
    reservations: fc.array(
      fc.tuple(word64, word64).map(([address, size]) => ({ address, size })),
      { maxLength: 3 },
    ),
    bootCpu: fc.nat(0xffffffff),
  })
  .map(({ root, deep, phandles, choices, reservations, bootCpu }) => {
    const top = { ...root, name: "", children: [...root.children.map(copy), ...chain(deep)] };
    name(top, choices, phandles);
    return { root: top, reservations, bootCpu };
  });

function copy(node: GeneratedNode): GeneratedNode {
  return { ...node, properties: [...node.properties], children: node.children.map(copy) };
}

function chain(levels: number): GeneratedNode[] {
  return levels === 0 ? [] : [{ name: "x--deep", properties: [], children: chain(levels - 1) }];
}

/** Gives some nodes phandles, of the old name too, and the name property that firmware before flattened trees had. */
function name(root: GeneratedNode, choices: readonly number[], phandles: readonly number[]): void {
  const left = [...phandles];
  for (const [i, { node }] of [...placed(root)].entries()) {
    const choice = choices[i % choices.length];
    if (choice === 0 && left.length > 0) {
      const value: Value = { kind: "cells", cells: [left.pop() ?? 1] };
      node.properties.unshift(["phandle", value]);
      if (i % 2 === 0) node.properties.push(["linux,phandle", value]);
    }
    if (choice === 1) {
      const own = node.name.replace(/@.*/, "");
      node.properties.push(["name", { kind: "strings", strings: [own] }]);
    }
  }
}
