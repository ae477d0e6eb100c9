import assert from "node:assert/strict";
import { test } from "node:test";
import { EventLimit, type ToldEvent } from "./event_limit.js";
import type { WorkerEvent } from "./server_status.js";

function guardedWrite(gpu: string): WorkerEvent {
  return { kind: "fence", event: { gpu, step: "guarded write" } };
}

test("of what happens again and again the first are told at once, and of the rest the number each second", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const told: ToldEvent[] = [];
  const limit = new EventLimit((event) => told.push(event));
  for (let i = 0; i < 22_000; i++) limit.take(guardedWrite("GPU0"));
  assert.equal(told.length, 20);
  const refused: WorkerEvent = { kind: "refuse", socket: "/s", peer: { pid: 1, uid: 2, gid: 3 } };
  limit.take(guardedWrite("GPU1"));
  limit.take(refused);
  assert.deepEqual(told.slice(20), [guardedWrite("GPU1"), refused], "what others do is told meanwhile");
  t.mock.timers.tick(1000);
  const repeated = { kind: "repeated", what: "guarded write", of: "GPU0", count: 21_980 };
  assert.deepEqual(told.slice(22), [repeated]);
  limit.take(guardedWrite("GPU0"));
  t.mock.timers.tick(5000);
  assert.deepEqual(told.slice(23), [guardedWrite("GPU0")], "nothing is told of a second in which nothing was held");
});

test("nothing that was held is lost when it ends, and each register is told", () => {
  const told: ToldEvent[] = [];
  const limit = new EventLimit((event) => told.push(event));
  for (let i = 0; i < 25; i++) limit.take(guardedWrite("GPU0"));
  for (let i = 0; i < 100; i++) limit.take({ kind: "unmodelled", what: `register ${i}` });
  limit.flush();
  limit.flush();
  assert.equal(told.filter(({ kind }) => kind === "unmodelled").length, 100);
  assert.deepEqual(told.at(-1), { kind: "repeated", what: "guarded write", of: "GPU0", count: 5 });
  assert.equal(told.length, 121);
});

test("notices of one function are limited whatever they say: a client has a hand in their words", () => {
  const told: ToldEvent[] = [];
  const limit = new EventLimit((event) => told.push(event));
  for (let size = 0; size < 1000; size++) limit.take({ kind: "notice", of: "vm1", message: `${size} bytes` });
  limit.take({ kind: "notice", of: "vm2", message: "0 bytes" });
  limit.flush();
  assert.equal(told.filter(({ kind }) => kind === "notice").length, 21);
  assert.deepEqual(told.at(-1), { kind: "repeated", what: "notice", of: "vm1", count: 980 });
});
