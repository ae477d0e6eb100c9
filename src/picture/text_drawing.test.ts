import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { boardsOf } from "../../test/made_up_boards.js";
import { gpu, machineOf, to, withMask } from "../../test/made_up_machine.js";
import { anyMachine } from "../../test/picture/any_machine.js";
import { runs } from "../../test/runs.js";
import { BUILTIN_MACHINES, builtinMachine } from "../machine/builtin.js";
import type { Assignment, Machine } from "../machine/machine.js";
import { linkList } from "./link_list.js";
import { pictureOf } from "./picture.js";
import { columns } from "./text.js";
import { ASCII_SIGNS, type Piece, type SignSet, UNICODE_SIGNS } from "./text_canvas.js";
import { textDrawing, textLegend } from "./text_drawing.js";

const [A, B, C] = ["0000:41:00.0", "0000:42:00.0", "0000:43:00.0"];

function text(lines: readonly Piece[][]): string[] {
  return lines.map((line) =>
    line
      .map((piece) => piece.text)
      .join("")
      .trimEnd(),
  );
}

function drawing(machine: Machine, assignments: Assignment[] = [], signs: SignSet = UNICODE_SIGNS): string[] {
  const picture = pictureOf(machine, assignments);
  return [...text(textDrawing(picture, signs, 80) ?? []), "", ...text(linkList(picture, signs, 80))];
}

/** Three GPUs: links 0 and 1 between the first two, link 2 from the first to the third, which is cut at both ends. */
const THREE = machineOf([
  withMask(gpu(A, "GPU0", [to(B, 0), to(B, 1), to(C, 0)]), 0x00040000),
  withMask(gpu(B, "GPU1", [to(A, 0), to(A, 1)]), 0),
  withMask(gpu(C, "GPU2", [to(A, 2)]), 0x00010000),
]);

test("a drawing shows who is joined with whom, and what is cut where", () => {
  assert.deepEqual(drawing(THREE, [{ name: "vm1", members: [A, B] }]), [
    "NUMA node not known",
    "┌───────┐ ┌───────┐ ┌───────┐",
    "│ GPU0  │ │ GPU1  │ │ GPU2  │",
    "│  vm1  │ │  vm1  │ │ host  │",
    "│group 0│ │group 1│ │group 2│",
    "└──┬─┬──┘ └───┬───┘ └───┬───┘",
    "   × ┃        ┃         ×",
    "   ┆ ┗━━━2━━━━┛         ┆",
    "   └┄┄┄┄┄1┄┄┄┄┄┄┄┄┄┄┄┄┄┄┘",
    "",
    "  ━━━ GPU0: 0 1  GPU1: 0 1  up",
    "  ×┄× GPU0: 2    GPU2: 0    cut at both ends",
  ]);
});

test("wide letters, and those without a width, leave boxes and lists in line", () => {
  const named = ["日本", "e\u0301te\u0301", "été"];
  const machine = { ...THREE, gpus: THREE.gpus.map((one, index) => ({ ...one, name: named[index] ?? "" })) };
  assert.deepEqual(drawing(machine).slice(1, 5), [
    "┌───────┐ ┌───────┐ ┌───────┐",
    "│ 日本  │ │e\u0301te\u0301    │ │ été   │",
    "│group 0│ │group 1│ │group 2│",
    "└──┬─┬──┘ └───┬───┘ └───┬───┘",
  ]);
});

test("the legend has a word for each sign that is there, and for no other", () => {
  const switched = boardsOf(1, { gpus: 4, switches: 6 });
  const lost = machineOf([gpu(A, "GPU0", [{ kind: "unknown" }])]);
  assert.equal(textLegend(pictureOf(THREE)), "number: how many links, !: must not be (see audit)");
  assert.equal(textLegend(pictureOf(switched)), "NVSw: NVSwitches, !: must not be (see audit)");
  assert.equal(textLegend(pictureOf(lost)), "?: nobody knows where");
  assert.equal(textLegend(pictureOf(builtinMachine("redbud"))), "number: how many links, C: the CPU's NPU bridges");
});

test("where there is no Unicode it is drawn in ASCII", () => {
  for (const line of drawing(THREE, [], ASCII_SIGNS)) assert.match(line, /^[\x20-\x7e]*$/);
});

test("what must not be is marked without colours too", () => {
  const lines = drawing(THREE, [{ name: "vm1", members: [A] }]).join("\n");
  assert.match(lines, /━2!━/);
  assert.match(lines, /GPU0: 0 1 +GPU1: 0 1 +up, finding 1/);
});

describe("80 columns are enough", () => {
  const machines = [...BUILTIN_MACHINES.map(({ name }) => builtinMachine(name)), boardsOf(2, { gpus: 8, switches: 6 })];
  for (const machine of machines) {
    test(machine.name, () => {
      for (const owner of ["vm1", "x".repeat(64)]) {
        const assignments = [{ name: owner, members: machine.gpus.slice(1, 3).map(({ address }) => address) }];
        const lines = drawing(machine, assignments);
        assert.ok(Math.max(...lines.map(columns)) <= 80, lines.join("\n"));
      }
      assert.notEqual(textDrawing(pictureOf(machine), UNICODE_SIGNS, 80), undefined, "and there is a drawing");
    });
  }

  test("of machines too large to draw there is a list", () => {
    const picture = pictureOf(boardsOf(9, { gpus: 8, switches: 18, shared: true }));
    assert.equal(textDrawing(picture, UNICODE_SIGNS, 80), undefined);
    const list = text(linkList(picture, UNICODE_SIGNS, 80));
    assert.match(list[0] ?? "", /18 NVSwitches 0000:c0:00\.0 \.\.\. 0000:d1:00\.0/);
    assert.match(list.join(" "), /GPU71/);
    assert.ok(Math.max(...list.map(columns)) <= 80);
  });

  test("and one too large is not drawn first: a mesh of a hundred GPUs took all memory", () => {
    const address = (index: number) => `0000:${(index + 16).toString(16)}:00.0`;
    const gpus = Array.from({ length: 100 }, (_, index) => {
      const peers = Array.from({ length: 99 }, (_, place) => (place < index ? place : place + 1));
      return gpu(
        address(index),
        `GPU${index}`,
        peers.map((peer) => to(address(peer), index < peer ? index : index - 1)),
      );
    });
    assert.equal(textDrawing(pictureOf(machineOf(gpus)), UNICODE_SIGNS, 80), undefined);
  });

  test("whatever the machine is, and no line is taken for one of nvidia-smi's matrix", () => {
    fc.assert(
      fc.property(anyMachine, ({ machine, assignments }) => {
        for (const line of drawing(machine, assignments, ASCII_SIGNS)) {
          assert.ok(columns(line) <= 80, line);
          assert.doesNotMatch(line, /^\s*GPU\d/);
        }
      }),
      { numRuns: runs(30) },
    );
  });
});
