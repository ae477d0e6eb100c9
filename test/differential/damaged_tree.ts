import fc from "fast-check";
import { flatten, layouts } from "./flattened.js";
import { generatedTrees } from "./generated_tree.js";

/** One thing done to bytes. */
type Damage =
  | { kind: "header"; field: number; value: number; relative: boolean }
  | { kind: "word"; at: number; value: number }
  | { kind: "byte"; at: number; value: number }
  | { kind: "cut"; at: number };

const fraction = fc.nat(0xffff);
const number = fc.oneof(fc.nat(64), fc.constantFrom(1, 2, 3, 4, 9, 16, 17, 0xffffffff, 0x7fffffff), fc.nat(0xffffffff));
const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({
    kind: fc.constant<"header">("header"),
    field: fc.nat(9),
    value: fc.oneof(fc.integer({ min: -16, max: 16 }), number),
    relative: fc.boolean(),
  }),
  { weight: 3, arbitrary: fc.record({ kind: fc.constant<"word">("word"), at: fraction, value: number }) },
  fc.record({ kind: fc.constant<"byte">("byte"), at: fraction, value: fc.nat(255) }),
  fc.record({ kind: fc.constant<"cut">("cut"), at: fraction }),
);

/** Trees with some damage, which may be none to whoever reads them. */
export const damagedTrees: fc.Arbitrary<Buffer> = fc
  .tuple(generatedTrees, layouts, fc.array(damage, { minLength: 1, maxLength: 2 }))
  .map(([tree, layout, damages]) => damages.reduce(inflict, flatten(tree, layout)));

function inflict(bytes: Buffer, damage: Damage): Buffer {
  const next = Buffer.from(bytes);
  const place = (at: number) => Math.floor((at / 0x10000) * bytes.length);
  if (damage.kind === "cut") return next.subarray(0, place(damage.at));
  if (damage.kind === "byte") {
    if (next.length > 0) next[place(damage.at)] = damage.value;
    return next;
  }
  const at = damage.kind === "header" ? 4 * damage.field : place(damage.at) & ~3;
  if (at + 4 > next.length) return next;
  const before = damage.kind === "header" && damage.relative ? next.readUInt32BE(at) : 0;
  next.writeUInt32BE((before + damage.value) >>> 0, at);
  return next;
}
