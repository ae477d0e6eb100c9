/**
 * Attacks the vfio-user server with sequences of messages made from a seed, and looks after each whether it still
 * serves, has leaked nothing, and never let the device see an access outside a region.
 *
 *   node --import tsx test/fuzz/vfio_user.ts [--seconds 60] [--seed N]
 *   node --import tsx test/fuzz/vfio_user.ts --replay N         one sequence again
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createEventfd, createMemfd, type Fd, socketPair, truncate } from "../../src/os/index.js";
import { type RunningServer, startServer, VfioUserClient } from "../../src/vfio-user/index.js";
import { openFiles } from "../vfio_user/open_files.js";
import { RawClient } from "../vfio_user/raw_client.js";
import { collectGarbage } from "./collect_garbage.js";
import { hostileMessage } from "./hostile_message.js";
import { Random } from "./random.js";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "60" }, seed: { type: "string" }, replay: { type: "string" } },
});
/** Sequences between looks at the memory, and how many bytes more than at the first look are a leak. */
const SETTLED = 500;
const MEMORY_LIMIT = 16 << 20;
const PATIENCE = 2000;

const directory = mkdtempSync(join(tmpdir(), "linkfence-fuzz-"));
const path = join(directory, "device.sock");
const module = new URL("./guarded_device.ts", import.meta.url);

/** Descriptors of every kind a client may think of. The last one shrinks under whoever maps it. */
function makeFds(): { all: [Fd, ...Fd[]]; shrinking: Fd } {
  const shrinking = createMemfd("shrinking", 1 << 20, 0);
  const [left, right] = socketPair();
  return { all: [createEventfd(), createEventfd(), createMemfd("guest", 1 << 21), shrinking, left, right], shrinking };
}

/** One sequence: connect, perhaps negotiate, attack, leave. */
async function attack(seed: number, server: RunningServer): Promise<void> {
  const random = new Random(seed);
  const { all, shrinking } = makeFds();
  const client = new RawClient(path, false);
  try {
    if (!random.once(20)) await negotiate(client, random);
    for (let left = random.below(60); left > 0; left--) {
      const bytes = hostileMessage(random);
      const count = random.once(3) ? random.pick([1, 1, 1, 2, 4, 16, 17, 100]) : 0;
      const fds = Array.from({ length: count }, () => random.pick(all));
      sendInPieces(client, bytes, fds, random);
      if (random.once(30)) truncate(shrinking, random.pick([0, 4096, 1 << 20]));
      if (random.once(10)) void server.call([random.u32(), random.u32()]).catch(() => {});
      if (random.once(4)) drain(client);
      if (random.once(50)) await sleep(random.below(3));
    }
  } catch {
    // The server has had enough of it.
  } finally {
    client.close();
    for (const fd of all) fd.close();
  }
}

async function negotiate(client: RawClient, random: Random): Promise<void> {
  const twin = random.once(2) ? ',"twin_socket":{"supported":true}' : "";
  const text = Buffer.from(`{"capabilities":{"max_msg_fds":16${twin}}}\0`);
  client.send(1, Uint8Array.from([0, 0, 0, 0, ...text]));
  const reply = client.receive(PATIENCE);
  for (const fd of reply?.fds ?? []) fd.close();
}

function sendInPieces(client: RawClient, bytes: Uint8Array, fds: readonly Fd[], random: Random): void {
  const pieces = random.once(6) ? 1 + random.below(5) : 1;
  for (let at = 0, piece = 0; at < bytes.length; piece++) {
    const length = piece === pieces - 1 ? bytes.length - at : 1 + random.below(bytes.length - at);
    const sent = client.sendBytes(bytes.subarray(at, at + length), piece === 0 ? fds : []);
    if (sent < 0) {
      drain(client);
      return;
    }
    at += sent;
  }
}

function drain(client: RawClient): void {
  for (let count = 0; count < 200; count++) {
    try {
      const reply = client.receive(0);
      for (const fd of reply?.fds ?? []) fd.close();
      if (reply === undefined) return;
    } catch {
      return;
    }
  }
}

/** Whether a decent client is served, and what the guarded device has to complain of. */
async function inspect(server: RunningServer): Promise<void> {
  const end = performance.now() + PATIENCE;
  for (;;) {
    try {
      const client = new VfioUserClient(path, { timeout: PATIENCE });
      client.read(7, 0, 4);
      client.close();
      break;
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(5);
    }
  }
  const complaint = await server.call("complaints");
  if (complaint !== undefined) throw new Error(String(complaint));
}

async function settled(idle: ReturnType<typeof openFiles>): Promise<void> {
  const end = performance.now() + PATIENCE;
  for (let now = openFiles(); ; now = openFiles()) {
    if (now.descriptors === idle.descriptors && now.mappings === idle.mappings) return;
    if (performance.now() > end) throw new Error(`leaked: ${JSON.stringify(now)} after ${JSON.stringify(idle)}`);
    await sleep(5);
  }
}

const first = Number(values.replay ?? values.seed ?? Date.now() % 2 ** 31);
const until = performance.now() + Number(values.seconds) * 1000;
const server = await startServer({ module, data: [path] });
let seed = first;
let failed = false;
let grown = 0;
try {
  await inspect(server);
  await attack(0, server);
  await inspect(server);
  await sleep(50);
  const idle = openFiles();
  let memory = 0;
  for (let count = 1; count === 1 || (values.replay === undefined && performance.now() < until); count++, seed++) {
    await attack(seed, server);
    await inspect(server);
    await settled(idle);
    if (count % SETTLED > 0) continue;
    collectGarbage();
    await server.call("collect garbage");
    const resident = process.memoryUsage.rss();
    // What is resident after the first few hundred sequences is code and heap that are there to stay.
    if (count === SETTLED) memory = resident;
    if (resident - memory > MEMORY_LIMIT) throw new Error(`memory grew by ${resident - memory} bytes`);
    grown = resident - memory;
  }
  console.log(`${seed - first} sequences from seed ${first}: nothing found, memory grew by ${grown >> 10} KiB`);
} catch (error) {
  failed = true;
  console.error(`found by seed ${seed} (--replay ${seed}): ${error instanceof Error ? error.stack : error}`);
} finally {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
