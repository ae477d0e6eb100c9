/**
 * Attacks the vfio-user server with sequences of messages made from a seed, and looks after each whether it still
 * serves, has leaked nothing, and never let the device see an access outside a region. Run by scripts/fuzz.mjs, which
 * survives when this does not.
 *
 *   vfio_user.ts PROGRESS SEED SEQUENCES SECONDS [STEP,STEP...]
 *
 * PROGRESS is a file that always holds the seed of the sequence under way. Sequence n has the seed SEED + n. Of steps
 * only those named are done.
 */
import { mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ServerEvent, startServer, VfioUserClient } from "../../src/vfio-user/index.js";
import { openFiles } from "../vfio_user/open_files.js";
import { Attack, Finding } from "./attack.js";
import { collectGarbage } from "./collect_garbage.js";
import { Random } from "./random.js";

/** Sequences between looks at the memory. */
const SETTLED = 500;
/** How many bytes more than at the first look are a leak: of objects, and of the process, which comes and goes. */
const USED_LIMIT = 4 << 20;
const RESIDENT_LIMIT = 64 << 20;
const PATIENCE = 3000;
/** What another device's client may wait, in milliseconds: far from a fair share, and far from a hang. */
const BYSTANDER_LIMIT = 1000;

const [progress = "", seed = "1", sequences = "1", seconds = "60", chosen] = process.argv.slice(2);
const steps =
  chosen === undefined
    ? undefined
    : new Set(
        chosen
          .split(",")
          .filter((step) => step !== "")
          .map(Number),
      );
const progressFile = openSync(progress, "w");
const directory = mkdtempSync(join(tmpdir(), "linkfence-fuzz-"));
const path = join(directory, "attacked.sock");
const bystanderPath = join(directory, "bystander.sock");
let trouble: string | undefined;
let sent = 0;
const delays: number[] = [];

/** Errors that no device made are the server's own. */
function onEvent(event: ServerEvent): void {
  if (event.kind === "error" && event.message.includes("\n    at ")) trouble ??= event.message;
}

const module = new URL("./guarded_device.js", import.meta.url);
const server = await startServer({ module, data: [path, bystanderPath], onEvent });

/** One sequence: connect, perhaps negotiate, attack, leave. */
async function attack(sequence: number): Promise<void> {
  const random = new Random(sequence);
  const attacker = new Attack(path, new Random(sequence, 1 << 20));
  try {
    if (!random.once(20)) attacker.negotiate(random.once(3));
    const settles = !random.once(3);
    const count = random.below(60);
    for (let step = 0; step < count && !attacker.isOver; step++) {
      if (steps !== undefined && !steps.has(step)) continue;
      const own = new Random(sequence, step);
      if (own.once(3)) void server.call([own.u32(), own.u32()]).catch(() => {});
      attacker.step(own);
      if (own.once(60)) await sleep(own.below(3));
    }
    if (settles) attacker.settle();
  } finally {
    sent += attacker.sent;
    attacker.close();
  }
}

/** Whether a decent client is served, and what the guarded device has to complain of. */
async function inspect(bystander: VfioUserClient): Promise<void> {
  const began = performance.now();
  bystander.read(0, 0, 4);
  const delay = performance.now() - began;
  delays.push(delay);
  if (delay > BYSTANDER_LIMIT) throw new Finding(`another device's client waited ${delay} ms`);
  for (;;) {
    try {
      const client = new VfioUserClient(path, { timeout: PATIENCE });
      client.read(7, 0, 4);
      client.close();
      break;
    } catch (error) {
      if (performance.now() - began > PATIENCE) throw error;
      await sleep(5);
    }
  }
  const complaint = await server.call("complaints");
  if (complaint !== undefined) throw new Finding(String(complaint));
  if (trouble !== undefined) throw new Finding(trouble);
}

async function settled(idle: ReturnType<typeof openFiles>): Promise<void> {
  const end = performance.now() + PATIENCE;
  for (let now = openFiles(); ; now = openFiles()) {
    if (now.descriptors === idle.descriptors && now.mappings === idle.mappings) return;
    if (performance.now() > end) throw new Finding(`leaked: ${JSON.stringify(now)} after ${JSON.stringify(idle)}`);
    await sleep(2);
  }
}

const began = performance.now();
const first = Number(seed);
let done = 0;
let grown = 0;
try {
  const bystander = new VfioUserClient(bystanderPath);
  await inspect(bystander);
  await sleep(50);
  const idle = openFiles();
  let memory: { used: number; resident: number } | undefined;
  for (; done < Number(sequences) && performance.now() - began < Number(seconds) * 1000; done++) {
    writeSync(progressFile, `${first + done}`.padEnd(16), 0);
    await attack(first + done);
    await inspect(bystander);
    await settled(idle);
    if ((done + 1) % SETTLED > 0) continue;
    const used = collectGarbage() + ((await server.call("collect garbage")) as number);
    const resident = process.memoryUsage.rss();
    // What is there after the first few hundred sequences is code and heap that are there to stay.
    memory ??= { used, resident };
    grown = used - memory.used;
    if (grown > USED_LIMIT) throw new Finding(`${grown} bytes more are in use`);
    if (resident - memory.resident > RESIDENT_LIMIT) throw new Finding(`${resident - memory.resident} bytes more`);
  }
  bystander.close();
  const rate = Math.round(sent / ((performance.now() - began) / 1000));
  delays.sort((one, other) => one - other);
  const delay = [0.5, 0.99, 1].map((part) => delays[Math.ceil(delays.length * part) - 1]?.toFixed(2));
  console.log(
    `${done} sequences, ${sent} messages, ${rate} messages per second; memory grew by ${grown >> 10} KiB; ` +
      `another device's client waited ${delay.join(", ")} ms (median, 99th percentile, longest)`,
  );
} catch (error) {
  process.exitCode = 1;
  console.error(error instanceof Finding ? error.message : error);
} finally {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}
