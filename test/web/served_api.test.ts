import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { LINK_DISABLE } from "../../src/machine/part.js";
import { VfioUserClient } from "../../src/vfio-user/index.js";
import { conforming, json } from "../cli/json_schema.js";
import { ENVIRONMENT, linkfence, MAIN, printed, refused, scratchFolder } from "../cli/linkfence.js";
import { ServingProcess, type StatusJson } from "../cli/serving_process.js";
import { DescribedApi } from "./described_api.js";
import { messagesOf, type StreamMessage } from "./event_source.js";
import { readExposition } from "./exposition.js";
import { ask } from "./raw_http.js";

const folder = scratchFolder();
const SEQUOIA = ["--machine", "sequoia", "--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2"];
const GPU0 = 'gpu="GPU0",address="0004:04:00.0"';

/** Starts a server with its page on a port of the system's choice. */
async function serve(t: TestContext, name: string, ...more: string[]) {
  const [sockets, state] = [folder.path(`${name}/run`), folder.path(`${name}/state`)];
  const directories = ["--socket-dir", sockets, "--state-dir", state];
  const server = await ServingProcess.ready(...SEQUOIA, ...directories, "--http", "127.0.0.1:0", ...more);
  t.after(() => server.end("SIGKILL"));
  const { http } = server.ready as unknown as { http: { url: string; token: string } };
  const headers = { authorization: `Bearer ${http.token}` };
  return { server, sockets, url: http.url.slice(0, -1), token: http.token, headers };
}

function gpu0(sockets: string): VfioUserClient {
  return new VfioUserClient(join(sockets, "GPU0-0004:04:00.0.sock"));
}

