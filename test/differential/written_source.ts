import fc from "fast-check";
import type { GeneratedNode, GeneratedTree, Value } from "./generated_tree.js";

/** Which of the ways to write the same thing come in turn. */
export type Ways = readonly number[];
export const ways: fc.Arbitrary<Ways> = fc.array(fc.nat(5), { minLength: 3, maxLength: 30 });

/** A tree as somebody may write it: labels, references, comments, mixed values, one number in several ways. */
export function writeSource({ root, reservations, bootCpu: _ }: GeneratedTree, ways: Ways): string {
  const writer = new SourceWriter(root, ways);
  const reserved = reservations.map(
    ({ address, size }) => `/memreserve/ 0x${address.toString(16)} ${writer.pick("0x", "0X")}${size.toString(16)};\n`,
  );
  return `/dts-v1/;\n/* made up */\n${reserved.join("")}${writer.node(root, "/", "")}`;
}

class SourceWriter {
  #turn = 0;
  /** Nodes that can be referred to, by their phandles: label and path. */
  readonly #labels = new Map<number, { label: string; path: string }>();

  constructor(
    root: GeneratedNode,
    readonly ways: Ways,
  ) {
    this.#label(root, "");
  }

  pick<T>(...of: readonly [T, ...T[]]): T {
    const way = this.ways[this.#turn++ % this.ways.length] ?? 0;
    return of[way % of.length] ?? of[0];
  }

  node({ name, properties, children }: GeneratedNode, written: string, indent: string): string {
    // The root has none in the grammar.
    const own = written === "/" ? undefined : [...this.#labels.values()].find(({ path }) => path === written)?.label;
    const lines = properties.map(
      ([key, value]) => `${indent}\t${key}${this.#value(key, value)};${this.pick("", " // end", " /* x */")}\n`,
    );
    const inner = children.map((child) =>
      this.node(child, `${written === "/" ? "" : written}/${child.name}`, `${indent}\t`),
    );
    return `${indent}${own === undefined ? "" : `${own}: `}${name === "" ? "/" : name} {\n${lines.join("")}${inner.join("")}${indent}};\n`;
  }

  #label(node: GeneratedNode, path: string): void {
    const value = node.properties.find(([name]) => name === "phandle")?.[1];
    const phandle = value?.kind === "cells" ? value.cells[0] : undefined;
    if (phandle !== undefined) this.#labels.set(phandle, { label: `l${this.#labels.size}`, path: path || "/" });
    for (const child of node.children) this.#label(child, `${path}/${child.name}`);
  }

  #value(key: string, value: Value): string {
    switch (value.kind) {
      case "empty":
        return "";
      case "strings":
        return ` = ${value.strings.map((text) => this.#string(text)).join(", ")}`;
      case "cells":
        // A node that is referred to by itself is given another number.
        return ` = ${key.endsWith("phandle") ? `<${value.cells.join(" ")}>` : this.#cells(value.cells)}`;
      case "wide":
        return ` = ${value.numbers.map((number) => this.#wide(number)).join(this.pick(", ", ","))}`;
      case "bytes":
        return ` = ${this.#bytes(value.bytes)}`;
    }
  }

  #string(text: string): string {
    const escaped = text.replace(/["\\]/g, "\\$&").replace(/[^\x20-\x7e]/g, (each) => {
      return [...Buffer.from(each)].map((byte) => `\\x${byte.toString(16)}`).join("");
    });
    // An escape goes on as long as there are digits of its kind, or ends after two.
    return `"${escaped}"`;
  }

  #cells(cells: readonly number[]): string {
    const some = cells.map((cell) => this.#cell(cell));
    const at = this.pick(0, 1, 2);
    if (at > 0 && at < some.length) return `<${some.slice(0, at).join(" ")}>, <${some.slice(at).join(" ")}>`;
    return `<${some.join(" ")}>`;
  }

  #cell(cell: number): string {
    const known = this.#labels.get(cell);
    if (known !== undefined && this.pick(true, false))
      return known.path === "/" ? "&{/}" : this.pick(`&${known.label}`, `&{${known.path}}`);
    if (cell > 0x20 && cell < 0x7f && ![0x27, 0x5c].includes(cell) && this.pick(false, true))
      return `'${String.fromCharCode(cell)}'`;
    const half = Math.floor(cell / 2);
    return this.pick(
      `${cell}`,
      `0x${cell.toString(16)}`,
      `0${cell.toString(8)}`,
      `(${half} + ${cell - half})`,
      `(~0x${(~cell >>> 0).toString(16)} & 0xffffffff)`,
    );
  }

  #wide(number: bigint): string {
    const halves = [Number(number >> 32n), Number(number & 0xffffffffn)];
    return this.pick(
      `/bits/ 64 <0x${number.toString(16)}>`,
      `/bits/ 64 <${number}>`,
      `<${halves.map((half) => `0x${half.toString(16)}`).join(" ")}>`,
    );
  }

  #bytes(bytes: Uint8Array): string {
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
    const halves = Array.from({ length: bytes.length >> 1 }, (_, i) => `0x${hex[2 * i]}${hex[2 * i + 1]}`);
    const odd = bytes.length % 2 === 0 ? "" : `, [${hex.at(-1)}]`;
    const words = halves.length === 0 ? `[${hex.join("")}]` : `/bits/ 16 <${halves.join(" ")}>${odd}`;
    return this.pick(
      `[${hex.join(" ")}]`,
      `[${hex.join("")}]`,
      `/bits/ 8 <${hex.map((each) => `0x${each}`).join(" ")}>`,
      words,
    );
  }
}
