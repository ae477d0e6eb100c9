import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { createEventfd, createMemfd, drainEventfd, EventSignaller, libc, NativeMemory, OsError } from "./index.js";

const F_SETFL = 4;
const FULL = 0xfffffffffffffffen;

function contexts(): number {
  return readFileSync("/proc/self/maps", "utf8").split("[aio]").length - 1;
}

test("signals of a signaller are counted like writes, however many", () => {
  const signaller = new EventSignaller();
  const [one, other] = [createEventfd(), createEventfd()];
  for (let count = 0; count < 10_000; count++) signaller.signal(one);
  signaller.signal(other);
  assert.deepEqual([drainEventfd(one), drainEventfd(other)], [10_000n, 1n]);
  for (const each of [one, other, signaller]) each.close();
});

test("a signaller does not wait for a peer that has filled its blocking eventfd", (context) => {
  const signaller = new EventSignaller();
  const fd = createEventfd();
  signaller.signal(fd);
  drainEventfd(fd);
  if (contexts() === 0) {
    signaller.close();
    fd.close();
    context.skip("there is no asynchronous input and output here");
    return;
  }
  const memory = new NativeMemory(8);
  memory.view.setBigUint64(0, FULL, true);
  assert.equal(libc().write(fd.number, memory.address, 8), 8);
  assert.equal(libc().fcntl(fd.number, F_SETFL, "int", 0), 0, "without O_NONBLOCK");
  // No look at the counter comes before: it is the call itself that does not wait.
  for (let count = 0; count < 3; count++) signaller.signal(fd);
  assert.ok(drainEventfd(fd) >= FULL);
  fd.close();
  signaller.close();
});

test("a signaller refuses what is no eventfd, and leaves nothing behind", () => {
  const before = readdirSync("/proc/self/fd").length;
  const signaller = new EventSignaller();
  const file = createMemfd("no eventfd", 4096);
  assert.throws(() => signaller.signal(file), OsError);
  file.close();
  signaller.close();
  signaller.close();
  assert.equal(readdirSync("/proc/self/fd").length, before);
  assert.equal(contexts(), 0);
});
