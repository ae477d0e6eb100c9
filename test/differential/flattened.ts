import fc from "fast-check";
import { bytesOf, type GeneratedNode, type GeneratedTree } from "./generated_tree.js";

/** How a tree is laid out in memory: all that the format leaves to whoever writes it. */
export interface Layout {
  version: 16 | 17;
  /** Which block comes first, second and last. */
  order: readonly ("reservations" | "structure" | "strings")[];
  /** 4-byte words of nonsense before each block, and bytes of it at the end. */
  gaps: readonly number[];
  tail: number;
  /** Of what is between blocks, and of the padding behind values. */
  filling: number;
  /** How many NOP tokens come where one may, again and again; none for a tree without. */
  nops: readonly number[];
  /** Whether each name is stored anew, and whether one that ends another lies within it. */
  names: "apart" | "once" | "shared";
  /** Other names that nobody uses. */
  strangers: readonly string[];
}

export const layouts: fc.Arbitrary<Layout> = fc.record({
  version: fc.constantFrom<(16 | 17)[]>(16, 17),
  order: fc.shuffledSubarray(["reservations", "structure", "strings"] as const, { minLength: 3 }),
  gaps: fc.array(fc.nat(3), { minLength: 3, maxLength: 3 }),
  tail: fc.nat(70),
  filling: fc.constantFrom(0, 0xff, 0x04),
  nops: fc.oneof(fc.constant<number[]>([]), fc.array(fc.constantFrom(0, 0, 0, 1, 3), { maxLength: 7 })),
  names: fc.constantFrom<Layout["names"][]>("apart", "once", "shared"),
  strangers: fc.array(fc.constantFrom("reg", "x", "linux,phandle"), { maxLength: 2 }),
});

const BEGIN = 1;
const END_NODE = 2;
const PROPERTY = 3;
const NOP = 4;
const END = 9;

/** A tree flattened by the Devicetree Specification 0.4, chapter 5, without any of the project's code. */
export function flatten(tree: GeneratedTree, layout: Layout): Buffer {
  const strings = new Strings(layout);
  const words: Buffer[] = [];
  writeNode(tree.root, layout, strings, words);
  words.push(word(END));
  const reservations = [...tree.reservations, { address: 0n, size: 0n }];
  const blocks = {
    reservations: Buffer.concat(reservations.flatMap(({ address, size }) => [word64(address), word64(size)])),
    structure: Buffer.concat(words),
    strings: strings.block(),
  };
  return assemble(tree.bootCpu, layout, blocks);
}

function assemble(bootCpu: number, layout: Layout, blocks: Record<Layout["order"][number], Buffer>): Buffer {
  const header = layout.version === 17 ? 40 : 36;
  let at = header;
  const offsets = { reservations: 0, structure: 0, strings: 0 };
  const pieces: Buffer[] = [];
  const pad = (count: number) => {
    pieces.push(Buffer.alloc(count, layout.filling));
    at += count;
  };
  for (const [i, name] of layout.order.entries()) {
    pad((-at & 7) + (name === "reservations" ? 8 : 4) * (layout.gaps[i] ?? 0));
    offsets[name] = at;
    pieces.push(blocks[name]);
    at += blocks[name].length;
  }
  pad(layout.tail);
  const { reservations, structure, strings } = offsets;
  const fields = [0xd00dfeed, at, structure, strings, reservations, layout.version, 16, bootCpu, blocks.strings.length];
  if (layout.version === 17) fields.push(blocks.structure.length);
  return Buffer.concat([...fields.map(word), ...pieces]);
}

/** dtc wants the root node to begin at once, and the end right behind it: NOPs are inside. */
function writeNode(node: GeneratedNode, layout: Layout, strings: Strings, words: Buffer[]): void {
  words.push(word(BEGIN), padded(Buffer.from(`${node.name}\0`, "latin1"), layout));
  for (const [name, value] of node.properties) {
    writeNops(layout, words);
    const bytes = bytesOf(value);
    words.push(word(PROPERTY), word(bytes.length), word(strings.offsetOf(name)), padded(bytes, layout));
  }
  writeNops(layout, words);
  for (const child of node.children) {
    writeNode(child, layout, strings, words);
    writeNops(layout, words);
  }
  words.push(word(END_NODE));
}

function writeNops({ nops }: Layout, words: Buffer[]): void {
  const count = nops[words.length % nops.length] ?? 0;
  for (let i = 0; i < count; i++) words.push(word(NOP));
}

function padded(bytes: Uint8Array, { filling }: Layout): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3, filling)]);
}

class Strings {
  #text = "";
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
    this.#text = layout.strangers.map((name) => `${name}\0`).join("");
  }

  offsetOf(name: string): number {
    const found =
      this.#layout.names === "apart"
        ? -1
        : this.#layout.names === "shared"
          ? this.#text.indexOf(`${name}\0`)
          : `\0${this.#text}`.indexOf(`\0${name}\0`);
    if (found !== -1) return found;
    this.#text += `${name}\0`;
    return this.#text.length - name.length - 1;
  }

  block(): Buffer {
    return Buffer.from(this.#text, "latin1");
  }
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function word64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
