// A host whose hardware breaks, and whose owner has forgotten something: each time one line says so, nothing is left half done,
// and every function finds its driver again.
// Environment: GPUS, NVLINK; see mediator_guest.mjs.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { groupOf } from "/linkfence/dist/host/vfio/vfio_group.js";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { LiveServer, linkfence } from "/linkfence/guest/live_server.mjs";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status, step } from "/linkfence/guest/report.mjs";
import { A, B, DISK, drivers, PATIENCE, refused, SOURCE, STATE } from "./bad_day.mjs";

const ASSIGN = ["--assign", `vm1=${A},${DISK.address}`, "--assign", `vm2=${B}`];

await check("a GPU that somebody has open by VFIO is refused, with the process", async () => {
  rmSync(STATE, { recursive: true, force: true });
  // Somebody else has the second GPU's group open.
  const holder = new PciFunction(B);
  holder.bind("vfio-pci");
  const group = openSync(`/dev/vfio/${groupOf(B)}`, "r+");
  refused(
    linkfence("serve", "--live", ...SOURCE, ...ASSIGN, "--state-dir", STATE),
    /has 0000:02:00\.0 open by VFIO already/,
  );
  closeSync(group);
  holder.unbind();
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
});
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
await check("a group with a function that a driver has is refused with its name", () => {
  const [first, second] = PciFunction.findAll(0x8086, 0x10d3);
  second.bind("e1000e");
  refused(
    linkfence("serve", "--live", "--yes", "--assign", `vm9=${first.address}`, "--state-dir", "/tmp/other"),
    new RegExp(`is not viable.*${second.address} \\(e1000e\\)`),
  );
  assert.equal(second.driver, "e1000e");
  second.unbind();
});
await check("an ordinary user gets one line", () => {
  const run = `process.setgid(65534); process.setuid(65534); process.argv = ["node", ...${JSON.stringify([
    "serve",
    "--live",
    ...SOURCE,
    ...ASSIGN,
    "--state-dir",
    "/tmp/nobody",
    "--socket-dir",
    "/tmp/nobody-run",
  ])}]; await import("/linkfence/dist/cli/main.js");`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", run], { encoding: "utf8" });
  refused({ status, errors: stderr.trim() }, /root/);
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
});
await check("without vfio-pci nothing is touched, and the line says modprobe", () => {
  assert.equal(spawnSync("rmmod", ["vfio_pci"]).status, 0);
  refused(linkfence("serve", "--live", ...SOURCE, ...ASSIGN, "--state-dir", STATE), /modprobe vfio-pci/);
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
  assert.equal(spawnSync("insmod", ["/modules/vfio_pci.ko"]).status, 0);
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
