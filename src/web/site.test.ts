import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FakeServing, gate } from "../../test/web/fake_serving.js";
import { errorIn, listenFor } from "../../test/web/listening_site.js";
import { ask, sayRaw } from "../../test/web/raw_http.js";
import { UsageError } from "../cli/failure.js";
import type { RejectedChange } from "../cli/serve/server_status.js";

const serving = new FakeServing();
const rejected: RejectedChange[] = [];
const { site, port } = await listenFor(serving, "127.0.0.1:0", {
  names: ["gpus.example"],
  onRejected: (change) => rejected.push(change),
});
const bearer = { authorization: `Bearer ${site.token}` };
const ASSIGNMENTS = "/api/assignments";
const BODY = JSON.stringify({ assign: ["vm1=GPU0"] });

/** Everything that can be read. */
const READABLE = [
  ...["/", "/metrics", "/api", "/api/openapi.json", "/api/status", "/api/machine", "/api/groups", "/api/audit"],
  ...["/api/plan", "/api/topology.svg", ASSIGNMENTS, "/api/events"],
];

test("until everything is fenced nothing is answered but that", async () => {
  for (const target of READABLE) {
    const { status, headers, body } = await ask(port, target);
    assert.deepEqual([status, headers["retry-after"]], [503, "1"], target);
    assert.match(errorIn(body), /not everything is fenced yet/);
  }
  assert.equal((await ask(port, ASSIGNMENTS, { method: "POST", headers: bearer, body: BODY })).status, 503);
  site.open(serving);
});

