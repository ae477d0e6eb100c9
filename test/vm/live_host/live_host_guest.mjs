/** A host with four V100s, as linkfence finds it; what the hardware behind them says comes from the harness. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, result, status, step } from "/linkfence/guest/report.mjs";
import { answers, hex } from "/linkfence/guest/v100/v100.mjs";
import { VfioFunction } from "/linkfence/guest/vfio_function.mjs";
import { Beside, linkfence, linkfenceJson } from "./linkfence_command.mjs";

const ALL = 0x003f0000;
const NVLINK = "/tmp/nvlink.txt";
const gpus = PciFunction.findAll(0x10de, 0x1db1);
const addresses = gpus.map(({ address }) => address);
const assign = addresses.flatMap((address, i) => ["--assign", `vm${i + 1}=${address}`]);
const live = ["--live", "--nvlink", NVLINK];
/** Two owners, with two GPUs each: links inside stay. */
const pairs = ["--assign", `vm1=${addresses[0]},${addresses[1]}`, "--assign", `vm2=${addresses[2]},${addresses[3]}`];

/** Asks the hardware. */
function hardware(request) {
  result("ask", JSON.stringify(request));
  return JSON.parse(step("hardware"));
}

/** Link bits of the disable registers; after a reset, with the NVLink engine off, they answer with an error: no bit is set. */
const masks = () => hardware({ kind: "masks" }).masks.map((value) => (answers(value) ? value & ALL : 0));

// What nvidia-smi would say, with the addresses that the GPUs have here.
let remote = readFileSync("/linkfence/guest/nvlink.txt", "utf8");
for (const [i, address] of addresses.entries()) remote = remote.replaceAll(`GPU-${i}`, address.toUpperCase());
writeFileSync(NVLINK, remote);

await check("reads the host", async () => {
  const groups = await linkfenceJson(0, "groups", ...live);
  assert.equal(groups.kernel.filter((group) => group.some((each) => addresses.includes(each))).length, 4);
  const audit = await linkfenceJson(1, "audit", ...live);
  assert.ok(audit.findings.length > 0);
  assert.equal((await linkfence("topo", ...live)).status, 0);
  assert.equal((await linkfence("capture", ...live, "--out", "/tmp/capture.json")).status, 0);
  return `${audit.findings.length} findings`;
});

await check("a dry run touches nothing", async () => {
  const plan = await linkfenceJson(0, "fence", ...live, ...assign);
  assert.equal(plan.dryRun, true);
  assert.deepEqual(masks(), [0, 0, 0, 0]);
  assert.equal((await linkfence("verify", ...live, ...assign)).status, 1);
});

await check("fences through sysfs, and the hardware agrees", async () => {
  hardware({ kind: "access sizes" });
  const fence = await linkfenceJson(0, "fence", ...live, ...assign, "--yes", "--out", "/tmp/fenced.json");
  assert.equal(fence.verified, true);
  assert.equal(fence.virtual, undefined);
  assert.ok(fence.gpus.every(({ access }) => access === "resource0"));
  const { masks, linksUp } = hardware({ kind: "masks" });
  assert.deepEqual(masks, [ALL, ALL, ALL, ALL]);
  assert.deepEqual(linksUp, [[], [], [], []]);
  const sizes = hardware({ kind: "access sizes" });
  assert.deepEqual(Object.keys(sizes), ["4"]);
  return `${masks.map(hex)}, ${sizes[4]} accesses of 4 bytes`;
});

await check("verify reads it back, with the ledger's intent", async () => {
  const verify = await linkfenceJson(0, "verify", ...live);
  assert.equal(verify.open, false);
  assert.ok(verify.gpus.every(({ open, access }) => !open && access === "resource0"));
  assert.equal((await linkfenceJson(0, "verify", "--capture", "/tmp/fenced.json")).open, false);
});

const watch = new Beside("watch", ...live, "--json", "--interval", "300");
await check("watch begins with what is", async () => {
  for (const address of addresses) {
    const { json } = await watch.line(({ event, address: of }) => event === "begin" && of === address, 0, 60_000);
    assert.equal(json.state, "closed");
  }
});

