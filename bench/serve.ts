import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { VfioUserClient } from "../src/vfio-user/index.js";
import { median } from "./latency.js";
import { cpuUseOf, residentOf } from "./process_usage.js";

const ROOT = join(import.meta.dirname, "..");
const MAIN = join(ROOT, "dist/cli/main.js");
const ROUNDS = 9;
const RESETS = 10;
/** Milliseconds for which nothing is asked of a server. */
const IDLE = 3000;
/** V8 looks once for memory to give back when nothing has happened for 8 s; then it is idle, in milliseconds. */
const SETTLE = 10_000;
/** Sockets of a whole Sequoia: six GPUs and twelve bridges. */
const SEQUOIA = 18;
const OWNERS = ["vm0=GPU0", "vm1=GPU1", "vm2=GPU2", "vm3=GPU3", "vm4=GPU4", "vm5=GPU5"];

/** `npm start` and `linkfence serve` as a user meets them: until they are ready, idle, and while GPUs are reset. */
export async function run(): Promise<void> {
  console.log("serve, processes as a whole");
  const directory = mkdtempSync(join(tmpdir(), "linkfence-bench-"));
  try {
    await benchReady(directory);
    await benchIdle(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function benchReady(directory: string): Promise<void> {
  const times = new Map<string, number[]>();
  const add = (name: string, time: number) => times.set(name, [...(times.get(name) ?? []), time]);
  for (let round = 0; round < ROUNDS; round++) {
    add("node -e 0", timeOf(process.execPath, "-e", "0"));
    add("npm --version", timeOf("npm", "--version"));
    const tour = await startTour(directory);
    add("npm start", tour.ready);
    await stop(tour.child, directory);
    const served = await startServe(directory);
    add("linkfence serve, 6 GPUs", served.ready);
    await stop(served.child, directory);
  }
  console.log(
    "  start to all sockets ready, reset times included (limit: 1500 ms), beside whole runs of what starts it",
  );
  for (const [name, all] of times) console.log(`    ${name.padEnd(23)} ${median(all).toFixed(0)} ms`);
}

async function benchIdle(directory: string): Promise<void> {
  const { child } = await startServe(directory);
  const sockets = socketsBelow(directory);
  try {
    console.log(`  a Sequoia served, ${sockets.length} functions (limits: no CPU, 120 MB)`);
    await reportIdle("nobody connected", child);
    const clients = sockets.map((socket) => new VfioUserClient(socket));
    for (const client of clients) client.deviceInfo();
    await reportIdle(`${clients.length} clients connected`, child);
    await reportResets(child, clients);
    await reportIdle("after that", child);
    for (const client of clients) client.close();
  } finally {
    await stop(child, directory);
  }
}

async function reportIdle(name: string, child: ChildProcess): Promise<void> {
  await sleep(SETTLE);
  const before = cpuUseOf(child);
  await sleep(IDLE);
  const { time, wakeups } = cpuUseOf(child);
  const used = ((time - before.time) / 1e6).toFixed(3);
  const resident = (residentOf(child) / 1e6).toFixed(0);
  console.log(
    `    ${name.padEnd(21)} ${used} ms of CPU and ${wakeups - before.wakeups} wakeups in ${IDLE / 1000} s, RSS ${resident} MB`,
  );
}

/** Whole resets as clients ask for them: the reply comes when the fence is in force again. */
async function reportResets(child: ChildProcess, clients: readonly VfioUserClient[]): Promise<void> {
  const [client] = clients;
  if (client === undefined) throw new Error("nothing is served");
  const before = cpuUseOf(child);
  const start = performance.now();
  for (let count = 0; count < RESETS; count++) client.reset();
  const wall = (performance.now() - start) / RESETS;
  const cpu = (cpuUseOf(child).time - before.time) / RESETS / 1e6;
  console.log(`    VFIO_DEVICE_RESET     ${wall.toFixed(1)} ms each, ${cpu.toFixed(2)} ms of the server's CPU`);
}

interface Started {
  child: ChildProcess;
  /** Milliseconds from its start to its being ready. */
  ready: number;
}

/** `npm start`, whose sockets are below the directory. Never one that has to build first. */
async function startTour(directory: string): Promise<Started> {
  const env = { ...process.env, TMPDIR: directory };
  for (;;) {
    const started = await startUntil("npm", ["start"], env, /^fenced, serving/m, directory);
    if (started !== "built") return started;
  }
}

async function startServe(directory: string): Promise<Started> {
  const folder = join(directory, "serve");
  mkdirSync(folder, { mode: 0o700 });
  const options = ["--socket-dir", folder, "--state-dir", join(folder, "state"), "--json"];
  const owners = OWNERS.flatMap((owner) => ["--assign", owner]);
  const parameters = [MAIN, "serve", "--machine", "sequoia", ...owners, ...options];
  const started = await startUntil(process.execPath, parameters, process.env, /^\{"event":"ready"/m, directory);
  const count = socketsBelow(directory).length;
  if (started === "built" || count !== SEQUOIA) throw new Error(`${count} sockets`);
  return started;
}

/** Starts a program in a process group of its own, as a shell does, and waits until it prints that it is ready. */
async function startUntil(
  program: string,
  parameters: readonly string[],
  env: NodeJS.ProcessEnv,
  isReady: RegExp,
  directory: string,
): Promise<Started | "built"> {
  const start = performance.now();
  const child = spawn(program, parameters, { cwd: ROOT, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (isReady.test(output)) resolve();
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`${program} ended: ${errors}`)));
  });
  const ready = performance.now() - start;
  child.removeAllListeners("exit");
  if (!errors.includes("building")) return { child, ready };
  await stop(child, directory);
  return "built";
}

/** Ctrl-C, after which no socket may be left. */
async function stop(child: ChildProcess, directory: string): Promise<void> {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  process.kill(-(child.pid ?? 0), "SIGINT");
  await ended;
  const left = socketsBelow(directory);
  if (left.length > 0) throw new Error(`left behind: ${left.join(" ")}`);
  rmSync(join(directory, "serve"), { recursive: true, force: true });
}

/** Sockets of functions, GPUs first. */
function socketsBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isSocket() && /^(GPU|NPU)/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Milliseconds. */
function timeOf(program: string, ...parameters: string[]): number {
  const start = performance.now();
  spawnSync(program, parameters, { cwd: ROOT, stdio: "ignore" });
  return performance.now() - start;
}
