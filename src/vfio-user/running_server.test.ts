import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { RawClient } from "../../test/vfio_user/raw_client.js";
import { createEventfd, drainEventfd, OsError } from "../os/index.js";
import type { Steps, VfioDevice } from "../vfio/index.js";
import { Command, encodeVersion, startServer, VfioUserClient, VfioUserServer } from "./index.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-running-"));
const path = join(directory, "device.sock");
const module = new URL("../../test/vfio_user/test_device.js", import.meta.url);

after(() => rmSync(directory, { recursive: true }));

/** What a server in a process of its own prints, and how it ended. */
interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

/** Starts a server in a process, does something to it, and waits for its end. */
async function runProcess(
  code: string,
  act: (kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<Ended> {
  const index = new URL("./index.js", import.meta.url).href;
  const script = `
    const { startServer } = await import(${JSON.stringify(index)});
    const server = await startServer({ module: ${JSON.stringify(module.href)}, data: [${JSON.stringify(path)}] });
    console.log("ready");
    ${code}`;
  const file = join(directory, "server.mjs");
  writeFileSync(file, script);
  const child = spawn(process.execPath, [...process.execArgv, file]);
  let output = "";
  let isReady = false;
  child.stderr.on("data", (data) => {
    output += data;
  });
  child.stdout.on("data", (data) => {
    output += data;
    if (isReady || !output.includes("ready")) return;
    isReady = true;
    act((signal) => child.kill(signal));
  });
  // One that hangs ends otherwise than it should.
  const killer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  return new Promise((resolve) => {
    child.on("close", (status, signal) => {
      clearTimeout(killer);
      resolve({ code: status, signal, output });
    });
  });
}

/** Stops a server in some situation. @returns the milliseconds that it took */
async function stopWhile(situation: string): Promise<number> {
  const server = await startServer({ module, data: [path] });
  const client = situation === "idle" ? undefined : new RawClient(path);
  if (situation === "resetting") client?.send(Command.DEVICE_RESET, new Uint8Array(0));
  if (situation === "half a message") client?.sendBytes(Uint8Array.of(1, 2, 3));
  await sleep(20);
  const began = performance.now();
  await server.stop();
  const took = performance.now() - began;
  assert.equal(existsSync(path), false);
  client?.close();
  return took;
}

test("stopping takes under 50 ms while the server is idle, while it resets, and while a client hangs", async () => {
  const idle = openFiles();
  for (const situation of ["idle", "resetting", "half a message", "attached"]) {
    const times: number[] = [];
    // A busy machine delays anybody now and then, so one of a few attempts has to do.
    while (times.length < 20 && !(Math.min(...times) < 50)) times.push(await stopWhile(situation));
    assert.ok(Math.min(...times) < 50, `stopping took ${times.map(Math.round)} ms while ${situation}`);
  }
  // The worker's own descriptors go a little later than its last word.
  for (let attempt = 0; attempt < 2000 && openFiles().descriptors > idle.descriptors; attempt++) await sleep(10);
  assert.deepEqual(openFiles(), idle);
});

test("having raised interrupts makes stopping no slower, and servers that follow each other pile up no queues", async () => {
  const queues = () => readFileSync("/proc/self/maps", "utf8").split("[aio]").length - 1;
  const times: number[] = [];
  const counts: number[] = [];
  // A busy machine may delay many of them.
  for (let round = 0; round < 4 || (round < 24 && Math.min(...times) >= 10); round++) {
    const server = await startServer({ module, data: [path] });
    const client = new VfioUserClient(path);
    const fd = createEventfd();
    client.setIrqs({ index: 2, start: 0, count: 1, action: "trigger", data: { kind: "eventfd" } }, [fd]);
    assert.equal(await server.call([0, { do: "trigger", index: 2, subindex: 0 }]), true);
    assert.equal(drainEventfd(fd), 1n);
    client.close();
    fd.close();
    const began = performance.now();
    await server.stop();
    times.push(performance.now() - began);
    counts.push(queues());
  }
  // To end a queue takes the kernel a grace period, some 10 to 30 ms.
  assert.ok(Math.min(...times) < 10, `stopping took ${times.map(Math.round)} ms`);
  assert.ok(Math.max(...counts) <= 1, `${counts} queues`);
});

test("this thread stays free while the worker waits, and hears what the module answers", async () => {
  const server = await startServer({ module, data: [path] });
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  for (const end = performance.now() + 20_000; ticks < 5 && performance.now() < end; ) await sleep(5);
  clearInterval(timer);
  assert.ok(ticks >= 5, `${ticks} ticks`);
  assert.deepEqual(await server.call([0, { do: "log" }]), []);
  await server.stop();
  await assert.rejects(server.call([0, { do: "log" }]), /ended/);
});

test("an answer that cannot be cloned is that call's failure, and the server goes on", async () => {
  const code = `export const createDevices = () => ({ devices: [], onMessage: (message) => {
    if (message === "promise") return Promise.resolve(1);
    if (message === "throw") throw () => 1;
    return message;
  } });`;
  const server = await startServer({ module: `data:text/javascript,${encodeURIComponent(code)}` });
  try {
    await assert.rejects(server.call("promise"), /could not be cloned/);
    await assert.rejects(server.call("throw"), /could not be cloned/);
    assert.equal(await server.call("still there"), "still there");
  } finally {
    await server.stop();
  }
});

test("what a module tells arrives in order with its answers, and an error keeps its code", async () => {
  const code = `export const createDevices = (data, tell) => {
    tell("created");
    return { devices: [], close: () => tell("closed"), onMessage(message) {
      tell(["asked", message]);
      if (message === "fail") throw Object.assign(new Error("no"), { code: "ENO" });
    } };
  };`;
  const heard: unknown[] = [];
  const onNews = (news: unknown) => heard.push(news);
  const server = await startServer({ module: `data:text/javascript,${encodeURIComponent(code)}`, onNews });
  try {
    assert.deepEqual(heard, ["created"]);
    await server.call("first");
    await assert.rejects(server.call("fail"), { message: "no", code: "ENO" });
    assert.deepEqual(heard, ["created", ["asked", "first"], ["asked", "fail"]]);
  } finally {
    await server.stop();
  }
});

test("who is connected to a device, since when, and whether the device is at work can be asked", () => {
  let over = false;
  const reset = function* (): Steps {
    yield { deadline: Number.POSITIVE_INFINITY, done: () => over };
  };
  const device: VfioDevice = { regions: [], irqs: [], read() {}, write() {}, reset };
  const server = new VfioUserServer([{ socket: path, device }]);
  try {
    assert.deepEqual([server.occupantOf(device), server.isBusy(device)], [undefined, false]);
    const began = Date.now();
    const client = new RawClient(path, false);
    while (server.occupantOf(device) === undefined) server.step(100);
    const { peer, since } = server.occupantOf(device) ?? assert.fail("nobody");
    assert.equal(peer.pid, process.pid);
    assert.ok(since >= began && since <= Date.now());
    client.send(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }));
    client.send(Command.DEVICE_RESET, new Uint8Array(0), [], { id: 1 });
    while (!server.isBusy(device)) server.step(100);
    over = true;
    client.close();
    while (server.occupantOf(device) !== undefined || server.isBusy(device)) server.step(100);
    server.remove(device);
    assert.deepEqual([server.occupantOf(device), server.isBusy(device)], [undefined, false]);
  } finally {
    server.close();
  }
});

