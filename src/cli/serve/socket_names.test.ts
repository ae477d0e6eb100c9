import assert from "node:assert/strict";
import { dirname } from "node:path";
import { test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import { socketPath } from "./socket_names.js";

const machine = builtinMachine("sequoia");

/** The name of the first GPU's socket when its slot label is this. */
function named(label: string): string {
  const [first, ...rest] = machine.gpus;
  assert.ok(first);
  return socketPath({ ...machine, gpus: [{ ...first, name: label }, ...rest] }, "/run/x", first.address);
}

test("a GPU's socket is named after its slot label and address, a bridge's after its address", () => {
  assert.equal(named("GPU0"), "/run/x/GPU0-0004:04:00.0.sock");
  assert.equal(named("0004:04:00.0"), "/run/x/GPU-0004:04:00.0.sock", "without a slot label");
  assert.equal(socketPath(machine, "/run/x", "0006:00:00.1"), "/run/x/NPU-0006:00:00.1.sock");
});

test("whatever a slot label holds, the socket is a plain file of its directory", () => {
  assert.equal(named("GPU 0"), "/run/x/GPU_0-0004:04:00.0.sock");
  for (const label of ["../../etc/passwd", "..", ".hidden", "a/b", "\n\0", "x".repeat(500), "ä💥", "-"]) {
    const path = named(label);
    assert.equal(dirname(path), "/run/x", label);
    assert.match(path, /^\/run\/x\/[\w+-][\w.+-]*-0004:04:00\.0\.sock$/);
    assert.ok(path.length < 107, label);
  }
});
