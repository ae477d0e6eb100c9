// Runs on a host that has four V100s, and serves them through fences. What the hardware sees is judged by the harness, in
// whose process the hardware is: `look` asks it.
// Environment: GPUS, the addresses in order; NVLINK, what nvidia-smi would say of the links.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { LiveServer, linkfence } from "/linkfence/guest/live_server.mjs";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, result, status, step } from "/linkfence/guest/report.mjs";

const GPUS = JSON.parse(process.env.GPUS);
const [A, B, C] = GPUS;
const NVLINK = "/tmp/nvlink.txt";
writeFileSync(NVLINK, JSON.parse(process.env.NVLINK));
const SOURCE = ["--yes", "--nvlink", NVLINK];
const ASSIGN = ["--assign", `vm1=${A},${B}`, "--assign", `vm2=${C}`];

/** What the hardware has seen since it was last asked to forget, by GPU. */
const look = () => JSON.parse(step("look"));
const forget = () => step("forget");

/** Waits until the hardware has seen something, however slow the machine is. */
async function untilSeen(holds) {
  for (const end = performance.now() + 120_000; !holds(look()); await sleep(200)) {
    assert.ok(performance.now() < end, `not seen: ${holds}; ${JSON.stringify(look())}`);
  }
}

const total = (seen, what) => seen.reduce((sum, each) => sum + each[what], 0);

