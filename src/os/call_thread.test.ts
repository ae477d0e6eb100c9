import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { constants } from "node:os";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { CallThread, createEventfd, createMemfd, Fd, libc, NativeMemory, OsError, type PendingCall } from "./index.js";

/** Waits on this thread, whose event loop stands still. */
function resultOf(call: PendingCall): number {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const end = Date.now() + 20_000;
  while (!call.isDone) {
    assert.ok(Date.now() < end, "the call does not end");
    Atomics.wait(cell, 0, 0, 1);
  }
  return call.result();
}

function throwsErrno(errno: number, run: () => unknown): void {
  assert.throws(run, (error: unknown) => error instanceof OsError && error.errno === errno);
}

test("calls are made in order while the starter's event loop stands still, from the thread's start on", () => {
  const thread = new CallThread();
  const file = createMemfd("call thread", 4096, 0);
  const [written, read] = [new NativeMemory(8), new NativeMemory(8)];
  written.bytes.set([1, 2, 3, 4, 5, 6, 7, 8]);
  thread.start("pwrite", file, written, 8, 16);
  assert.equal(resultOf(thread.start("pread", file, read, 8, 16)), 8);
  assert.deepEqual(read.bytes, written.bytes);
  file.close();
  thread.close();
});

test("what fails in the other thread is thrown with its errno, and nothing can be asked before the end", () => {
  const thread = new CallThread();
  const call = thread.start("close", 1_000_000);
  if (!call.isDone) throwsErrno(constants.errno.EAGAIN, () => call.result());
  throwsErrno(constants.errno.EBADF, () => resultOf(call));
  throwsErrno(constants.errno.ENOENT, () => resultOf(thread.start("open", "/nowhere/at/all", 0)));
  assert.throws(() => thread.start("close", closed()), OsError);
  thread.close();
});

function closed(): Fd {
  const fd = createEventfd();
  fd.close();
  return fd;
}

const EFD_CLOEXEC = 0o2000000;

/** A call that waits in the kernel until it is released. */
function stuckCall(thread: CallThread): { call: PendingCall; release: () => void } {
  const fd = new Fd(libc().eventfd(0, EFD_CLOEXEC));
  const one = new NativeMemory(8);
  one.view.setBigUint64(0, 1n, true);
  const call = thread.start("read", fd, new NativeMemory(8), 8);
  return { call, release: () => assert.equal(libc().write(fd.number, one.address, 8), 8) };
}

test("closing cancels what has not begun, waits for nothing, and lets what has begun end", () => {
  const thread = new CallThread();
  resultOf(thread.start("pread", createMemfd("m", 64), new NativeMemory(8), 8, 0));
  const { call, release } = stuckCall(thread);
  const next = thread.start("close", 1_000_000);
  while (!call.hasBegun) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  // Waiting for the one that has begun would be for ever.
  thread.close();
  thread.close();
  throwsErrno(constants.errno.ECANCELED, () => resultOf(next));
  throwsErrno(constants.errno.ECANCELED, () => thread.start("close", 1));
  release();
  assert.equal(resultOf(call), 8);
});

test("a thread that is closed after its calls makes them all", () => {
  const thread = new CallThread();
  const { call, release } = stuckCall(thread);
  const file = createMemfd("m", 64);
  const next = thread.start("pread", file, new NativeMemory(8), 8, 0);
  thread.closeAfterCalls();
  release();
  assert.deepEqual([resultOf(call), resultOf(next)], [8, 8]);
  file.close();
});

test("a descriptor that nobody waits for any more is closed, whenever it comes", () => {
  const thread = new CallThread();
  resultOf(thread.start("pread", createMemfd("m", 64), new NativeMemory(8), 8, 0));
  const before = readdirSync("/proc/self/fd").length;
  const ended = thread.start("open", "/dev/null", 0);
  resultOf(ended);
  assert.equal(readdirSync("/proc/self/fd").length, before + 1);
  ended.abandon();
  for (let round = 0; round < 50; round++) thread.start("open", "/dev/null", 0).abandon();
  const last = new Fd(resultOf(thread.start("open", "/dev/null", 0)));
  assert.equal(readdirSync("/proc/self/fd").length, before + 1, "the one that was waited for");
  last.close();
  thread.close();
});

test("a worker can have such a thread while it never returns to its event loop", async () => {
  const code = `
    const { workerData: { index } } = await import("node:worker_threads");
    const { register } = await import("tsx/esm/api");
    register();
    const { CallThread, createMemfd, NativeMemory, Poller } = await import(index);
    const thread = new CallThread();
    const call = thread.start("pwrite", createMemfd("m", 64), new NativeMemory(8), 8, 0);
    const poller = new Poller();
    for (let round = 0; round < 20000 && !call.isDone; round++) poller.wait(1);
    thread.close();
    process.exit(call.isDone && call.result() === 8 ? 7 : 1);`;
  const index = new URL("./index.js", import.meta.url).href;
  const worker = new Worker(`(async () => {${code}})();`, { eval: true, workerData: { index } });
  const [status] = await once(worker, "exit");
  assert.equal(status, 7);
});
