import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import { ownersOf, parseAssignments } from "./assignment.js";

const sequoia = builtinMachine("sequoia");

test("GPUs are named by slot label or by address, in any case", () => {
  assert.deepEqual(parseAssignments(sequoia, ["vm1=gpu0,0004:05:00.0", "vm2=GPU2"]), [
    { name: "vm1", members: ["0004:04:00.0", "0004:05:00.0"] },
    { name: "vm2", members: ["0004:06:00.0"] },
  ]);
  assert.deepEqual(parseAssignments(builtinMachine("c4140"), ["a=1a:00.0"])[0]?.members, ["0000:1a:00.0"]);
});

test("a member given twice counts once", () => {
  assert.deepEqual(parseAssignments(sequoia, ["a=GPU0,GPU0,0004:04:00.0"])[0]?.members, ["0004:04:00.0"]);
});

test("nonsense is refused with a line that says what is expected", () => {
  const refused: [string[], RegExp][] = [
    [["GPU0"], /expected NAME=GPU/],
    [[""], /expected NAME=GPU/],
    [["a="], /assignment a has no GPUs/],
    [["a=,"], /assignment a has no GPUs/],
    [["a=GPU0,"], /empty member/],
    [["=GPU0"], /assignment name ""/],
    [["../x=GPU0"], /assignment name/],
    [["-x=GPU0"], /assignment name/],
    [["host=GPU0"], /"host" is reserved/],
    [["Host=GPU0"], /"Host" is reserved/],
    [["a=GPU9"], /sequoia has no GPU "GPU9"; its GPUs are GPU0, GPU1/],
    [["a=0009:00:00.0"], /has no GPU/],
    [["a=GPU0", "a=GPU1"], /given twice/],
    [[`a=${sequoia.functions.find((fn) => fn.headerType === 1)?.address}`], /is a PCI bridge/],
  ];
  for (const [texts, expected] of refused) {
    assert.throws(() => parseAssignments(sequoia, texts), { code: "EASSIGN", message: expected }, texts.join(" "));
  }
});

test("bridges go with their GPU, everything else is the host's", () => {
  const ownerOf = ownersOf(sequoia, parseAssignments(sequoia, ["a=GPU0", "b=GPU1"]));
  assert.equal(ownerOf("0006:00:00.1"), "a");
  assert.equal(ownerOf("0006:00:01.0"), "b");
  assert.equal(ownerOf("0006:00:02.0"), "host");
  assert.equal(ownerOf("0004:06:00.0"), "host");
});

test("a bridge that an assignment names itself stays there", () => {
  const ownerOf = ownersOf(sequoia, parseAssignments(sequoia, ["a=GPU0", "b=GPU1,0006:00:00.0"]));
  assert.equal(ownerOf("0006:00:00.0"), "b");
});
