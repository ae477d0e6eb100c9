import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, made, port, to, withMask } from "../../test/made_up_machine.js";
import { builtinMachine } from "../machine/builtin.js";
import { isolation } from "./isolation.js";

const [A, B] = ["0000:01:00.0", "0000:02:00.0"];

test("now joins what links join although groups separate it; possible does not", () => {
  const { kernel, now, possible, pairs } = isolation(builtinMachine("c4140"));
  const gpus = ["0000:1a:00.0", "0000:1c:00.0", "0000:1d:00.0", "0000:1e:00.0"];
  assert.ok(gpus.every((address) => kernel.some((set) => set.length === 1 && set[0] === address)));
  assert.ok(now.some((set) => gpus.every((address) => set.includes(address))));
  assert.ok(gpus.every((address) => possible.some((set) => set.length === 1 && set[0] === address)));
  assert.equal(pairs.filter((pair) => pair.via === "nvlink").length, 6);
});

test("a compound group of powernv is joined now by its links only, and by none of them once they are cut", () => {
  const sequoia = builtinMachine("sequoia");
  const joined = isolation(sequoia).now.find((set) => set.includes("0004:04:00.0"));
  assert.equal(joined?.length, 9);
  const cut = { ...sequoia, gpus: sequoia.gpus.map((one) => withMask(one, 0x3f0000)) };
  assert.deepEqual(
    isolation(cut)
      .now.find((set) => set.includes("0004:04:00.0"))
      ?.sort(),
    ["0004:04:00.0", "0006:00:00.0", "0006:00:00.1"],
  );
});

test("parts that no fence can cut stay joined in what is possible", () => {
  const machine = machineOf([gpu(A, "a", [to(B, 0)], "unknown"), gpu(B, "b", [to(A, 0)], "unknown")]);
  assert.ok(isolation(machine).possible.some((set) => set.includes(A) && set.includes(B)));
  assert.equal(isolation(machine).pairs[0]?.action, null);
});

test("links with unknown far ends may meet each other", () => {
  const machine = machineOf([gpu(A, "a", [{ kind: "unknown" }]), gpu(B, "b", [{ kind: "unknown" }])]);
  assert.ok(isolation(machine).now.some((set) => set.includes(A) && set.includes(B)));
  assert.match(isolation(machine).pairs[0]?.reason ?? "", /not known/);
});

test("a group of the kernel is split in what is possible only where our rules explain it", () => {
  const functions = [port("0000:00:01.0", "root-port", 1, { supported: 0x1d, enabled: 0 }), made(A)];
  const one = { ...gpu(A, "a", []), nvlink: "none" as const };
  const group = { id: 0, members: ["0000:00:01.0", A] };
  const explained = machineOf([one], { functions, virtual: false, groups: [group] });
  assert.equal(isolation(explained).now.length, 1);
  assert.equal(isolation(explained).possible.length, 2);
  const quirk = [port("0000:00:01.0", "root-port", 1), made(A)];
  const unexplained = machineOf([one], { functions: quirk, virtual: false, groups: [group] });
  assert.equal(isolation(unexplained).possible.length, 1);
});

test("where a newer kernel has no NPU support, its groups stand and the difference is noted", () => {
  const sequoia = builtinMachine("sequoia");
  const groups = sequoia.gpus.map((one, id) => ({ id, members: [one.address] }));
  const machine = { ...sequoia, virtual: false, kernel: { release: "6.1.0" }, groups };
  const { kernel, computed, notes } = isolation(machine);
  assert.equal(kernel.length, 6);
  assert.ok(computed.some((set) => set.length === 9));
  assert.match(notes.join("\n"), /no NPU support any more \(removed in 5\.13\)/);
});

test("a refused isolate_nvlink on the command line is noted", () => {
  const machine = { ...builtinMachine("redbud"), kernel: { commandLine: "isolate_nvlink=perhaps" } };
  assert.match(isolation(machine).notes.join("\n"), /isolate_nvlink=perhaps .* ignores it/);
});
