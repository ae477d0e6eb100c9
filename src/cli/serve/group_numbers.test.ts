import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import { groupNumbers } from "./group_numbers.js";

const sequoia = builtinMachine("sequoia");
const addresses = sequoia.gpus.map(({ address }) => address);

test("a socket's GPUs share a group with each other's bridges, and have one each with isolate_nvlink", () => {
  const numbers = groupNumbers(sequoia);
  const ids = addresses.map((address) => numbers.get(address)?.id);
  assert.equal(new Set(ids.slice(0, 3)).size, 1);
  assert.equal(new Set(ids).size, 2);
  assert.equal(new Set(addresses.map((address) => numbers.get(address)?.isolated)).size, 6);
  for (const gpu of sequoia.gpus) {
    for (const bridge of gpu.bridges) assert.deepEqual(numbers.get(bridge), numbers.get(gpu.address));
  }
});

test("where isolate_nvlink is given already, and where there is no NVLink to the CPU, both numbers are the same", () => {
  for (const numbers of [groupNumbers(sequoia, true), groupNumbers(builtinMachine("c4140"))]) {
    assert.ok(numbers.size > 0);
    for (const { id, isolated } of numbers.values()) assert.equal(id, isolated);
  }
});

test("groups that the kernel has formed keep its numbers", () => {
  const groups = [{ id: 17, members: addresses.slice(0, 3) }];
  const numbers = groupNumbers({ ...sequoia, groups });
  assert.deepEqual(
    addresses.map((address) => numbers.get(address)?.id),
    [17, 17, 17, undefined, undefined, undefined],
  );
});