/** Opens one GPU's fence and waits for what watch says. */
async function opened(index, open) {
  const begun = performance.now();
  await open();
  const opened = performance.now();
  assert.equal(masks()[index], 0, "the hardware is still cut");
  const { at, json } = await watch.line(
    ({ event, address }) => event !== "closed" && address === addresses[index],
    begun,
  );
  const late = at - opened;
  assert.ok(late < 1000, `${late} ms late`);
  assert.notEqual(json.actual, hex(ALL));
  const verify = await linkfenceJson(1, "verify", ...live);
  assert.equal(verify.gpus.find(({ address }) => address === addresses[index]).open, true);
  const again = performance.now();
  assert.equal((await linkfence("fence", ...live, ...assign, "--yes")).status, 0);
  await watch.line(({ event, address }) => event === "closed" && address === addresses[index], again - 1000, 10_000);
  assert.deepEqual(masks(), [ALL, ALL, ALL, ALL]);
  return `said ${late.toFixed(0)} ms after: ${json.event}, ${json.reason}`;
}

await check("negative control: plain vfio-pci opens a GPU, and its fence is gone", () =>
  opened(1, () => {
    gpus[1].bind("vfio-pci");
    const vfio = new VfioFunction(gpus[1]);
    vfio.close();
    gpus[1].write("power/control", "on");
  }),
);
await check("a reset by somebody else, by reset", () => opened(0, () => gpus[0].write("reset", "1")));
await check("a reset by somebody else, by reset_subordinate", () =>
  opened(2, () => gpus[2].port.write("reset_subordinate", "1")),
);

await check("a GPU that somebody has open is not touched, and verify says who has it", async () => {
  const holder = spawn("node", ["/linkfence/guest/live_host/vfio_holder.mjs", addresses[1]], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(holder.stdout, "data");
    const verify = await linkfenceJson(1, "verify", ...live);
    const { reason } = verify.gpus[1];
    assert.match(reason, new RegExp(`process ${holder.pid} \\(node\\) has opened it by VFIO`));
    const fence = await linkfence("fence", ...live, ...assign, "--yes");
    assert.equal(fence.status, 2);
    assert.match(fence.stderr, /^linkfence: process \d+ \(node\) has [^\n]* open by VFIO[^\n]*$/);
    return fence.stderr;
  } finally {
    holder.kill();
    await once(holder, "exit");
  }
});

await check("a GPU that is pulled out is told of, and one that comes back", async () => {
  const begun = performance.now();
  gpus[3].write("remove", "1");
  const gone = await watch.line(({ event, address }) => event === "unreadable" && address === addresses[3], begun);
  assert.match(gone.json.reason, /is gone/);
  writeFileSync("/sys/bus/pci/rescan", "1");
  await watch.line(({ event, address }) => event === "closed" && address === addresses[3], gone.at);
});

const ended = await watch.end();
await check("watch exits 1, for fences were open", () => assert.equal(ended, 1));

await check("a watch of fences that hold exits 0, and one that is to end with an open one ends", async () => {
  // Whoever had one open by VFIO has opened its fence.
  assert.equal((await linkfence("fence", ...live, ...assign, "--yes")).status, 0);
  const quiet = new Beside("watch", ...live, "--json", "--interval", "50");
  await quiet.line(({ address }) => address === addresses[3], 0, 60_000);
  assert.equal(await quiet.end("SIGTERM"), 0);
  gpus[1].write("reset", "1");
  const eager = await linkfence("watch", ...live, "--exit-on-open");
  assert.equal(eager.status, 1);
  assert.equal((await linkfence("fence", ...live, ...assign, "--yes")).status, 0);
});

await check("disks and networks that the host uses are said to be used", async () => {
  const { hostUses } = await import("/linkfence/dist/host/in_use.js");
  const { bindToVfio, giveBack, readBinding } = await import("/linkfence/dist/host/driver_binding.js");
  const [nvme] = PciFunction.findAll(0x1b36, 0x0010);
  const [net] = PciFunction.findAll(0x8086, 0x10d3);
  assert.deepEqual(hostUses(nvme.address), []);
  run("mkswap", "/dev/nvme0n1");
  run("swapon", "/dev/nvme0n1");
  assert.deepEqual(hostUses(nvme.address), ["the host swaps to nvme0n1"]);
  run("swapoff", "/dev/nvme0n1");
  const sleeper = spawn("sh", ["-c", "exec sleep 1000 < /dev/nvme0n1"]);
  await until(() => hostUses(nvme.address).length > 0);
  assert.match(hostUses(nvme.address).join(), new RegExp(`^process ${sleeper.pid} \\(\\w+\\) has /dev/nvme0n1 open$`));
  sleeper.kill();
  await until(() => hostUses(nvme.address).length === 0);
  assert.deepEqual(hostUses(net.address), []);
  run("ifconfig", "eth0", "10.9.8.7", "up");
  assert.deepEqual(hostUses(net.address), ["network interface eth0 has an address"]);
  const former = readBinding(nvme.address);
  assert.equal(former.driver, "nvme");
  bindToVfio(nvme.address);
  assert.equal(readBinding(nvme.address).driver, "vfio-pci");
  giveBack(former);
  assert.deepEqual(readBinding(nvme.address), former);
  await until(() => existsSync("/dev/nvme0n1"));
});

