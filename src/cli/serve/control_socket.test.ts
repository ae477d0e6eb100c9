import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { askServer } from "./control_client.js";
import { type ControlRequest, controlPath } from "./control_protocol.js";
import { ControlSocket, type RequestHandler } from "./control_socket.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-control-"));
after(() => rmSync(folder, { recursive: true }));
let server: ControlSocket | undefined;
afterEach(() => server?.close());

function serve(handle: RequestHandler): void {
  server = new ControlSocket(controlPath(folder), handle);
}

/** What comes back for these bytes until the server or, with `end`, we are done. */
function say(bytes: string | Buffer, end = true): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(controlPath(folder));
    let text = "";
    socket.on("data", (data) => {
      text += data;
    });
    socket.on("error", reject).on("close", () => resolve(text));
    if (end) socket.end(bytes);
    else socket.write(bytes);
  });
}

test("a request is answered with its result, and progress is heard before", async () => {
  const heard: ControlRequest[] = [];
  serve(async (request, onProgress) => {
    heard.push(request);
    onProgress("first");
    onProgress("second");
    return { done: true };
  });
  assert.equal(statSync(controlPath(folder)).mode & 0o777, 0o600);
  const progress: string[] = [];
  const request = { command: "assign", assign: ["vm1=GPU0"] } as const;
  const result = await askServer(folder, { ...request, assign: [...request.assign] }, (line) => progress.push(line));
  assert.deepEqual([result, progress, heard], [{ done: true }, ["first", "second"], [request]]);
});

test("what the handler throws is the client's error, in one line", async () => {
  serve(async () => {
    throw Object.assign(new Error("no such\nthing"), { code: "EX" });
  });
  await assert.rejects(askServer(folder, { command: "status" }), { code: "EUSAGE", message: "no such thing" });
});

test("requests on one connection are answered in order, and the last one when its sender has ended", async () => {
  let count = 0;
  serve(async () => count++);
  const line = '{"command":"status"}\n';
  assert.equal(await say(line.repeat(3)), '{"result":0}\n{"result":1}\n{"result":2}\n');
});

test("a client that waits keeps no other from being answered", async () => {
  let release = () => {};
  serve((request) =>
    request.command === "status" ? Promise.resolve("now") : new Promise((resolve) => (release = () => resolve("late"))),
  );
  const slow = askServer(folder, { command: "release", name: "vm1" });
  assert.equal(await askServer(folder, { command: "status" }), "now");
  release();
  assert.equal(await slow, "late");
});

test("nonsense is answered with an error, and the server goes on", async () => {
  serve(async () => "fine");
  const nonsense = [
    "x",
    "[]",
    "null",
    "{}",
    '{"command":"stop"}',
    '{"command":"assign","assign":"a"}',
    '{"command":"release"}',
  ];
  nonsense.push('{"command":"assign","assign":[1]}', '{"command":"release","name":{}}', "[".repeat(60_000));
  for (const line of nonsense)
    assert.match(await say(`${line}\n`), /^\{"error":"a request is [^\n]+"\}\n$/, line.slice(0, 40));
  assert.equal(await say("\n"), '{"error":"a request is one line of JSON"}\n');
  assert.equal(await say("no newline"), "");
  assert.equal(await say(Buffer.from([0xff, 0xfe, 10])), '{"error":"a request is one line of JSON"}\n');
  assert.equal(await askServer(folder, { command: "status" }), "fine");
});

test("a line without end is refused once it is too long, and its sender is hung up on", async () => {
  serve(async () => "fine");
  const heard = await say("x".repeat(200_000), false).catch((error: NodeJS.ErrnoException) => error.code ?? "");
  // What it has not sent yet may be refused before it reads why.
  assert.match(heard, /longer than 65536 bytes|ECONNRESET|EPIPE/);
  assert.equal(await askServer(folder, { command: "status" }), "fine");
});

test("a client that asks again and again without taking the answers is not answered without end", async () => {
  let answered = 0;
  serve(async () => {
    answered++;
    return "x".repeat(100_000);
  });
  const socket = connect(controlPath(folder));
  socket.on("error", () => {});
  socket.pause();
  socket.write('{"command":"status"}\n'.repeat(1000));
  await askServer(folder, { command: "status" });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const after = answered;
  await askServer(folder, { command: "status" });
  assert.ok(answered === after + 1 && after < 50, `${after} answered`);
  socket.destroy();
});

test("clients that leave in the middle do no harm", async () => {
  serve(() => new Promise((resolve) => setTimeout(() => resolve("x".repeat(1 << 20)), 20)));
  for (let i = 0; i < 10; i++) {
    const socket = connect(controlPath(folder));
    socket.on("error", () => {});
    socket.write('{"command":"status"}\n', () => socket.destroy());
  }
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(String(await askServer(folder, { command: "status" })).length, 1 << 20);
});

test("no server is no answer, also where a killed one left its socket or something else is", async () => {
  assert.equal(await askServer(folder, { command: "status" }), undefined);
  assert.equal(await askServer(join(folder, "nothing"), { command: "status" }), undefined);
  assert.equal(await askServer(`/${"x".repeat(200)}`, { command: "status" }), undefined);
  writeFileSync(controlPath(folder), "");
  assert.equal(await askServer(folder, { command: "status" }), undefined);
});

test("a server takes the place of what was left, and takes its socket away when it ends", async () => {
  writeFileSync(controlPath(folder), "");
  serve(async () => "fine");
  assert.equal(await askServer(folder, { command: "status" }), "fine");
  server?.close();
  assert.equal(existsSync(controlPath(folder)), false);
});

test("a server that ends while it is asked is said so", async () => {
  serve(() => new Promise(() => setTimeout(() => server?.close(), 10)));
  await assert.rejects(askServer(folder, { command: "status" }), /hung up before it answered|failed/);
});
