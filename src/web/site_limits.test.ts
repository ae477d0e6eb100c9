import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { FakeServing } from "../../test/web/fake_serving.js";
import { errorIn, listenFor } from "../../test/web/listening_site.js";
import { ask, RawConnection, sayRaw } from "../../test/web/raw_http.js";

const serving = new FakeServing();
const { site, port } = await listenFor(serving, "127.0.0.1:0");
site.open(serving);
const ASSIGNMENTS = "/api/assignments";

describe("who keeps others from being answered", () => {
  const isAnswered = async () => assert.equal((await ask(port, "/api/status")).status, 200);

  test("headers that are too long, and what is no HTTP, are refused", async () => {
    assert.equal((await ask(port, "/", { headers: { x: "a".repeat(20_000) } })).status, 431);
    assert.equal((await ask(port, `/${"a".repeat(20_000)}`)).status, 431);
    for (const text of [
      "\x16\x03\x01\x02\x00\x01\x00",
      "GET\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "\r\n\r\n\r\nX X X\r\n\r\n",
    ]) {
      assert.equal((await sayRaw(port, text)).status, 400, JSON.stringify(text));
    }
    const smuggled = { "transfer-encoding": "chunked", "content-length": "5" };
    assert.equal((await ask(port, ASSIGNMENTS, { method: "POST", headers: smuggled, body: "0\r\n\r\n" })).status, 400);
    await isAnswered();
  });

  test("more connections than there may be are hung up on, and those that are there go on", async () => {
    const idle = Array.from({ length: 200 }, () => new RawConnection(port));
    await Promise.all(idle.map(({ socket }) => (socket.connecting ? once(socket, "connect") : undefined)));
    const there = () => idle.filter(({ socket }) => !socket.destroyed && !socket.readableEnded);
    while (there().length > 128) await pause(20);
    const left = there();
    assert.ok(left.length > 100, `${left.length}`);
    const [first] = left;
    first?.socket.write(`GET /api/status HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`);
    assert.match((await first?.all()) ?? "", /^HTTP\/1.1 200 /);
    for (const { socket } of idle) socket.destroy();
    // The server hears of it a moment later.
    while ((await ask(port, "/api/status")).status !== 200) await pause(20);
  });

  test("so many may watch; who leaves makes room, also one that takes nothing", async () => {
    const request = `GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
    const watchers = Array.from({ length: 32 }, () => new RawConnection(port));
    for (const { socket } of watchers) socket.write(request);
    const [first, deaf] = watchers;
    while (watchers.some(({ text }) => !text.includes("event: snapshot"))) await pause(20);
    const { status, body } = await ask(port, "/api/events");
    assert.equal(status, 503);
    assert.match(errorIn(body), /32 watch already/);
    await isAnswered();
    deaf?.socket.pause();
    for (let i = 0; i < 3000; i++) site.tell({ kind: "notice", of: "GPU0", message: "x".repeat(2000) });
    while (!first?.text.includes("event: events") && !first?.text.match(/snapshot.*snapshot/s)) await pause(20);
    await isAnswered();
    for (const { socket } of watchers) socket.destroy();
    while (!/^linkfence_http_watchers 0$/m.test((await ask(port, "/metrics")).body)) await pause(20);
    const again = new RawConnection(port);
    again.socket.write(request);
    while (!again.text.includes("event: snapshot")) await pause(20);
    assert.match(again.text, /^HTTP\/1.1 200 /);
    again.socket.destroy();
  });

  test("whoever sends slowly, sends nothing, or takes nothing is hung up on, and keeps nobody waiting", async () => {
    const { site: hasty, port: there } = await listenFor(serving, "127.0.0.1:0", {
      patience: { headers: 500, request: 1000, idle: 1500 },
    });
    hasty.open(serving);
    const host = `Host: 127.0.0.1:${there}\r\n`;
    const watch = `GET /api/events HTTP/1.1\r\n${host}\r\n`;
    const [headers, body, silent, deaf, watcher] = Array.from({ length: 5 }, () => new RawConnection(there));
    assert.ok(headers && body && silent && deaf && watcher);
    headers.socket.write(`GET / HTTP/1.1\r\n${host}`);
    const login = `Authorization: Bearer ${hasty.token}\r\nContent-Length: 1000\r\n`;
    body.socket.write(`POST ${ASSIGNMENTS} HTTP/1.1\r\n${host}${login}\r\n`);
    for (const { socket } of [deaf, watcher]) socket.write(watch);
    deaf.socket.pause();
    const trickle = setInterval(() => {
      headers.socket.write("X: x\r\n");
      body.socket.write(" ");
      for (let i = 0; i < 100; i++) hasty.tell({ kind: "notice", of: "GPU0", message: "x".repeat(10_000) });
    }, 50);
    try {
      const ended = Promise.all([headers, body, silent].map((each) => each.all()));
      for (let at = 0; at < 20; at++) assert.equal((await ask(there, "/api/groups")).status, 200);
      const [first, second, third] = await ended;
      // An answer may be lost with what the client goes on to send.
      assert.match(first ?? "", /^$|^HTTP\/1.1 408 /);
      assert.match(second ?? "", /^$|^HTTP\/1.1 4/);
      assert.match(third ?? "", /^$|^HTTP\/1.1 408 /);
      // What it does not take fills the system's buffers first.
      while (!/^linkfence_http_watchers 1$/m.test((await ask(there, "/metrics")).body)) await pause(100);
      assert.equal(watcher.socket.closed, false);
    } finally {
      clearInterval(trickle);
      deaf.socket.destroy();
      watcher.socket.destroy();
    }
    assert.deepEqual(serving.changes, []);
  });

  test("asking for the head of what never ends, again and again, takes nobody's place", async () => {
    for (let i = 0; i < 40; i++) await ask(port, "/api/events", { method: "HEAD" });
    const { body } = await ask(port, "/metrics");
    assert.match(body, /^linkfence_http_watchers 0$/m);
  });
});

describe("where it listens", () => {
  test("the printed URL works, also of localhost and of IPv6", async () => {
    for (const address of ["0", "localhost:0", "[::1]:0", "127.0.0.2:0"]) {
      const listening = await listenFor(serving, address).catch((error: Error) => error);
      if (listening instanceof Error) {
        // A host without IPv6.
        assert.match(listening.message, /^--http \[::1\]:0 cannot be listened on: /);
        continue;
      }
      listening.site.open(serving);
      const answer = await fetch(`${listening.site.url}api/status`);
      assert.equal(answer.status, 200, address);
      await answer.body?.cancel();
    }
  });

  test("an address that cannot be had is one line", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    after(() => taken.close());
    const { port: busy } = taken.address() as { port: number };
    await assert.rejects(listenFor(serving, `127.0.0.1:${busy}`), {
      code: "EUSAGE",
      message: /^--http 127\.0\.0\.1:\d+ cannot .*: somebody else listens there$/,
    });
    await assert.rejects(listenFor(serving, "203.0.113.1:0", { names: ["x"] }), {
      code: "EUSAGE",
      message: /^--http 203\.0\.113\.1:0 cannot .*no such address$/,
    });
    await assert.rejects(listenFor(serving, "no-such-host.invalid:0", { names: ["x"] }), {
      code: "EUSAGE",
      message: /cannot be listened on/,
    });
  });

  test("when it closes, watchers and requests under way end at once", async () => {
    const { site: other, port: there } = await listenFor(serving, "127.0.0.1:0");
    other.open(serving);
    const watcher = new RawConnection(there);
    watcher.socket.write(`GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:${there}\r\n\r\n`);
    const half = new RawConnection(there);
    half.socket.write("POST /api/assignments HTTP/1.1\r\n");
    while (!watcher.text.includes("event: snapshot")) await pause(10);
    other.close();
    await Promise.all([watcher.all(), half.all()]);
    await assert.rejects(fetch(other.url));
  });
});