test("every answer is as it is described, and the same that the commands give", async (t) => {
  const { server, sockets, url, headers } = await serve(t, "described");
  const api = new DescribedApi(await (await fetch(`${url}/api`)).text());
  const get = async (path: string, query = "") => {
    const answer = await fetch(url + path + query);
    assert.deepEqual(await api.breaches("GET", path, answer.clone()), [], path);
    return answer.text();
  };
  const parsed = async (path: string, query = "") => JSON.parse(await get(path, query));

  await t.test("what is read", async () => {
    const asked = ["POST /api/assignments", "DELETE /api/assignments/{name}", "GET /api/events"];
    for (const operation of api.operations) {
      const [method = "", path = ""] = operation.split(" ");
      if (method === "GET" && !asked.includes(operation)) await get(path);
      else assert.ok(asked.includes(operation), `${operation} is not held against its description`);
    }
  });

  await t.test("status, groups, audit and plan are those of the commands", async () => {
    const [status, told] = [await parsed("/api/status"), await json<StatusJson>(0, "status", "--socket-dir", sockets)];
    assert.deepEqual(status, told);
    assert.deepEqual((told as unknown as { http: object }).http, { url: `${url}/` });
    assert.match(await printed(0, "status", "--socket-dir", sockets), new RegExp(`^to be seen at ${url}/$`, "m"));
    const capture = folder.file("described/now.json", await get("/api/machine"));
    for (const command of ["groups", "audit"]) {
      assert.deepEqual(await parsed(`/api/${command}`), await json(0, command, "--capture", capture), command);
    }
    const assign = ["--assign", "a=GPU0,GPU2", "--assign", "b=GPU1"];
    const plan = await parsed("/api/plan", "?assign=a=GPU0,GPU2&assign=b=GPU1");
    assert.deepEqual(plan, await json(0, "plan", "--capture", capture, ...assign));
    assert.deepEqual(await parsed("/api/plan"), await json(0, "plan", "--capture", capture));
    const impossible = await parsed("/api/plan", "?assign=a=GPU0&assign=b=GPU0");
    assert.deepEqual(
      impossible,
      await json(1, "plan", "--capture", capture, "--assign", "a=GPU0", "--assign", "b=GPU0"),
    );
  });

  await t.test("what is bad is answered as described", async () => {
    const ill: [string, string, string, RequestInit, number][] = [
      ["GET", "/api/plan", "?assign=vm1=GPU9", {}, 400],
      ["POST", "/api/assignments", "", { body: "{}" }, 401],
      ["POST", "/api/assignments", "", { body: "{}", headers }, 400],
      ["POST", "/api/assignments", "", { body: " ".repeat(70_000), headers }, 413],
      ["DELETE", "/api/assignments/{name}", "", { headers }, 404],
      ["GET", "/api/status", "", { headers: { "sec-fetch-site": "cross-site" } }, 403],
    ];
    for (const [method, path, query, init, status] of ill) {
      const answer = await fetch(url + path + query, { method, ...init });
      assert.equal(answer.status, status, `${method} ${path}`);
      assert.deepEqual(await api.breaches(method, path, answer), []);
    }
    const rejected = () => server.events().filter(({ event }) => event === "rejected");
    await server.line(() => rejected().length === 4);
    await server.event("rejected", (event) => (event as unknown as { status: number }).status === 401);
  });

  await t.test("changes are those of assign and release, told with who has made them, and streamed", async () => {
    const gone = new AbortController();
    const stream = messagesOf(`${url}/api/events`, gone.signal);
    const next = async (isIt: (message: StreamMessage) => boolean) => {
      for (;;) {
        const { value } = await stream.next();
        assert.ok(value !== undefined);
        assert.deepEqual(api.breachesOfSchema(`event-stream.${value.event}`, value.data), [], value.event);
        assert.deepEqual(api.breachesOfSchema("event-stream", value.data), [], value.event);
        if (isIt(value)) return value;
      }
    };
    const first = await next(() => true);
    assert.equal(first.event, "snapshot");
    conforming("capture-file", (first.data as { machine: string }).machine);

    const body = JSON.stringify({ assign: ["vm2=GPU2,GPU3"] });
    const assigned = await fetch(`${url}/api/assignments`, { method: "POST", headers, body });
    assert.equal(assigned.status, 200);
    assert.deepEqual(await api.breaches("POST", "/api/assignments", assigned.clone()), []);
    assert.deepEqual(await assigned.json(), await parsed("/api/assignments"));
    // In whichever order they come.
    const awaited = new Map([
      ["events", '"changed"'],
      ["state", "GPU3-0035:03:00.0.sock"],
    ]);
    await next(({ event, data }) => {
      if (JSON.stringify(data).includes(awaited.get(event) ?? "-")) awaited.delete(event);
      return awaited.size === 0;
    });
    const by = { over: "http", from: "127.0.0.1" };
    const changed = await server.event("changed");
    assert.deepEqual((changed as unknown as { by: object }).by, by);

    const client = gpu0(sockets);
    const busy = await fetch(`${url}/api/assignments/vm1`, { method: "DELETE", headers });
    assert.equal(busy.status, 409);
    assert.match(
      ((await busy.clone().json()) as { error: string }).error,
      new RegExp(`^process ${process.pid} is connected`),
    );
    assert.deepEqual(await api.breaches("DELETE", "/api/assignments/{name}", busy), []);
    client.close();
    await server.event("disconnect");
    // The GPU is reset before it may go elsewhere.
    let released = await fetch(`${url}/api/assignments/vm1`, { method: "DELETE", headers });
    while (released.status === 409) released = await fetch(`${url}/api/assignments/vm1`, { method: "DELETE", headers });
    assert.deepEqual(await api.breaches("DELETE", "/api/assignments/{name}", released.clone()), []);
    const left = ((await released.json()) as { assignments: { name: string }[] }).assignments;
    assert.deepEqual(
      left.map(({ name }) => name),
      ["vm2"],
    );

    await printed(0, "assign", "vm1=GPU0", "--socket-dir", sockets);
    await server.event("changed", (event) => JSON.stringify(event).includes('"over":"control socket"'));
    gone.abort();
    await stream.return(undefined).catch(() => {});
  });

  await t.test("what nobody may see is in none of it", async () => {
    const { token } = (server.ready as unknown as { http: { token: string } }).http;
    for (const path of ["/", "/metrics", "/api", "/api/status", "/api/machine", "/api/assignments"]) {
      assert.ok(!(await (await fetch(url + path)).text()).includes(token), path);
    }
    assert.ok(!(await printed(0, "status", "--json", "--socket-dir", sockets)).includes(token));
  });

  assert.deepEqual(await server.end("SIGTERM"), { status: 0, signal: null });
  assert.equal(server.stderr, "");
  server.events();
});

test("metrics count what clients do, all of it, and time each reset", async (t) => {
  const { sockets, url } = await serve(t, "counted");
  const read = async () => readExposition(await (await fetch(`${url}/metrics`)).text());
  const of = (samples: ReadonlyMap<string, number>, name: string, labels = GPU0) =>
    samples.get(`linkfence_${name}{${labels}}`);
  const before = await read();
  // Of the start.
  assert.deepEqual([of(before, "resets_total"), of(before, "refence_duration_seconds_count")], [1, 1]);
  assert.equal(of(before, "fence_in_force", `${GPU0},assignment="vm1"`), 1);
  const client = gpu0(sockets);
  client.reset();
  for (let i = 0; i < 300; i++) client.write(0, LINK_DISABLE, new Uint8Array(4));
  const second = join(sockets, "GPU0-0004:04:00.0.sock");
  assert.throws(() => new VfioUserClient(second));
  // What the worker has told is told in order, and this comes behind it.
  const during = await read();
  assert.equal(of(during, "trapped_writes_total"), 300);
  assert.equal(of(during, "clients_connected", 'assignment="vm1"'), 1);
  assert.equal(during.get("linkfence_connections_total"), 1);
  assert.equal(during.get("linkfence_refused_connections_total"), 1);
  // One when it came, one that it asked for.
  assert.deepEqual([of(during, "resets_total"), of(during, "refence_duration_seconds_count")], [3, 3]);
  const mean = (of(during, "refence_duration_seconds_sum") ?? 0) / 3;
  t.diagnostic(`a reset of virtual hardware and its fence take ${(mean * 1000).toFixed(0)} ms`);
  // A secondary bus reset is held for a while, which no virtual one leaves out.
  assert.ok(mean > 0.05, `${mean}`);
  client.close();
  let after = await read();
  while (of(after, "refence_duration_seconds_count") !== 4) after = await read();
  assert.equal(of(after, "clients_connected", 'assignment="vm1"'), 0);
  assert.equal(of(after, "fence_failures_total"), 0);
});

