import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import { powernvGroups } from "./powernv_groups.js";

const GPU_GROUPS = (name: string, isolate: boolean, release?: string) => {
  const machine = builtinMachine(name);
  const described = release === undefined ? machine : { ...machine, kernel: { release } };
  const gpus = new Set(machine.gpus.map((gpu) => gpu.address));
  return powernvGroups(described, isolate).filter((group) => group.some((address) => gpus.has(address)));
};

test("by default all GPUs and bridges of an NPU are one group, each GPU before its bridges", () => {
  const [first, second, ...rest] = GPU_GROUPS("sequoia", false);
  assert.deepEqual(first, [
    ...["0004:04:00.0", "0006:00:00.0", "0006:00:00.1"],
    ...["0004:05:00.0", "0006:00:01.0", "0006:00:01.1"],
    ...["0004:06:00.0", "0006:00:02.0", "0006:00:02.1"],
  ]);
  assert.equal(second?.[0], "0035:03:00.0");
  assert.equal(second?.length, 9);
  assert.equal(rest.length, 0);
});

test("with isolate_nvlink every GPU has a group with its own bridges", () => {
  assert.deepEqual(GPU_GROUPS("redbud", true), [
    ["0004:04:00.0", "0006:00:00.0", "0006:00:00.1", "0006:00:00.2"],
    ["0004:05:00.0", "0006:00:01.0", "0006:00:01.1", "0006:00:01.2"],
    ["0035:03:00.0", "0007:00:00.0", "0007:00:00.1", "0007:00:00.2"],
    ["0035:04:00.0", "0007:00:01.0", "0007:00:01.1", "0007:00:01.2"],
  ]);
});

test("POWER8 forms a group per GPU whatever isolate_nvlink says", () => {
  assert.equal(GPU_GROUPS("minsky", false).length, 4);
  assert.deepEqual(GPU_GROUPS("minsky", false), GPU_GROUPS("minsky", true));
});

test("a kernel after 5.12 knows no NPU: GPUs are alone and bridges in no group", () => {
  assert.deepEqual(
    GPU_GROUPS("sequoia", false, "5.13.0").map((group) => group.length),
    [1, 1, 1, 1, 1, 1],
  );
  assert.equal(GPU_GROUPS("sequoia", false, "6.1.0-9-powerpc64le").length, 6);
  assert.equal(GPU_GROUPS("sequoia", false, "5.12.19").length, 2);
});

test("ports are in no group", () => {
  const machine = builtinMachine("sequoia");
  const ports = new Set(machine.functions.filter((fn) => fn.headerType === 1).map((fn) => fn.address));
  assert.ok(ports.size > 0);
  assert.ok(powernvGroups(machine, false).every((group) => group.every((address) => !ports.has(address))));
});
