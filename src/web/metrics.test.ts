import assert from "node:assert/strict";
import { test } from "node:test";
import { readExposition } from "../../test/web/exposition.js";
import { FakeServing } from "../../test/web/fake_serving.js";
import type { FenceStep } from "../fence/progress.js";
import { Looks } from "./looks.js";
import { Metrics } from "./metrics.js";

const GPU0 = 'gpu="GPU0",address="0004:04:00.0"';
const GPU1 = 'gpu="GPU1",address="0004:05:00.0"';

function setUp() {
  const serving = new FakeServing();
  const metrics = new Metrics(serving.machine);
  const looks = new Looks(serving);
  const read = async () => readExposition(await metrics.text(await looks.next(), 0));
  const step = (name: FenceStep, at?: number, gpu = "GPU0") =>
    metrics.count({ kind: "fence", event: { gpu, step: name }, ...(at !== undefined && { at }) });
  return { serving, metrics, read, step };
}

test("from the first moment on every GPU has each of its series, at 0", async () => {
  const { serving, read } = setUp();
  const samples = await read();
  const counters = ["resets", "trapped_writes", "fence_failures", "fences_found_open"].map((name) => `${name}_total`);
  for (const { name, address } of serving.machine.gpus) {
    for (const counter of [...counters, "refence_duration_seconds_count"]) {
      assert.equal(samples.get(`linkfence_${counter}{gpu="${name}",address="${address}"}`), 0, counter);
    }
  }
  for (const counter of ["connections", "refused_connections", "http_rejected_changes"]) {
    assert.equal(samples.get(`linkfence_${counter}_total`), 0, counter);
  }
});

test("every event is counted for its GPU, and the reset of each is timed by when its steps happened", async () => {
  const { metrics, read, step } = setUp();
  step("sbr", 1000);
  step("sbr", 1050, "GPU1");
  step("done", 1120);
  step("done", 1550, "GPU1");
  step("sbr", 2000);
  step("failed", 2100);
  step("done", 9000);
  for (let i = 0; i < 30; i++) step("guarded write");
  step("found open");
  step("sbr", 1, "GPU99");
  const peer = { pid: 1, uid: 0, gid: 0 };
  for (let i = 0; i < 3; i++) metrics.count({ kind: "connect", socket: "/a", peer });
  metrics.count({ kind: "refuse", socket: "/a", peer });
  metrics.count({ kind: "rejected", of: "127.0.0.1", method: "POST", status: 401, message: "no" });
  const samples = await read();
  const of = (name: string, labels = GPU0) => samples.get(`linkfence_${name}{${labels}}`);
  assert.deepEqual([of("resets_total"), of("resets_total", GPU1)], [2, 1]);
  assert.deepEqual([of("trapped_writes_total"), of("trapped_writes_total", GPU1)], [30, 0]);
  assert.deepEqual([of("fence_failures_total"), of("fences_found_open_total")], [1, 1]);
  assert.deepEqual([of("refence_duration_seconds_count"), of("refence_duration_seconds_sum")], [1, 0.12]);
  assert.deepEqual([of("refence_duration_seconds_sum", GPU1)], [0.5]);
  assert.deepEqual(
    ["0.1", "0.15"].map((bound) => of("refence_duration_seconds_bucket", `le="${bound}",${GPU0}`)),
    [0, 1],
  );
  assert.equal(samples.get("linkfence_connections_total"), 3);
  assert.equal(samples.get("linkfence_refused_connections_total"), 1);
  assert.equal(samples.get("linkfence_http_rejected_changes_total"), 1);
  assert.ok(![...samples.keys()].some((key) => key.includes("GPU99")));
});

test("what is now is read anew, and nothing stays of what is no more", async () => {
  const { serving, read } = setUp();
  const fence = (labels: string) => `linkfence_fence_in_force{${labels}}`;
  const before = await read();
  assert.equal(before.get(fence(`${GPU0},assignment="vm1"`)), 1);
  assert.equal(before.get('linkfence_functions_served{assignment="vm1"}'), 2);
  serving.state = "failed";
  const status = await serving.status();
  const [gpu0, ...rest] = status.functions;
  assert.ok(gpu0 !== undefined);
  const client = { pid: 1, uid: 0, gid: 0, since: "" };
  const functions = [{ ...gpu0, assignment: "vm2", client }, ...rest];
  const assignments = [{ name: "vm2", members: [gpu0.address], notServed: [], pinnedBytes: "0" }];
  serving.status = async () => ({ ...status, functions, assignments });
  const after = await read();
  assert.equal(after.get(fence(`${GPU0},assignment="vm1"`)), undefined);
  assert.equal(after.get(fence(`${GPU0},assignment="vm2"`)), 0);
  assert.deepEqual(
    ["in force", "failed"].map((state) => after.get(`linkfence_fence_state{${GPU0},state="${state}"}`)),
    [0, 1],
  );
  assert.equal(after.get('linkfence_clients_connected{assignment="vm2"}'), 1);
  assert.equal(after.get('linkfence_clients_connected{assignment="vm1"}'), undefined);
});

test("a name that a machine's file brings along breaks nothing", async () => {
  const { machine } = new FakeServing();
  const gpus = machine.gpus.map((gpu, at) => ({ ...gpu, name: `GPU "${at}"\n\\` }));
  const metrics = new Metrics({ ...machine, name: 'a "b"\n\\c', gpus });
  const samples = readExposition(await metrics.text(await new Looks(new FakeServing()).next(), 0));
  assert.equal(samples.get(`linkfence_resets_total{gpu="GPU \\"0\\"\\n\\\\",address="0004:04:00.0"}`), 0);
});
