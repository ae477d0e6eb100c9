// A host whose hardware breaks: each time one line says so, nobody else is kept waiting, and functions find their drivers again.
// Environment: GPUS, NVLINK; see mediator_guest.mjs.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { LiveServer } from "/linkfence/guest/live_server.mjs";
import { check, status, step } from "/linkfence/guest/report.mjs";
import { A, B, DISK, drivers, PATIENCE, SOURCE } from "./bad_day.mjs";

const ASSIGN = ["--assign", `vm1=${A},${DISK.address}`, "--assign", `vm2=${B}`];

await check("registers that read all ones: that GPU is not served, says why, and the others are", async () => {
  step("blind GPU1 on");
  const server = await LiveServer.start(...SOURCE, ...ASSIGN);
  assert.equal(server.served.fenced, false);
  assert.match(server.served.failures.join(), /the fence of .* has failed/);
  assert.throws(() => new VfioUserClient(server.socket(B), PATIENCE), /EIO/);
  step("blind GPU1 off");
  // Its neighbour is served only when this one's ends are known to be cut.
  assert.equal(server.command("status").status, 1);
  const client = new VfioUserClient(server.socket(B), PATIENCE);
  client.close();
  assert.equal(await server.end(), 0, server.errors);
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
});
await check("a GPU that does not come back keeps nobody else waiting, and is served no longer", async () => {
  const server = await LiveServer.start(...SOURCE, ...ASSIGN);
  const lost = new VfioUserClient(server.socket(A), PATIENCE);
  const other = new VfioUserClient(server.socket(B), PATIENCE);
  step("lose GPU0 on");
  lost.post(13, new Uint8Array(0));
  let longest = 0;
  const end = performance.now() + 10_000;
  while (performance.now() < end) {
    const start = performance.now();
    other.read(7, 0, 4);
    longest = Math.max(longest, performance.now() - start);
    await sleep(20);
  }
  await server.until(() => server.events.some(({ step: at, gpu }) => at === "failed" && gpu !== undefined), 60_000);
  assert.equal(server.command("status").status, 1);
  other.close();
  step("lose GPU0 off");
  await server.end("SIGKILL");
  return `the other's longest answer took ${longest.toFixed(0)} ms`;
});

process.exit(status());
