// A host whose server is killed at any moment, whose hardware breaks, and whose owner has forgotten something: each time
// one line says so, nothing is left half done, and every function finds its driver again.
// Environment: GPUS, NVLINK; see mediator_guest.mjs. There is a disk that the nvme driver has, and two network functions of one
// device without ACS.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { vfioHolders } from "/linkfence/dist/host/in_use.js";
import { groupOf } from "/linkfence/dist/host/vfio/vfio_group.js";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { LiveServer, linkfence } from "/linkfence/guest/live_server.mjs";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status, step } from "/linkfence/guest/report.mjs";

const [A, B] = JSON.parse(process.env.GPUS);
const NVLINK = "/tmp/nvlink.txt";
writeFileSync(NVLINK, JSON.parse(process.env.NVLINK));
const DISK = PciFunction.find(0x1b36, 0x0010);
const STATE = "/tmp/state";
const ASSIGN = ["--assign", `vm1=${A},${DISK.address}`, "--assign", `vm2=${B}`];
const SOURCE = ["--nvlink", NVLINK, "--yes"];
/** Milliseconds between two looks at the hardware. */
const LOOK = 50;
const PATIENCE = { timeout: 100_000 };

const drivers = () => [A, B, DISK.address].map((address) => new PciFunction(address).driver);
const look = () => JSON.parse(step("look"));
const ledger = () => JSON.parse(readFileSync(`${STATE}/ledger.json`, "utf8"));
const refused = ({ status, errors }, pattern) => {
  assert.equal(status, 2, errors);
  assert.match(errors, pattern);
  assert.equal(errors.split("\n").length, 1, errors);
};

/** Waits until it holds, which is looked at every so many milliseconds; a server that ends before is at fault. */
async function until(server, holds, interval = 2) {
  for (const end = performance.now() + 120_000; !holds(); ) {
    if (server.isOver || performance.now() > end) throw new Error(`not so: ${holds}; ${server.errors}`);
    await sleep(interval);
  }
}

/** Where a server is killed: each named by how far it has come. */
const POINTS = [
  ["the ledger is written", (server) => until(server, () => existsSync(`${STATE}/ledger.json`))],
  [
    "the first function is taken",
    (server) => until(server, () => drivers().filter((d) => d === "vfio-pci").length > 0),
  ],
  ["all functions are taken", (server) => until(server, () => drivers().every((driver) => driver === "vfio-pci"))],
  ["a device is open", (server) => until(server, () => vfioHolders(A).length > 0)],
  ["the links of the first GPU are cut", (server) => until(server, () => look()[0].cut.length === 6, LOOK)],
  ["everything is served", (server) => until(server, () => server.served !== undefined)],
  [
    "a client is attached",
    async (server) => {
      await until(server, () => server.served !== undefined);
      new VfioUserClient(server.socket(A), PATIENCE);
    },
  ],
  [
    "a client's reset is under way",
    async (server) => {
      await until(server, () => server.served !== undefined);
      const before = look()[0].resets;
      const client = new VfioUserClient(server.socket(A), PATIENCE);
      client.post(13, new Uint8Array(0));
      await until(server, () => look()[0].resets > before + 1, LOOK);
    },
  ],
  [
    "an assignment is being released",
    async (server) => {
      await until(server, () => server.served !== undefined);
      const before = look()[1].resets;
      const args = ["release", "vm2", "--socket-dir", server.socketDir];
      spawn(process.execPath, ["/linkfence/dist/cli/main.js", ...args], { stdio: "ignore" });
      await until(server, () => look()[1].resets > before, LOOK);
    },
  ],
  [
    "it is ending",
    async (server) => {
      await until(server, () => server.served !== undefined);
      server.process.kill("SIGTERM");
      await until(server, () => !existsSync(server.socket(A)));
    },
  ],
];

await check("killed at ten moments, each next start goes on from there", async () => {
  for (const [name, reach] of POINTS) {
    const server = new LiveServer([...SOURCE, ...ASSIGN]);
    try {
      await reach(server);
    } catch (error) {
      await server.end("SIGKILL");
      throw new Error(`before "${name}": ${error.message}`);
    }
    await server.end("SIGKILL");
    const { drivers: formers } = ledger();
    const disk = formers?.find(({ address }) => address === DISK.address);
    assert.ok(DISK.driver === "nvme" || disk?.driver === "nvme", `${name}: nobody knows whose the disk was`);
  }
  const server = await LiveServer.start(...SOURCE, ...ASSIGN);
  assert.equal(server.served.fenced, true, JSON.stringify(server.served.failures));
  assert.equal(await server.end(), 0, server.errors);
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
  assert.deepEqual(
    look()
      .slice(0, 2)
      .map(({ cut }) => cut.length),
    [6, 6],
    "fenced at rest",
  );
  return POINTS.map(([name]) => name).join("; ");
});
await check("killed, and released without a server: the driver is there again", async () => {
  const server = new LiveServer([...SOURCE, ...ASSIGN]);
  await until(server, () => drivers().every((driver) => driver === "vfio-pci"));
  await server.end("SIGKILL");
  for (const name of ["vm1", "vm2"]) {
    const released = linkfence(
      "release",
      name,
      "--live",
      ...SOURCE,
      "--state-dir",
      STATE,
      "--socket-dir",
      "/run/linkfence",
    );
    assert.equal(released.status, 0, released.output + released.errors);
  }
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
  assert.equal(ledger().drivers, undefined);
});
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
