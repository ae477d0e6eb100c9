import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createMemfd, Mapping, NativeMemory, SocketMessenger, WOULD_BLOCK } from "../src/os/index.js";
import {
  Command,
  encodeRegionAccess,
  FLAG_TYPE_COMMAND,
  HEADER_SIZE,
  putHeader,
  REGION_ACCESS_SIZE,
  VfioUserClient,
} from "../src/vfio-user/index.js";
import { type Latency, latencyText, median } from "./latency.js";
import { allowedCpus, PinnedPrograms } from "./pinned_programs.js";
import { residentOf } from "./process_usage.js";
import { HEAP_REGION } from "./vfio_user_device.js";

const MEBIBYTE = 1 << 20;
const ACCESS_SIZE = HEADER_SIZE + REGION_ACCESS_SIZE;
const DEVICES = 16;
const SPIN = 50;

/** Runs that are compared alternate; their ratio is the median over this many rounds. */
const ROUNDS = 5;

/**
 * The vfio-user server against a minimal one in C, both driven by the same client in C, in alternating blocks of
 * accesses, so that the machine's other work disturbs both alike; and what many devices, many messages and bad
 * neighbours cost. Without a C compiler there is no client, and only mapped memory is measured.
 */
export async function run(): Promise<void> {
  console.log("vfio-user");
  benchMappedMemory();
  const directory = mkdtempSync(join(tmpdir(), "linkfence-bench-"));
  const bench = new PinnedPrograms(directory);
  try {
    if (!bench.compile("minimal_server") || !bench.compile("latency_client")) {
      return console.log("  no C compiler: no comparison and no latencies");
    }
    const [first = 0, last = first] = allowedCpus();
    await benchPair(bench, "4-byte read, one CPU", "read", 1000, { server: last, client: last });
    await benchPair(bench, "1 MiB write, one CPU", "write", 20, { server: last, client: last });
    if (first === last) {
      console.log("  only one CPU: nothing to spin on");
    } else {
      await benchPair(bench, "4-byte read, two CPUs", "read", 300, { server: first, client: last });
      await benchPair(bench, "4-byte read, two CPUs, spinning", "read", 1000, { server: first, client: last }, SPIN);
      await benchPair(bench, "1 MiB write, two CPUs", "write", 20, { server: first, client: last });
    }
    await benchMessages(bench, last);
    await benchDevices(bench, last);
    await benchNeighbours(bench, last);
  } finally {
    bench.stopAll();
    rmSync(directory, { recursive: true });
  }
}

interface Cpus {
  server: number;
  client: number;
}

async function benchPair(
  bench: PinnedPrograms,
  title: string,
  access: "read" | "write",
  count: number,
  cpus: Cpus,
  spin = 0,
) {
  const sockets = [bench.socket("c"), bench.socket("linkfence")];
  await bench.startC(cpus.server, bench.socket("c"), spin);
  await bench.startServer(cpus.server, [bench.socket("linkfence")], spin);
  const ratios: Latency[] = [];
  console.log(`  ${title}`);
  for (let round = 0; round < ROUNDS; round++) {
    const [c, ours] = await bench.measure(cpus.client, access, 50, count, sockets);
    if (c === undefined || ours === undefined) throw new Error("the client printed nothing");
    if (round === 0) console.log(`    C         ${latencyText(c)}\n    linkfence ${latencyText(ours)}`);
    ratios.push({ p50: ours.p50 / c.p50, p99: ours.p99 / c.p99, mean: ours.mean / c.mean, max: ours.max / c.max });
  }
  bench.stopAll();
  const ratio = (of: (latency: Latency) => number) => median(ratios.map(of));
  if (access === "read") {
    console.log(`    ratio     p50 ${ratio(({ p50 }) => p50).toFixed(2)}  p99 ${ratio(({ p99 }) => p99).toFixed(2)}`);
  } else {
    const speed = (of: (latency: Latency) => number) => (1 / ratio(of)).toFixed(2);
    console.log(`    ratio     bytes/s ${speed(({ p50 }) => p50)} by p50, ${speed(({ mean }) => mean)} by mean`);
  }
}

async function benchMessages(bench: PinnedPrograms, cpu: number): Promise<void> {
  const socket = bench.socket("messages");
  const server = await bench.startServer(cpu, [socket]);
  // During the first million, what loading and compiling left behind is still given back.
  await bench.measure(cpu, "read", 100, 10_000, [socket]);
  const before = memoryOf(server, socket);
  await bench.measure(cpu, "read", 100, 10_000, [socket]);
  const after = memoryOf(server, socket);
  bench.stopAll();
  const change = (from: number, to: number) => `${((to - from) / MEBIBYTE).toFixed(2)} MiB`;
  console.log(`  a million reads: RSS ${change(before.rss, after.rss)}, heap ${change(before.heap, after.heap)} more`);
}

