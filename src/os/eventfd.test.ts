import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
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
});

test("signallers that follow each other share a queue, and closing one waits for nothing", () => {
  const fd = createEventfd();
  const signal = () => {
    const signaller = new EventSignaller();
    signaller.signal(fd);
    const began = performance.now();
    signaller.close();
    return performance.now() - began;
  };
  signal();
  const before = contexts();
  const times = Array.from({ length: 20 }, signal);
  assert.equal(contexts(), before);
  assert.equal(drainEventfd(fd), 21n);
  // Ending a queue takes the kernel a grace period, some 10 to 30 ms each.
  assert.ok(Math.min(...times) < 2, `closing took ${times.map((time) => time.toFixed(1))} ms`);
  const crowd = Array.from({ length: 17 }, () => new EventSignaller());
  for (const signaller of crowd) signaller.signal(fd);
  for (const signaller of crowd) signaller.close();
  assert.ok(contexts() <= 16, "a few are kept, not all there ever were");
  fd.close();
});

test("a queue is left to the next thread when its thread ends", async () => {
  const code = `
    const { workerData: { index, spares } } = await import("node:worker_threads");
    const { register } = await import("tsx/esm/api");
    register();
    const { createEventfd, EventSignaller, useSpareQueues } = await import(index);
    useSpareQueues(spares);
    const [signaller, fd] = [new EventSignaller(), createEventfd()];
    signaller.signal(fd);
    signaller.close();
    fd.close();`;
  const spares = new BigUint64Array(new SharedArrayBuffer(16));
  const index = new URL("./index.js", import.meta.url).href;
  const before = contexts();
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(`(async () => {${code}})();`, { eval: true, workerData: { index, spares } });
    await once(worker, "exit");
  }
  assert.ok(contexts() <= before + 1);
  if (before > 0) assert.notEqual(spares[0], 0n);
});
