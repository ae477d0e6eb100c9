import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { boardsOf } from "../../test/made_up_boards.js";
import { gpu, machineOf, made, to, withMask } from "../../test/made_up_machine.js";
import { anyMachine } from "../../test/picture/any_machine.js";
import { overlaps } from "../../test/picture/overlaps.js";
import { runs } from "../../test/runs.js";
import { BUILTIN_MACHINES, builtinMachine } from "../machine/builtin.js";
import type { Machine } from "../machine/machine.js";
import type { Drawing, Shape } from "./drawing.js";
import { layOut } from "./layout.js";
import { pictureOf } from "./picture.js";

/** Every second GPU with an owner of its own, the rest with one more, so that areas are short and wide. */
function owners(machine: Machine) {
  const [odd, even] = [0, 1].map((rest) => machine.gpus.filter((_, index) => index % 2 === rest));
  return [
    ...(odd ?? []).map((gpu, index) => ({ name: `tenant-${index}`, members: [gpu.address] })),
    { name: "everybody-else", members: (even ?? []).map((gpu) => gpu.address) },
  ];
}

function fenced(machine: Machine): Machine {
  return { ...machine, gpus: machine.gpus.map((gpu, index) => withMask(gpu, index % 2 === 0 ? 0x00150000 : 0)) };
}

const MACHINES = [
  ...BUILTIN_MACHINES.map(({ name }) => builtinMachine(name)),
  boardsOf(2, { gpus: 8, switches: 6 }),
  boardsOf(2, { gpus: 8, switches: 6, shared: true }),
  boardsOf(9, { gpus: 8, switches: 18, shared: true }),
];

describe("no label meets another, or a box that is not its own, or a wire", () => {
  for (const machine of MACHINES) {
    test(`${machine.name}, as it is, with owners, and with links cut`, () => {
      for (const drawn of [machine, fenced(machine)]) {
        assert.deepEqual(overlaps(layOut(pictureOf(drawn))), []);
        assert.deepEqual(overlaps(layOut(pictureOf(drawn, owners(drawn)))), []);
      }
    });
  }

  test("whatever the machine is", () => {
    fc.assert(
      fc.property(anyMachine, ({ machine, assignments }) => {
        assert.deepEqual(overlaps(layOut(pictureOf(machine, assignments))), []);
      }),
      { numRuns: runs(40) },
    );
  });

  test("and one that did would be found", () => {
    const drawing = layOut(pictureOf(builtinMachine("sequoia")));
    const moved = (find: (shape: Shape) => boolean, by: { x?: number; y?: number }): Drawing => {
      const change = (shape: Shape): Shape => {
        if (shape.kind === "group") return { ...shape, shapes: shape.shapes.map(change) };
        if (!find(shape)) return shape;
        if (shape.kind !== "path") return { ...shape, x: shape.x + (by.x ?? 0), y: shape.y + (by.y ?? 0) };
        return { ...shape, points: shape.points.map(([x, y]) => [x + (by.x ?? 0), y + (by.y ?? 0)] as const) };
      };
      return { ...drawing, shapes: drawing.shapes.map(change) };
    };
    const isText = (text: string) => (shape: Shape) => shape.kind === "text" && shape.text === text;
    assert.match(overlaps(moved(isText("GPU1"), { y: 19 })).join("\n"), /"GPU1" .* is on "0004:05:00.0"/);
    assert.match(overlaps(moved(isText("GPU1"), { x: 90 })).join("\n"), /"GPU1" .* is on a gpu/);
    assert.match(overlaps(moved(isText("NUMA node 8"), { x: -30 })).join("\n"), /across the border of a socket/);
    assert.match(overlaps(moved(isText("sequoia (virtual)"), { y: -30 })).join("\n"), /outside the picture/);
    const wires = overlaps(moved((shape) => shape.kind === "path" && shape.look === "up", { y: -20 })).join("\n");
    assert.match(wires, /a wire .* runs through a gpu/);
  });
});

test("sockets that nothing joins go below each other where a row would be too wide", () => {
  const apart = layOut(pictureOf(boardsOf(2, { gpus: 8, switches: 6 })));
  const joined = layOut(pictureOf(boardsOf(2, { gpus: 8, switches: 6, shared: true })));
  assert.ok(apart.width < 0.6 * joined.width, `${apart.width} and ${joined.width}`);
});

test("the same machine is drawn the same", () => {
  const once = () => layOut(pictureOf(builtinMachine("dgx1v"), [{ name: "vm1", members: ["0000:06:00.0"] }]));
  assert.deepEqual(once(), once());
});

test("the legend explains every sign that is in the picture, and no other", () => {
  const legend = (machine: Machine) =>
    new Set(
      texts(layOut(pictureOf(machine)).shapes).filter((text) =>
        /^(up|cut|\?:|IOMMU group( \(| by|$)|not known)/.test(text),
      ),
    );
  const [a, b] = ["0000:41:00.0", "0000:42:00.0"];
  const ends = machineOf([
    withMask(gpu(a, "GPU0", [to(b, 0), to(b, 1), to(b, 2), { kind: "unknown" }, { kind: "none" }]), 0x00030000),
    withMask(gpu(b, "GPU1", [to(a, 0), to(a, 1), to(a, 2)]), 0x00010000),
  ]);
  const group = { groups: [{ id: 7, members: [a, b, "0000:41:00.1"] }] };
  assert.deepEqual(
    legend({ ...ends, ...group, functions: [...ends.functions, made("0000:41:00.1")] }),
    new Set([
      "up",
      "cut at one end",
      "cut at both ends",
      "cut here",
      "not known, must be cut",
      "?: nobody knows where",
      "IOMMU group (+ other members)",
    ]),
  );
  assert.deepEqual(
    legend(
      machineOf([gpu(a, "GPU0", [to(b, 0)]), gpu(b, "GPU1", [to(a, 0)])], { groups: [{ id: 7, members: [a, b] }] }),
    ),
    new Set(["up", "IOMMU group"]),
  );
  assert.deepEqual(
    legend(machineOf([gpu(a, "GPU0", [{ kind: "none" }])], { virtual: false })),
    new Set(["IOMMU group by rules, not the kernel's own"]),
  );
});

function texts(shapes: readonly Shape[]): string[] {
  return shapes.flatMap((shape) =>
    shape.kind === "text" ? [shape.text] : shape.kind === "group" ? texts(shape.shapes) : [],
  );
}
