import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type RunningServer, startServer, VfioUserClient } from "./index.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-calls-"));
const path = join(directory, "device.sock");
const farewell = join(directory, "farewell");

after(() => rmSync(directory, { recursive: true }));

/** A module whose answers take their time; `told` is what its steps wait for. */
const code = `
  import { appendFileSync } from "node:fs";
  const device = { regions: [{ size: 4096, readable: true, writable: true }], irqs: [], read() {}, write() {} };
  const waiting = new Set();
  let told = false;
  function* wait(milliseconds) {
    yield { deadline: performance.now() + milliseconds };
    return "after " + milliseconds;
  }
  function* hang(name) {
    waiting.add(name);
    try {
      while (!told) yield { deadline: Infinity, done: () => told };
      return name + " was told";
    } finally {
      waiting.delete(name);
      appendFileSync(${JSON.stringify(farewell)}, name + " ");
    }
  }
  function* fail(late) {
    if (late) yield { deadline: performance.now() + 5 };
    throw Object.assign(new RangeError("it failed"), { late });
  }
  function* failWithNothing() { throw undefined; }
  function* adds(server, socket) {
    const other = { ...device };
    yield { deadline: 0 };
    server.add(other, socket);
    yield { deadline: performance.now() + 5 };
    server.remove(other);
    return "added and removed";
  }
  export const createDevices = (socket) => ({
    devices: [{ socket, device }],
    onMessage([what, value], server) {
      switch (what) {
        case "wait": return wait(value);
        case "hang": return hang(value);
        case "tell": told = true; return [...waiting];
        case "fail": return fail(value);
        case "fail with nothing": return failWithNothing();
        case "function": return (function* () { yield { deadline: 0 }; return () => 1; })();
        case "add": return adds(server, value);
        default: return [...waiting];
      }
    },
  });`;

function start(): Promise<RunningServer> {
  return startServer({ module: `data:text/javascript,${encodeURIComponent(code)}`, data: path });
}

test("steps that a message begins are answered when they end, each for itself, and the server serves meanwhile", async () => {
  const server = await start();
  const order: string[] = [];
  const note = (result: unknown) => order.push(String(result));
  const calls = [["wait", 60] as const, ["hang", "first"], ["wait", 20], ["hang", "second"], ["now"]].map((message) =>
    server.call(message).then(note),
  );
  const client = new VfioUserClient(path);
  client.read(0, 0, 4);
  await Promise.all([calls[0], calls[2], calls[4]]);
  assert.deepEqual(order, ["first,second", "after 20", "after 60"]);
  await server.call(["tell"]);
  await Promise.all(calls);
  assert.deepEqual(order.slice(3), ["first was told", "second was told"]);
  client.close();
  await server.stop();
});

test("what steps throw, at once or later, is their call's failure, and so is a result that cannot be cloned", async () => {
  const server = await start();
  await assert.rejects(server.call(["fail", false]), /it failed/);
  await assert.rejects(server.call(["fail", true]), { name: "RangeError", message: "it failed" });
  await assert.rejects(server.call(["fail with nothing"]));
  await assert.rejects(server.call(["function"]), /could not be cloned/);
  assert.deepEqual(await server.call(["now"]), []);
  await server.stop();
});

test("a server that stops cancels steps, whose finally blocks run, and their calls fail", async () => {
  rmSync(farewell, { force: true });
  const server = await start();
  const calls = ["one", "other"].map((name) => server.call(["hang", name]));
  const ended = Promise.all(calls.map((call) => assert.rejects(call, /ended/)));
  assert.deepEqual(await server.call(["now"]), ["one", "other"]);
  const began = performance.now();
  await server.stop();
  assert.ok(performance.now() - began < 10_000);
  await ended;
  assert.equal(readFileSync(farewell, "utf8"), "one other ");
});

test("steps add and remove devices, and the main thread knows which sockets there are", async () => {
  const server = await start();
  assert.deepEqual(server.sockets, [path]);
  const second = join(directory, "second.sock");
  const call = server.call(["add", second]);
  const deadline = performance.now() + 20_000;
  while (server.sockets.length < 2 && performance.now() < deadline) await sleep(1);
  assert.deepEqual(server.sockets, [path, second]);
  assert.equal(await call, "added and removed");
  assert.deepEqual(server.sockets, [path]);
  await server.stop();
});