const DRIVER = "uio_pci_generic";
await check("a GPU that a driver has, and somebody uses, is taken only when told", async () => {
  gpus[3].bind(DRIVER);
  gpus[3].write("driver_override", "\n");
  const sleeper = spawn("sh", ["-c", "exec sleep 1000 < /dev/uio0"]);
  await until(() => holderOf(sleeper.pid, "/dev/uio0"));
  const dry = await linkfenceJson(0, "fence", ...live, ...pairs);
  assert.deepEqual(dry.takes, [{ address: addresses[3], driver: DRIVER }]);
  const refused = await linkfence("fence", ...live, ...pairs, "--yes");
  assert.equal(refused.status, 2);
  assert.match(
    refused.stderr,
    // It is called by the shell's name until it has become what the shell starts.
    new RegExp(`process ${sleeper.pid} \\(\\w+\\) has /dev/uio0 open; nothing was touched`),
  );
  assert.equal(driverOf(gpus[3]), DRIVER);
  const fence = await linkfenceJson(0, "fence", ...live, ...pairs, "--yes", "--allow-in-use");
  assert.equal(fence.verified, true);
  assert.ok(
    fence.gpus.every(({ reset }) => reset),
    "links that were cut come back with a reset only",
  );
  assert.equal(driverOf(gpus[3]), undefined);
  sleeper.kill();
  const { linksUp } = hardware({ kind: "masks" });
  assert.ok(
    linksUp.every((links) => links.length === 2),
    JSON.stringify(linksUp),
  );
  const { drivers } = JSON.parse(readFileSync("/var/lib/linkfence/ledger.json", "utf8"));
  assert.equal(drivers.find(({ address }) => address === addresses[3]).driver, DRIVER);
  assert.equal((await linkfenceJson(0, "verify", ...live)).open, false);
  return refused.stderr;
});

await check("release resets, and gives the GPU back to its driver", async () => {
  const dry = await linkfenceJson(0, "release", ...live, "vm2");
  assert.equal(dry.dryRun, true);
  const released = await linkfenceJson(0, "release", ...live, "vm2", "--yes");
  assert.deepEqual(released.left, ["vm1"]);
  assert.equal(driverOf(gpus[3]), DRIVER);
  const { linksUp } = hardware({ kind: "masks" });
  assert.ok(
    linksUp.every((links) => links.length === 2),
    JSON.stringify(linksUp),
  );
  assert.equal((await linkfenceJson(0, "verify", ...live)).open, false);
});

await check("a host's GPU that a driver has is taken for the moment, with --include-host", async () => {
  const fence = await linkfenceJson(0, "fence", ...live, ...pairs.slice(0, 2), "--include-host", "--yes");
  assert.equal(fence.verified, true);
  assert.equal(driverOf(gpus[3]), DRIVER);
});

await check("whoever is not root is told so in one line", async () => {
  for (const args of [["verify"], ["watch"], ["fence", "--yes"], ["release", "vm1", "--yes"]]) {
    process.seteuid(1000);
    const { status, stderr } = await linkfence(...args, ...live, ...(args[0] === "release" ? [] : pairs));
    process.seteuid(0);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^linkfence: [^\n]*(root|permission denied)[^\n]*$/);
  }
});

await check("registers that read all ones prove nothing, and are not written to", async () => {
  const before = readFileSync("/var/lib/linkfence/ledger.json", "utf8");
  hardware({ kind: "ones", gpu: 2, on: true });
  try {
    return await allOnes(before);
  } finally {
    hardware({ kind: "ones", gpu: 2, on: false });
  }
});