test("a module that cannot be loaded and a path that is taken are errors of startServer", async () => {
  await assert.rejects(startServer({ module: new URL("./absent.js", import.meta.url) }), /absent/);
  writeFileSync(join(directory, "file"), "not a socket");
  await assert.rejects(startServer({ module, data: [join(directory, "file")] }), /EADDRINUSE/);
  const server = await startServer({ module, data: [path] });
  await assert.rejects(startServer({ module, data: [join(directory, "second"), path] }), /EADDRINUSE/);
  assert.equal(existsSync(join(directory, "second")), false, "nothing is left behind");
  new VfioUserClient(path).close();
  await server.stop();
});

for (const [name, code, expected] of [
  ["process.exit", "process.exit(3);", 3],
  ["an exception", "setTimeout(() => { throw new Error('oops'); }, 10);", 1],
  ["process.exit during a reset", "await server.call([0, { do: 'log' }]); process.exit(4);", 4],
] as const) {
  test(`${name} neither hangs nor leaves the socket behind`, async () => {
    const { code: status, output } = await runProcess(code);
    assert.equal(status, expected, output);
    assert.equal(existsSync(path), false);
  });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  test(`${signal} ends the process as it always does, and the socket is gone`, async () => {
    const ended = await runProcess("await server.done;", (kill) => kill(signal));
    assert.equal(ended.signal, signal, ended.output);
    assert.equal(existsSync(path), false);
  });
}

test("a process that ends while its server starts leaves no socket behind", async () => {
  // Slower to load than an exiting process waits for the worker: it would listen while the process ends.
  const code = `
    export async function createDevices(socket) {
      await new Promise((resolve) => setTimeout(resolve, 38));
      const device = { regions: [], irqs: [], read() {}, write() {} };
      return { devices: Array.from({ length: 20 }, (_, index) => ({ socket: socket + index, device })) };
    }`;
  const slow = `data:text/javascript,${encodeURIComponent(code)}`;
  for (const delay of [0, 5, 10]) {
    await runProcess(`
      await server.stop();
      void startServer({ module: ${JSON.stringify(slow)}, data: ${JSON.stringify(`${path}-`)} });
      setTimeout(() => process.exit(), 150 + ${delay});`);
    const left = readdirSync(directory).filter((name) => name.startsWith("device.sock-"));
    assert.deepEqual(left, []);
  }
});

test("after SIGKILL the next server takes the path over", async () => {
  const ended = await runProcess("await server.done;", (kill) => kill("SIGKILL"));
  assert.equal(ended.signal, "SIGKILL");
  assert.equal(existsSync(path), true);
  assert.throws(
    () => new VfioUserClient(path),
    (error: unknown) => error instanceof OsError && error.code === "ECONNREFUSED",
  );
  const server = await startServer({ module, data: [path] });
  new VfioUserClient(path).close();
  await server.stop();
  assert.equal(existsSync(path), false);
});
