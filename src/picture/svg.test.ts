import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { missing } from "../../test/device_tree_sample.js";
import { gpu, machineOf } from "../../test/made_up_machine.js";
import { anyMachine } from "../../test/picture/any_machine.js";
import { runs } from "../../test/runs.js";
import { builtinMachine } from "../machine/builtin.js";
import type { Machine } from "../machine/machine.js";
import { toDot } from "./dot.js";
import { layOut } from "./layout.js";
import { pictureOf } from "./picture.js";
import { toSvg } from "./svg.js";

const HOSTILE = `</text><script>alert("1")</script>&amp;<!-- ]]> \u202e\ud800\uffff`;

function hostile(): Machine {
  const far = [{ kind: "switch", switch: HOSTILE }] as const;
  return machineOf([gpu("0000:41:00.0", HOSTILE, far), gpu("0000:42:00.0", `${HOSTILE}2`, far)], {
    name: HOSTILE,
    source: HOSTILE,
  });
}

function svg(machine: Machine, assign: { name: string; members: string[] }[] = []): string {
  return toSvg(layOut(pictureOf(machine, assign)));
}

/** Fails with what the program has to say of the text. */
function accepted(program: string, args: string[], text: string): void {
  const { status, stderr } = spawnSync(program, args, { input: text, encoding: "utf8", timeout: 60_000 });
  assert.equal(status, 0, stderr);
}

test("names from a machine are text in the picture and nothing else", () => {
  const text = svg(hostile());
  assert.doesNotMatch(text, /<script|<!--|\u202e/);
  assert.match(text, /&lt;script&gt;alert\(&quot;1&quot;\)/);
  const tags = new Set([...text.matchAll(/<\/?([a-z]+)/g)].map(([, tag]) => tag));
  for (const tag of tags) assert.match(tag ?? "", /^(svg|title|desc|style|rect|path|text|g|defs|pattern)$/);
});

test("a picture is of itself: nothing in it is fetched from elsewhere", () => {
  const text = svg(builtinMachine("sequoia"), [{ name: "vm1", members: ["0004:04:00.0"] }]);
  const addresses = [...text.matchAll(/(?:href|src|url\(|@import|https?:)[^\s>]*/g)].map(([found]) => found);
  const inside = addresses.filter(
    (found) => !/^url\(#lf-/.test(found) && !/^http:\/\/www\.w3\.org\/2000\/svg"$/.test(found),
  );
  assert.deepEqual(inside, []);
});

test("a picture says what it shows to those who do not see it", () => {
  const text = svg(builtinMachine("c4140"), [{ name: "vm1", members: ["0000:1a:00.0"] }]);
  assert.match(text, /role="img" aria-labelledby="lf-title lf-description"/);
  assert.match(text, /<title id="lf-title">NVLink topology of c4140 \(virtual\)<\/title>/);
  assert.match(text, /<desc id="lf-description">.*GPU0 and GPU1: 2 up\..*vm1 has GPU0\. 3 findings\.<\/desc>/);
  assert.match(text, /<g data-link="GPU0:0 GPU1:0" data-state="up"><title>link 0 of GPU0 to link 0 of GPU1: up;/);
});

test("colours are attributes for every viewer, and a style sheet for a dark background", () => {
  const text = svg(builtinMachine("c4140"), [{ name: "vm1", members: ["0000:1a:00.0"] }]);
  const dark = /<style>@media screen and \(prefers-color-scheme:dark\)\{(.*)\}<\/style>/.exec(text)?.[1] ?? "";
  const classes = new Set([...text.matchAll(/class="(lf-[^"]+)"/g)].map(([, name]) => name ?? ""));
  assert.ok(classes.size > 10);
  for (const name of classes) assert.ok(dark.includes(`.${name}{`), `${name} has no colour for a dark background`);
  for (const [shape] of text.matchAll(/<(?:rect|path|text) [^>]*>/g)) assert.match(shape, / fill="/, shape);
});

test("owners differ in colour or lines, up to 42 of them", () => {
  const gpus = Array.from({ length: 42 }, (_, index) =>
    gpu(`0000:${(index + 64).toString(16)}:00.0`, `GPU${index}`, []),
  );
  const text = svg(
    machineOf(gpus),
    gpus.map(({ name, address }) => ({ name: `vm-${name}`, members: [address] })),
  );
  const patterns = [...text.matchAll(/<pattern id="lf-owner-\d+"[^>]*><rect class="[^"]*"(.*?)<\/pattern>/g)];
  assert.equal(new Set(patterns.map(([, look]) => look)).size, 42);
});

test("two pictures in one page have no id in common, and each refers to its own", () => {
  const drawing = layOut(pictureOf(builtinMachine("c4140"), [{ name: "vm1", members: ["0000:1a:00.0"] }]));
  const found = ["", "plan-"].map((ids) => {
    const text = toSvg(drawing, { ids });
    const own = new Set([...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id ?? ""));
    const named = [...text.matchAll(/url\(#([^)]+)\)|aria-labelledby="([^"]+)"/g)];
    const references = named.flatMap(([, url, labels]) => url ?? labels?.split(" ") ?? []);
    assert.ok(references.length > 2);
    for (const id of references) assert.ok(own.has(id), id);
    return own;
  });
  assert.deepEqual(
    [...(found[0] ?? [])].filter((id) => found[1]?.has(id)),
    [],
  );
});

test("a machine without GPUs is a picture too", () => {
  assert.match(svg(machineOf([])), />no GPUs</);
});

test("xmllint takes every picture", { skip: missing("xmllint") }, () => {
  accepted("xmllint", ["--noout", "-"], svg(hostile()));
  fc.assert(
    fc.property(anyMachine, ({ machine, assignments }) =>
      accepted("xmllint", ["--noout", "-"], svg(machine, assignments)),
    ),
    { numRuns: runs(6) },
  );
  assert.throws(
    () => accepted("xmllint", ["--noout", "-"], svg(hostile()).replace("</text>", "")),
    /Opening and ending tag/,
  );
});

test("dot lays every picture out", { skip: missing("dot") }, () => {
  accepted("dot", ["-Tcanon"], toDot(pictureOf(hostile())));
  fc.assert(
    fc.property(anyMachine, ({ machine, assignments }) => {
      accepted("dot", ["-Tcanon"], toDot(pictureOf(machine, assignments)));
    }),
    { numRuns: runs(6) },
  );
  assert.throws(() => accepted("dot", ["-Tcanon"], toDot(pictureOf(hostile())).replace('"]', "]")), /syntax error/);
});