describe("who is answered", () => {
  const NAMES = [`127.0.0.1:${port}`, `localhost:${port}`, `LocalHost:${port}`, `[::1]:${port}`];

  test("whoever calls this host by one of its names is", async () => {
    for (const host of [...NAMES, `gpus.example:${port}`, `GPUS.example:${port}`]) {
      assert.equal((await ask(port, "/api/status", { host })).status, 200, host);
    }
  });

  test("whoever calls it by another name, port or none is not, whatever is asked for", async () => {
    const strange = [
      ...[
        "evil.example",
        `evil.example:${port}`,
        "127.0.0.1",
        "localhost",
        `127.0.0.1:${port + 1}`,
        `10.0.0.1:${port}`,
      ],
      ...[`0.0.0.0:${port}`, `127.0.0.1.evil.example:${port}`, `gpus.example`, `localhost:${port}.evil.example`, ""],
      ...[
        `127.0.0.1:${port}, evil.example`,
        `user@127.0.0.1:${port}`,
        `127.0.0.1:${port}@evil.example`,
        `localhost.:${port}`,
      ],
    ];
    for (const host of strange) {
      const { status } = await ask(port, "/api/status", { host });
      assert.ok(status === 421 || status === 400, `${host}: ${status}`);
    }
    for (const target of [...READABLE, "/nowhere"]) {
      const { status, body } = await ask(port, target, { host: `evil.example:${port}` });
      assert.equal(status, 421, target);
      assert.match(errorIn(body), /--http-name/);
    }
    const change = { method: "POST", headers: bearer, body: BODY, host: `evil.example:${port}` };
    assert.equal((await ask(port, ASSIGNMENTS, change)).status, 421);
  });

  test("a request without a Host, with two, or with another in its target is not", async () => {
    assert.equal((await ask(port, "/", { host: null })).status, 400);
    const old = await sayRaw(port, "GET /api/status HTTP/1.0\r\n\r\n");
    assert.equal(old.status, 421);
    const two = `GET /api/status HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nHost: evil.example\r\nConnection: close\r\n\r\n`;
    assert.equal((await sayRaw(port, two)).status, 421);
    assert.equal((await ask(port, `http://evil.example:${port}/api/status`)).status, 421);
    assert.equal((await ask(port, `http://127.0.0.1:${port}/api/status`, { host: "evil.example" })).status, 421);
    assert.equal((await ask(port, `http://127.0.0.1:${port}/api/status`)).status, 200);
  });

  test("another site gets nothing, not even what follows events or metrics", async () => {
    const foreign = [
      { origin: "http://evil.example" },
      { origin: "null" },
      { origin: `http://127.0.0.1:${port + 1}` },
      { origin: `https://127.0.0.1:${port}` },
      { origin: `http://127.0.0.1:${port}.evil.example` },
      { "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "same-site" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", origin: "null" },
    ];
    for (const headers of foreign) {
      for (const target of READABLE) assert.equal((await ask(port, target, { headers })).status, 403, target);
      const post = { method: "POST", headers: { ...bearer, ...headers }, body: BODY };
      assert.equal((await ask(port, ASSIGNMENTS, post)).status, 403, JSON.stringify(headers));
    }
    assert.deepEqual(serving.changes, []);
  });

  test("this page's own requests, and links that lead here, are answered", async () => {
    for (const headers of [
      { origin: `http://127.0.0.1:${port}`, "sec-fetch-site": "same-origin" },
      { origin: `http://gpus.example:${port}` },
      { "sec-fetch-site": "none" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" },
    ]) {
      assert.equal((await ask(port, "/", { headers })).status, 200, JSON.stringify(headers));
    }
  });
});

describe("what is answered", () => {
  test("everything that can be read comes with headers that keep others from it, and its head without its body", async () => {
    for (const target of READABLE.filter((path) => path !== "/api/events")) {
      const [get, head] = [await ask(port, target), await ask(port, target, { method: "HEAD" })];
      assert.equal(get.status, 200, target);
      assert.deepEqual([head.status, head.body], [200, ""], target);
      assert.equal(head.headers["content-type"], get.headers["content-type"], target);
      const policy = get.headers["content-security-policy"] ?? "";
      assert.match(policy, /default-src 'none'.*frame-ancestors 'none'/, target);
      assert.doesNotMatch(policy, /unsafe-eval|script-src[^;]*unsafe-inline|http:/, target);
      assert.equal(get.headers["cache-control"], "no-store", target);
      assert.equal(get.headers["x-content-type-options"], "nosniff", target);
      assert.equal(get.headers["cross-origin-resource-policy"], "same-origin", target);
      assert.equal(get.headers["access-control-allow-origin"], undefined, target);
    }
    const head = await ask(port, "/api/events", { method: "HEAD" });
    assert.deepEqual([head.status, head.headers["content-type"], head.body], [200, "text/event-stream", ""]);
  });

  test("what is not there is 404, and tricks with paths lead nowhere else", async () => {
    const nowhere = [
      ...[
        "/nowhere",
        "/api/",
        "/api/status/",
        "/API/status",
        "/api/statuses",
        "/metrics/x",
        "/page.html",
        "/favicon.ico",
      ],
      ...[
        "//api/status",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/..%2fstatus",
        "/%00",
        "/api/status%00",
      ],
      ...["/.git/config", "/api/status;x", "/%ff%fe", "/__proto__", "/constructor"],
    ];
    for (const target of nowhere) {
      const { status, body } = await ask(port, target);
      assert.equal(status, 404, target);
      assert.match(errorIn(body), /GET \/api/);
    }
    for (const target of ["*", "status", "/a\\b", "ftp://127.0.0.1/", "http://"]) {
      assert.ok([400, 404, 421].includes((await ask(port, target)).status), target);
    }
    // As URLs have it, this is /api/status and no way around anything.
    assert.equal((await ask(port, "/metrics/../api/status")).status, 200);
  });

  test("another method is 405, and says which would do", async () => {
    for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"]) {
      const { status, headers, body } = await ask(port, "/api/status", { method, headers: bearer });
      assert.deepEqual([status, headers.allow], [405, "GET, HEAD"], method);
      assert.match(errorIn(body), /GET/);
    }
    assert.equal((await ask(port, ASSIGNMENTS, { method: "PUT" })).headers.allow, "GET, HEAD, POST");
    assert.equal((await ask(port, `${ASSIGNMENTS}/vm1`)).headers.allow, "DELETE");
    assert.equal((await ask(port, "/nowhere", { method: "POST" })).status, 404);
  });

  test("a plan for what is no assignment is 400 in one line; one that cannot isolate is an answer", async () => {
    for (const query of [
      "assign=vm1",
      "assign=vm1=GPU9",
      "assign=host=GPU0",
      "assign=",
      "assgin=vm1=GPU0",
      "assign=a=GPU0&x=1",
    ]) {
      const { status, body } = await ask(port, `/api/plan?${query}`);
      assert.equal(status, 400, query);
      assert.match(errorIn(body), /^[^\n]{10,300}$/, query);
      assert.doesNotMatch(body, /internal error| {4}at /, query);
    }
    const many = `assign=${Array(257).fill("a").join("&assign=")}`;
    assert.equal((await ask(port, `/api/plan?${many}`)).status, 400);
    const { status, body } = await ask(port, "/api/plan?assign=a=GPU0&assign=b=GPU0");
    const plan = JSON.parse(body) as { isolated: boolean; problems: unknown[] };
    assert.deepEqual([status, plan.isolated], [200, false]);
    assert.ok(plan.problems.length > 0);
  });

  test("when the hardware cannot be looked at, nothing of before is passed off as of now", async () => {
    const broken = gate();
    broken.fail(new Error("the server has ended"));
    serving.gate = broken.promise;
    for (const target of ["/metrics", "/api/status", "/api/machine", "/api/audit", "/api/topology.svg"]) {
      const { status, body } = await ask(port, target);
      assert.equal(status, 503, target);
      assert.match(errorIn(body), /not known: the server has ended$/, target);
    }
    serving.gate = Promise.resolve();
    assert.equal((await ask(port, "/api/status")).status, 200);
  });
});