function memoryOf(server: ChildProcess, socket: string): { rss: number; heap: number } {
  const client = new VfioUserClient(socket);
  const heap = client.read(HEAP_REGION, 0, 8);
  client.close();
  return { rss: residentOf(server), heap: Number(new DataView(heap.buffer, heap.byteOffset).getBigUint64(0, true)) };
}

async function benchDevices(bench: PinnedPrograms, cpu: number): Promise<void> {
  const alone = bench.socket("alone");
  const many = Array.from({ length: DEVICES }, (_, index) => bench.socket(`device${index}`));
  const [first = "", ...others] = many;
  const small = await bench.startServer(cpu, [alone]);
  const large = await bench.startServer(cpu, many);
  const idle = others.map((socket) => new VfioUserClient(socket));
  for (const client of idle) client.write(0, 0, new Uint8Array(4));
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const [one, sixteen] = await bench.measure(cpu, "read", 50, 500, [alone, first]);
    ratios.push((sixteen?.p50 ?? 0) / (one?.p50 ?? 0));
  }
  const each = (residentOf(large) - residentOf(small)) / others.length / 1e6;
  for (const client of idle) client.close();
  bench.stopAll();
  console.log(
    `  ${DEVICES} devices, one busy: p50 ${median(ratios).toFixed(2)} times that of one alone, ${each.toFixed(2)} MB each`,
  );
}

async function benchNeighbours(bench: PinnedPrograms, cpu: number): Promise<void> {
  const [busy, deaf, slow] = [bench.socket("busy"), bench.socket("deaf"), bench.socket("slow")];
  await bench.startServer(cpu, [busy, deaf, slow]);
  const [before] = await bench.measure(cpu, "read", 50, 2000, [busy]);
  const neverReads = new VfioUserClient(deaf);
  const byteASecond = new VfioUserClient(slow);
  const messenger = new SocketMessenger();
  const request = readRequest(MEBIBYTE);
  while (messenger.send(neverReads.socket, request.address, ACCESS_SIZE) !== WOULD_BLOCK) await sleep(1);
  let sent = 0;
  const timer = setInterval(() => {
    messenger.send(byteASecond.socket, request.address + (sent++ % ACCESS_SIZE), 1);
  }, 1000);
  const [beside] = await bench.measure(cpu, "read", 50, 6000, [busy]);
  clearInterval(timer);
  neverReads.close();
  byteASecond.close();
  bench.stopAll();
  if (before === undefined || beside === undefined) throw new Error("the client printed nothing");
  console.log("  4-byte read beside a client that never reads and one that sends a byte a second");
  console.log(`    without   ${latencyText(before)}  max ${(before.max / 1e6).toFixed(2)} ms`);
  console.log(`    beside    ${latencyText(beside)}  max ${(beside.max / 1e6).toFixed(2)} ms`);
}

function readRequest(count: number): NativeMemory {
  const request = new NativeMemory(ACCESS_SIZE);
  putHeader(request.view, 1, Command.REGION_READ, ACCESS_SIZE, FLAG_TYPE_COMMAND);
  request.bytes.set(encodeRegionAccess({ offset: 0n, region: 2, count }), HEADER_SIZE);
  return request;
}

/** A mapped window as a device uses it, against a Buffer: whole copies and single words. */
function benchMappedMemory(): void {
  const fd = createMemfd("bench", MEBIBYTE);
  const mapping = new Mapping(fd, 0, MEBIBYTE, "read-write");
  const source = new Uint8Array(MEBIBYTE).fill(1);
  const buffer = Buffer.alloc(MEBIBYTE);
  const copies = ratioOf(
    () => mapping.bytes.set(source),
    () => buffer.set(source),
  );
  const words = ratioOf(
    () => sumWords(mapping.bytes),
    () => sumWords(buffer),
  );
  mapping.unmap();
  fd.close();
  console.log(
    `  mapped memory: time of a copy ${copies.toFixed(2)}, of word reads ${words.toFixed(2)} times a Buffer's`,
  );
}

function sumWords(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 4) sum = (sum + view.getUint32(at, true)) | 0;
  return sum;
}

/** Time of `a` over time of `b`, each the median of alternating runs, the first half of which warm up. */
function ratioOf(a: () => void, b: () => void): number {
  const times: [number[], number[]] = [[], []];
  for (let run = 0; run < 600; run++) {
    times[0].push(timeOf(a));
    times[1].push(timeOf(b));
  }
  return median(times[0].slice(300)) / median(times[1].slice(300));
}

function timeOf(action: () => void): number {
  const start = process.hrtime.bigint();
  action();
  return Number(process.hrtime.bigint() - start);
}
