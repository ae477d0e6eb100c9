// A host whose server is killed at these moments: each next start goes on from there, and every function finds its driver again.
// Environment: GPUS, NVLINK, see mediator_guest.mjs; POINTS, the numbers of the moments.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { vfioHolders } from "/linkfence/dist/host/in_use.js";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { LiveServer, linkfence } from "/linkfence/guest/live_server.mjs";
import { check, status } from "/linkfence/guest/report.mjs";
import { A, DISK, drivers, look, PATIENCE, SOURCE, STATE, until } from "./bad_day.mjs";

const ASSIGN = ["--assign", `vm1=${A}`, "--assign", `vm2=${DISK.address}`];
/** Milliseconds between two looks at the hardware. */
const LOOK = 50;

const taken = () => drivers().filter((driver) => driver === "vfio-pci");
const ledger = () => JSON.parse(readFileSync(`${STATE}/ledger.json`, "utf8"));

/** Where a server is killed: each named by how far it has come. */
const POINTS = [
  ["the ledger is written", (server) => until(server, () => existsSync(`${STATE}/ledger.json`))],
  ["the first function is taken", (server) => until(server, () => taken().length > 0)],
  ["all functions are taken", (server) => until(server, () => taken().length === 2)],
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
      const args = ["release", "vm2", "--socket-dir", server.socketDir];
      spawn(process.execPath, ["/linkfence/dist/cli/main.js", ...args], { stdio: "ignore" });
      await until(server, () => vfioHolders(DISK.address).length === 0);
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

const chosen = POINTS.filter((_, number) => process.env.POINTS.split(",").includes(String(number)));
await check("killed at any moment, each next start goes on from there", async () => {
  for (const [name, reach] of chosen) {
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
  assert.equal(look()[0].cut.length, 6, "fenced at rest");
  return chosen.map(([name]) => name).join("; ");
});
await check("killed, and released without a server: the driver is there again", async () => {
  const server = new LiveServer([...SOURCE, ...ASSIGN]);
  await until(server, () => taken().length === 2);
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
process.exit(status());