test("a server with watchers, and with requests half sent, ends at once and in order", async (t) => {
  const { server, url, sockets } = await serve(t, "ended");
  const watchers = Array.from({ length: 8 }, () => messagesOf(`${url}/api/events`));
  for (const each of watchers) assert.equal((await each.next()).value?.event, "snapshot");
  const cut = watchers.map(async (each) => {
    for await (const _ of each);
  });
  const ended = Promise.allSettled(cut);
  assert.deepEqual(await server.end("SIGTERM"), { status: 0, signal: null });
  await ended;
  assert.deepEqual([server.stderr, server.events().at(-1)?.event], ["", "stopped"]);
  assert.equal(existsSync(sockets), false);
});

test("an address that cannot be had is found before anything is touched", async (t) => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  const wrong: [string[], RegExp][] = [
    [["--http", `127.0.0.1:${port}`], /somebody else listens there/],
    [["--http", "203.0.113.1:8080", "--http-name", "x"], /no such address/],
    [["--http", "0.0.0.0:8080"], /not loopback.*--http-name/],
    [["--http", "nonsense"], /expected HOST:PORT/],
    [["--http-name", "x"], /for --http only/],
  ];
  for (const [args, says] of wrong) {
    const [sockets, state] = [folder.path("none/run"), folder.path("none/state")];
    const ran = await linkfence("serve", ...SEQUOIA, "--socket-dir", sockets, "--state-dir", state, ...args);
    assert.match(refused(ran, args.join(" ")), says);
    assert.deepEqual([existsSync(sockets), existsSync(state)], [false, false]);
  }
});

test("when something else keeps it from serving, nothing goes on listening and it ends", async () => {
  const sockets = folder.path("way");
  mkdirSync(sockets, { mode: 0o700, recursive: true });
  folder.file("way/control.sock", "mine");
  const ran = await linkfence(
    "serve",
    ...SEQUOIA,
    "--socket-dir",
    sockets,
    "--state-dir",
    folder.path("way-state"),
    "--http",
    "0",
  );
  assert.match(refused(ran, "in the way"), /in the way/);
  assert.deepEqual(readdirSync(sockets), ["control.sock"]);
});

test("beyond loopback it says so on standard error, and answers to its name alone", async (t) => {
  const { server, url } = await serve(t, "beyond", "--http", "0.0.0.0:0", "--http-name", "gpus.example");
  await server.line(() => server.stderr !== "");
  assert.match(server.stderr, /^linkfence: --http beyond loopback: [^\n]*not encrypted[^\n]*\n$/);
  const { hostname, port } = new URL(url);
  assert.equal(hostname, "gpus.example");
  assert.equal((await ask(Number(port), "/api/status", { host: `gpus.example:${port}` })).status, 200);
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, `0.0.0.0:${port}`]) {
    assert.equal((await ask(Number(port), "/metrics", { host })).status, 421, host);
  }
});

/** What only the web needs, out of reach. */
const WITHOUT_WEB = (() => {
  const hook = `export function resolve(name, context, next) {
    if (/^(hono|@hono|prom-client|preact|d3-)/.test(name)) throw new Error("no " + name);
    return next(name, context);
  }`;
  const url = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
  return `--import=${url(`import { register } from "node:module"; register(${JSON.stringify(url(hook))});`)}`;
})();

test("without --http nothing of the web is loaded: it costs no time, and need not be there", async () => {
  const env = { ...ENVIRONMENT, NODE_OPTIONS: WITHOUT_WEB };
  const directories = ["--socket-dir", folder.path("light/run"), "--state-dir", folder.path("light/state")];
  const serving = new ServingProcess([MAIN, "serve", "--json", ...SEQUOIA, ...directories], { env });
  await serving.event("ready");
  assert.deepEqual(await serving.end(), { status: 0, signal: null });
  const other = new ServingProcess([MAIN, "serve", ...SEQUOIA, ...directories, "--http", "0"], { env });
  await assert.rejects(
    other.line((line) => line.includes("look:")),
    /no @?hono|no d3-/,
  );
});