async function allOnes(before) {
  const verify = await linkfence("verify", ...live, ...pairs);
  assert.equal(verify.status, 1);
  const fence = await linkfence("fence", ...live, ...pairs, "--yes");
  assert.equal(fence.status, 2);
  assert.match(fence.stderr, /^linkfence: [^\n]*cannot be fenced, so nothing was[^\n]*0xffffffff$/);
  assert.equal(driverOf(gpus[3]), DRIVER);
  const strip = (text) => ({ ...JSON.parse(text), writtenAt: "" });
  assert.deepEqual(strip(readFileSync("/var/lib/linkfence/ledger.json", "utf8")), strip(before));
  return fence.stderr;
}

await check("a function's own reset goes by its bus when it is told to, and its methods are put back", async () => {
  const { busMethodReset, resetMethods, setResetMethods } = await import("/linkfence/dist/host/function_reset.js");
  const { runSteps } = await import("/linkfence/dist/vfio/steps.js");
  const methods = resetMethods(addresses[2]);
  assert.ok(methods.includes("bus"), methods.join());
  const bar0 = gpus[2].readConfig(0x10, 4).readUInt32LE();
  await runSteps(busMethodReset(addresses[2], () => {}));
  assert.equal(masks()[2], 0);
  assert.equal(gpus[2].readConfig(0x10, 4).readUInt32LE(), bar0, "the kernel puts config space back");
  assert.deepEqual(resetMethods(addresses[2]), methods);
  assert.throws(() => setResetMethods(addresses[2], ["flr"]), { code: "ERESET" });
});

await check("a port's own reset bit resets, where the kernel has nothing better", async () => {
  const { bitReset } = await import("/linkfence/dist/host/function_reset.js");
  const { FunctionFolder } = await import("/linkfence/dist/host/function_folder.js");
  const { runSteps } = await import("/linkfence/dist/vfio/steps.js");
  const { LivePort } = await import("/linkfence/dist/host/live_port.js");
  const { restoreConfig, saveConfig } = await import("/linkfence/dist/fence/saved_config.js");
  const folder = new FunctionFolder(addresses[2]);
  const port = new LivePort(addresses[2], { write: true });
  const saved = saveConfig(port);
  await runSteps(bitReset(folder, folder.port));
  assert.equal(gpus[2].readConfig(0x10, 4).readUInt32LE() >>> 4, 0, "BAR0 is still there");
  assert.equal(masks()[2], 0);
  restoreConfig(port, saved);
  port.close();
});

await check("without vfio-pci nothing is bound, and the line says modprobe", async () => {
  const { bindToVfio, readBinding } = await import("/linkfence/dist/host/driver_binding.js");
  gpus[1].write("driver_override", "linkfence");
  if (driverOf(gpus[1]) !== undefined) gpus[1].write("driver/unbind", addresses[1]);
  run("rmmod", "vfio_pci");
  const before = readBinding(addresses[1]);
  assert.throws(() => bindToVfio(addresses[1]), /modprobe vfio-pci/);
  assert.deepEqual(readBinding(addresses[1]), before);
});

await check("a GPU that does not come back from its reset is given up, and stays assigned", async () => {
  const fenced = await linkfence("fence", ...live, ...pairs, "--yes");
  assert.equal(fenced.status, 0, fenced.stderr);
  hardware({ kind: "lost in reset", gpu: 0, on: true });
  const begun = performance.now();
  const release = await linkfence("release", ...live, "vm1", "--yes");
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  assert.equal(release.status, 1, release.stderr);
  assert.match(release.stdout, /for \d+ s\n/, "no progress");
  assert.match(release.stdout, /does not come back from its reset/);
  assert.match(release.stdout, /vm1 is NOT released/);
  const { assignments } = JSON.parse(readFileSync("/var/lib/linkfence/ledger.json", "utf8"));
  assert.deepEqual(
    assignments.map(({ name }) => name),
    ["vm1", "vm2"],
  );
  hardware({ kind: "lost in reset", gpu: 0, on: false });
  return `after ${seconds} s`;
});

function run(program, ...args) {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}

async function until(holds, patience = 20_000) {
  const end = performance.now() + patience;
  for (;;) {
    const value = holds();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${patience} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The name of a process once it has a file open. */
function holderOf(pid, file) {
  try {
    if (readlinkSync(`/proc/${pid}/fd/0`) !== file) return undefined;
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}

function driverOf(pci) {
  try {
    return basename(readlinkSync(`${pci.folder}/driver`));
  } catch {
    return undefined;
  }
}

process.exit(status());
