import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, to, withMask } from "../../test/made_up_machine.js";
import { toDot } from "./dot.js";
import { pictureOf } from "./picture.js";

const [A, B] = ["0000:41:00.0", "0000:42:00.0"];

test("states differ in their lines, and a bar is at each end that is cut", () => {
  const machine = machineOf([
    withMask(gpu(A, "GPU0", [to(B, 0), to(B, 1), to(B, 2), { kind: "unknown" }]), 0x00030000),
    withMask(gpu(B, "GPU1", [to(A, 0), to(A, 1), to(A, 2)]), 0x00010000),
  ]);
  const edges = toDot(pictureOf(machine, [{ name: "vm1", members: [A, B] }]))
    .split("\n")
    .filter((line) => line.includes("taillabel"))
    .map((line) => /\[(.*?), (?:weight|taillabel="(\d)".*?)(dir=.*?arrowhead=\w+)?(?:, xlabel|\])/.exec(line));
  assert.deepEqual(
    edges.slice(0, 3).map((edge) => [edge?.[2], edge?.[1], edge?.[3]]),
    [
      ["0", "style=dotted", "dir=both, arrowtail=tee, arrowhead=tee"],
      ["1", "style=dashed", "dir=both, arrowtail=tee, arrowhead=none"],
      ["2", "style=bold", undefined],
    ],
  );
  assert.match(toDot(pictureOf(machine)), /gpu0 -- end\d \[style="dashed,bold", taillabel="3"/);
});
