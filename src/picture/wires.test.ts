import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gpu, machineOf, to, withMask } from "../../test/made_up_machine.js";
import type { Bridge, FarEnd, Gpu, Machine } from "../machine/machine.js";
import { LINK_DISABLE } from "../machine/part.js";
import { pictureOf } from "./picture.js";

const [A, B, C] = ["0000:41:00.0", "0000:42:00.0", "0006:00:00.0"];
const CUT_0 = 0x00010000;

/** Two GPUs with one link between them. */
function pair(change: { a?: (one: Gpu) => Gpu; b?: (one: Gpu) => Gpu } = {}): Machine {
  const [a, b] = [gpu(A, "GPU0", [to(B, 0)]), gpu(B, "GPU1", [to(A, 0)])];
  return machineOf([change.a?.(a) ?? a, change.b?.(b) ?? b]);
}

const cut = (one: Gpu) => withMask(one, CUT_0);
const says =
  (state: "cut" | "down" | "unknown") =>
  (one: Gpu): Gpu => ({
    ...one,
    links: one.links.map((link) => ({ ...link, state })),
  });

function state(machine: Machine): string | undefined {
  return pictureOf(machine).wires[0]?.state;
}

describe("a wire's state", () => {
  test("is up, cut at one end or cut at both, by the registers", () => {
    assert.equal(state(pair()), "up");
    assert.equal(state(pair({ a: cut })), "cut-one");
    assert.equal(state(pair({ b: cut })), "cut-one");
    assert.equal(state(pair({ a: cut, b: cut })), "cut-both");
    const [wire] = pictureOf(pair({ b: cut })).wires;
    assert.deepEqual(
      wire?.ends.map((end) => end.cut),
      [false, true],
      "and which end it is",
    );
  });

  test("is never cut by a word", () => {
    for (const word of ["cut", "down", "unknown"] as const) {
      assert.equal(state(pair({ a: says(word), b: says(word) })), "unknown", word);
    }
    assert.equal(state(pair({ a: (one) => says("unknown")(cut(one)) })), "cut-one", "nor up against evidence");
  });

  test("is never cut by a word on the way to anything else either", () => {
    const far: FarEnd[] = [{ kind: "switch", switch: "s" }, { kind: "bridge", bridge: C }, { kind: "unknown" }];
    const one = says("cut")(gpu(A, "GPU0", far));
    const bridges: Bridge[] = [{ address: C, gpu: A, linkIndex: 0, npu: "npu0", origin: "wiring" }];
    const states = (machine: Machine) => pictureOf(machine).wires.map((wire) => wire.state);
    assert.deepEqual(states(machineOf([one], { bridges })), ["unknown", "unknown", "unknown"]);
    const cutOff = withMask(one, 0x00070000);
    assert.deepEqual(states(machineOf([cutOff], { bridges })), ["cut-one", "cut-one", "cut-one"]);
  });

  test("is not known where only one of two links that may meet is cut", () => {
    const assumed = (one: Gpu): Gpu => ({ ...one, links: one.links.map((link) => ({ ...link, assumed: true })) });
    const a = assumed(withMask(gpu(A, "GPU0", [to(B, 0), to(B, 1)]), CUT_0));
    const b = assumed(withMask(gpu(B, "GPU1", [to(A, 0), to(A, 1)]), 0));
    const wires = pictureOf(machineOf([a, b])).wires;
    assert.deepEqual(
      wires.map((wire) => wire.state),
      ["unknown", "up"],
    );
  });

  test("counts no registers that were read beside another chip's, or do not answer", () => {
    const unreadable = (one: Gpu): Gpu => {
      const registers = [{ offset: LINK_DISABLE, value: 0xffffffff }];
      return { ...one, links: one.links.map((link) => ({ ...link, evidence: { registers } })) };
    };
    assert.equal(state(pair({ a: unreadable, b: unreadable })), "up");
  });
});

test("links that contradict each other lead nobody knows where", () => {
  const machine = machineOf([gpu(A, "GPU0", [to(B, 0)]), gpu(B, "GPU1", [{ kind: "none" }])]);
  assert.deepEqual(
    pictureOf(machine).wires.map(({ to: end }) => end?.kind),
    ["unknown", "unknown"],
  );
});

test("a bad link has the number of its finding, and one that is cut has none", () => {
  const owners = [{ name: "vm1", members: [A] }];
  assert.deepEqual(pictureOf(pair(), owners).wires[0]?.findings, [1]);
  assert.deepEqual(pictureOf(pair({ a: cut, b: cut }), owners).wires[0]?.findings, []);
});