describe("changes", () => {
  const post = (body: string, headers: Record<string, string> = bearer) =>
    ask(port, ASSIGNMENTS, { method: "POST", headers, body });

  test("without the token nothing changes, and each try is told", async () => {
    rejected.length = 0;
    const wrong: [Record<string, string>, number][] = [
      [{}, 401],
      [{ authorization: `Bearer ${site.token.slice(1)}` }, 401],
      [{ authorization: `Bearer ${site.token}x` }, 401],
      [{ authorization: `Bearer ${site.token.toLowerCase()}` }, 401],
      [{ authorization: `Bearer ${"a".repeat(8000)}` }, 401],
      [{ authorization: "Bearer" }, 400],
      [{ authorization: `Basic ${Buffer.from(`x:${site.token}`).toString("base64")}` }, 400],
      [{ authorization: site.token }, 400],
      [{ "x-token": site.token }, 401],
      [{ cookie: `token=${site.token}` }, 401],
    ];
    for (const [headers, expected] of wrong) {
      const answer = await post(BODY, headers);
      assert.equal(answer.status, expected, JSON.stringify(headers));
      assert.match(answer.headers["www-authenticate"] ?? "", /^Bearer /);
      assert.match(errorIn(answer.body), /./);
      assert.ok(!answer.body.includes(site.token));
      const release = await ask(port, `${ASSIGNMENTS}/vm1`, { method: "DELETE", headers });
      assert.equal(release.status, expected);
    }
    assert.deepEqual(serving.changes, []);
    assert.equal(rejected.length, 2 * wrong.length);
    const [first] = rejected;
    assert.deepEqual([first?.of, first?.method, first?.status], ["127.0.0.1", "POST", 401]);
    assert.ok(rejected.every(({ message }) => message.length > 0 && !message.includes(site.token)));
  });

  test("the token in the URL is none", async () => {
    const { status } = await ask(port, `${ASSIGNMENTS}?token=${site.token}`, { method: "POST", body: BODY });
    assert.equal(status, 401);
  });

  test("with it they are made, by whoever asked", async () => {
    const made = await post(BODY);
    assert.equal(made.status, 200);
    assert.equal((await ask(port, `${ASSIGNMENTS}/vm1`, { method: "DELETE", headers: bearer })).status, 200);
    const by = { over: "http", from: "127.0.0.1" };
    assert.deepEqual(serving.changes.splice(0), [
      { request: { command: "assign", assign: ["vm1=GPU0"] }, by },
      { request: { command: "release", name: "vm1" }, by },
    ]);
  });

  test("a body that is not what it should be is 400, and one too long 413", async () => {
    const wrong = [
      ...["", "{", "[]", "null", '"vm1=GPU0"', "{}", '{"assign":[]}', '{"assign":"vm1=GPU0"}', '{"assign":[1]}'],
      ...['{"assign":["vm1=GPU0"],"more":1}', '{"assign":["vm1"]}', '{"assign":["vm1=GPU9"]}', '{"assign":["vm9="]}'],
      ...['{"assign":["vm1=GPU0","vm1=GPU1"]}', JSON.stringify({ assign: Array(257).fill("a=GPU0") }), "\xff\xfe"],
      ...['{"__proto__":{"assign":["vm1=GPU0"]}}', `${"[".repeat(20_000)}`],
    ];
    for (const body of wrong) {
      const answer = await post(body);
      assert.equal(answer.status, 400, body.slice(0, 60));
      assert.doesNotMatch(errorIn(answer.body), /internal error|\n/, body.slice(0, 60));
    }
    assert.equal((await post(" ".repeat(65_537))).status, 413);
    const chunk = `10000\r\n${" ".repeat(65_536)}\r\n`;
    const chunked = { ...bearer, "transfer-encoding": "chunked" };
    assert.equal((await post(`${chunk}${chunk}0\r\n\r\n`, chunked)).status, 413);
    assert.deepEqual(serving.changes, []);
  });

  test("what is refused at this moment is 409, and an assignment that there is not 404", async () => {
    serving.refusal = new UsageError("process 7 is connected to /run/x.sock; end it first");
    const { status, body } = await post(BODY);
    assert.deepEqual([status, errorIn(body)], [409, serving.refusal.message]);
    serving.refusal = new TypeError("x is not a function");
    const defect = await post(BODY);
    assert.equal(defect.status, 500);
    assert.match(errorIn(defect.body), /^internal error: x is not a function/);
    assert.doesNotMatch(defect.body, /\.[jt]s/);
    serving.refusal = undefined;
    for (const name of ["vm2", "a%2Fb", "%00", "%", "..%2f", "%F0%9F%92%A9"]) {
      const gone = await ask(port, `${ASSIGNMENTS}/${name}`, { method: "DELETE", headers: bearer });
      assert.equal(gone.status, 404, name);
      assert.match(errorIn(gone.body), /there are vm1$/, name);
    }
    assert.deepEqual(serving.changes, []);
  });
});