function startClient(sockets, env = {}) {
  const child = spawn(process.execPath, ["/linkfence/guest/mediator/client.mjs", ...sockets], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  return {
    child,
    ended,
    async ready() {
      for (let tries = 0; !output.includes("ready"); tries++) {
        if (tries > 600 || child.exitCode !== null) throw new Error("the client did not get in");
        await sleep(100);
      }
    },
    async end() {
      child.kill("SIGTERM");
      await ended;
      return JSON.parse(output.trim().split("\n").at(-1));
    },
  };
}

/** No client has touched a GPU whose links to others were not cut, and none of these links was up at any moment. */
function closed(seen, { atLeast }) {
  for (const gpu of seen) {
    assert.equal(gpu.uncutAccesses, 0, JSON.stringify(gpu));
    assert.equal(gpu.openMoments, 0, JSON.stringify(gpu));
  }
  const [accesses, resets] = [total(seen, "clientAccesses"), total(seen, "resets")];
  assert.ok(accesses >= atLeast, `only ${accesses} accesses of clients`);
  return `${accesses} accesses of clients, ${resets} resets, each with all links to others cut`;
}

let server;
await check("serve --live without --yes touches nothing", () => {
  forget();
  const { status, output } = linkfence("serve", "--live", "--nvlink", NVLINK, ...ASSIGN, "--state-dir", "/tmp/dry");
  assert.equal(status, 0, output);
  assert.match(output, /dry run: nothing was touched/);
  assert.equal(new PciFunction(A).driver, undefined);
  assert.ok(look().every(({ resets }) => resets === 0));
});
await check("serve --live takes, opens, fences and serves", async () => {
  const start = performance.now();
  server = await LiveServer.start(...SOURCE, ...ASSIGN);
  assert.equal(server.served.fenced, true, JSON.stringify(server.served));
  assert.equal(server.served.virtual, undefined);
  assert.equal(server.served.tier, "mediated");
  for (const address of [A, B, C]) assert.equal(new PciFunction(address).driver, "vfio-pci");
  const cut = look().map((gpu) => gpu.cut.length);
  assert.deepEqual(cut, [4, 4, 6, 6], "the unassigned one too, towards the others");
  return `ready in ${((performance.now() - start) / 1000).toFixed(1)} s`;
});
const sockets = () => [A, B, C].map((address) => server.socket(address));
await check("status and verify read the registers", () => {
  const told = server.status();
  result("status --json", JSON.stringify(told));
  const { functions } = told;
  assert.deepEqual(
    functions.flatMap(({ fence }) => (fence === undefined ? [] : [fence.actual.disableMask])),
    ["0x003c0000", "0x003c0000", "0x003f0000", "0x003f0000"],
  );
  const verified = server.command("verify", "--live", "--nvlink", NVLINK, "--json", "--state-dir", server.stateDir);
  assert.equal(verified.status, 0, verified.output + verified.errors);
});
await check("clients that reset, go and are killed never touch a GPU whose links are not cut", async () => {
  forget();
  const first = startClient(sockets(), { RESETS: "1" });
  await first.ready();
  await untilSeen((seen) => total(seen, "clientAccesses") > 500 && total(seen, "resets") > 9);
  const counts = await first.end();
  assert.ok(counts.resets >= 3 && counts.rounds >= 3, JSON.stringify(counts));
  const second = startClient(sockets());
  await second.ready();
  await sleep(1500);
  second.child.kill("SIGKILL");
  await second.ended;
  const third = startClient(sockets());
  await third.ready();
  await third.end();
  return `${closed(look(), { atLeast: 300 })}; ${JSON.stringify(counts)}`;
});
await check("a reset behind its back is noticed and the links are cut again at once", async () => {
  const client = startClient(sockets());
  await client.ready();
  await sleep(1000);
  forget();
  server.events.length = 0;
  new PciFunction(A).port.write("reset_subordinate", "1\n");
  const written = performance.now();
  await server.until(() => server.events.some(({ step }) => step === "found open"));
  const [found] = server.events.filter(({ step }) => step === "found open");
  // Root's reset and the client's own, after which its GPU answers again.
  await untilSeen(([gpu]) => gpu.resets > 1 && gpu.cut.join() === "2,3,4,5");
  // The client hears of its reset a moment later.
  await sleep(1000);
  const seen = look();
  const counts = await client.end();
  const [gpu] = seen;
  assert.equal(total(seen, "openMoments"), 0, "the far ends are cut");
  assert.ok(counts.resets >= 1, "the client has reset its GPU and goes on");
  assert.deepEqual(gpu.cut, [2, 3, 4, 5]);
  const late = Math.round(found.heard - written);
  return `found ${late} ms after the reset was over, uncut for ${Math.round(gpu.longestUncut)} ms, ${gpu.uncutAccesses} accesses meanwhile, no link up`;
});
await check("a real config space: the client's BARs and FLR are its own, the mirror of config space too", () => {
  const client = new VfioUserClient(server.socket(C), { timeout: 60_000 });
  const read = (region, at) => new DataView(client.read(region, at, 4).buffer).getUint32(0, true);
  assert.equal(read(7, 0), 0x1db110de);
  assert.equal(read(7, 0x10) & ~0xf, 0, "no address yet");
  client.write(7, 0x10, Uint8Array.of(0, 0, 0, 0x5a));
  client.write(7, 0x04, Uint8Array.of(2, 0));
  assert.equal(read(0, 0), 0x140000a1);
  assert.equal(read(0, 0x88000), 0x1db110de);
  client.write(0, 0x88010, Uint8Array.of(0, 0, 0, 0x77));
  assert.equal(read(0, 0), 0x140000a1, "the hardware's BAR has not moved");
  client.write(0, 0xa00148, Uint8Array.of(0, 0, 0, 0));
  assert.equal(read(0, 0xa00148), 0x003f0000);
  client.close();
});
await check("assignments change while it runs", async () => {
  const [, , , D] = GPUS;
  const added = server.command("assign", `vm3=${D}`);
  assert.equal(added.status, 0, added.output + added.errors);
  assert.equal(new PciFunction(D).driver, "vfio-pci");
  await server.until(() => server.served.assignments.length === 3);
  const client = new VfioUserClient(server.socket(D), { timeout: 60_000 });
  client.close();
  const moved = server.command("release", "vm3");
  assert.equal(moved.status, 0, moved.output + moved.errors);
  assert.equal(new PciFunction(D).driver, undefined, "given back to nobody, who had it");
  await server.until(() => server.served.assignments.length === 2);
  const merged = server.command("assign", `vm1=${A},${B},${C}`, "vm2=");
  assert.equal(merged.status, 0, merged.output + merged.errors);
  await server.until(() => server.served.assignments.length === 1);
  // Links come up with a GPU's next reset: that of the one that moved was at once.
  for (const address of [A, B]) new VfioUserClient(server.socket(address), { timeout: 60_000 }).close();
  const linksCut = look().map(({ cut }) => cut.length);
  assert.deepEqual(linksCut.slice(0, 3), [2, 2, 2], "links inside come up again");
});
await check("a function that the host takes away is served no longer, and the others go on", async () => {
  const client = new VfioUserClient(server.socket(B), { timeout: 60_000 });
  writeFileSync(`/sys/bus/pci/devices/${B}/remove`, "1\n");
  await server.until(() => server.events.some(({ event }) => event === "removed"));
  assert.ok(!existsSync(`/sys/bus/pci/devices/${B}`), "removed for good");
  assert.throws(() => client.read(7, 0, 4));
  client.close();
  const other = new VfioUserClient(server.socket(A), { timeout: 60_000 });
  other.close();
  assert.ok(
    !existsSync(server.socketDir) || server.status().functions.find(({ address }) => address === B).socket === null,
  );
});
await check("the end: every function has its former driver, and the ledger says so", async () => {
  assert.equal(await server.end(), 0, server.errors);
  for (const address of [A, C]) assert.equal(new PciFunction(address).driver, undefined);
  const rest = look().map(({ cut }) => cut.length);
  assert.deepEqual([rest[0], rest[2]], [2, 2], "fenced at rest, for the kernel has reset what was closed");
  const verified = linkfence("verify", "--live", "--state-dir", server.stateDir);
  assert.equal(verified.status, 2, "a function in the ledger is gone");
  result("serve --json", JSON.stringify(server.events.map(({ heard, ...event }) => event)));
});
process.exit(status());
