import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf } from "../../test/made_up_machine.js";
import { UsageError } from "./failure.js";
import { matrixLines, topologyMatrix } from "./topology_matrix.js";

test("a matrix of more GPUs than any machine has is refused at once, and not made for minutes", () => {
  const gpus = Array.from({ length: 1025 }, (_, at) => {
    const address = `0000:${(at >> 5).toString(16).padStart(2, "0")}:${(at & 31).toString(16).padStart(2, "0")}.0`;
    return gpu(address, address, []);
  });
  for (const make of [topologyMatrix, matrixLines]) {
    assert.throws(
      () => make(machineOf(gpus)),
      (error) => error instanceof UsageError && /--format tree/.test(error.message),
    );
  }
  assert.equal(topologyMatrix(machineOf(gpus.slice(0, 4))).length, 4);
});
