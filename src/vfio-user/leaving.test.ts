import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { processorTime } from "../../test/processor_time.js";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message, RawClient } from "../../test/vfio_user/raw_client.js";
import { createMemfd, F_SEAL_SHRINK, type Fd } from "../os/index.js";
import {
  type DeviceClient,
  runToEnd,
  type Steps,
  VFIO_DMA_UNMAP_FLAG_ALL,
  type VfioDevice,
  VfioError,
} from "../vfio/index.js";
import { Command, encodeDmaMap, encodeDmaUnmap, encodeVersion, FLAG_NO_REPLY, VfioUserServer } from "./index.js";
import { MAX_DMA_FILES, MAX_DMA_MAPS } from "./server_limits.js";

const PAGE = 4096n;
const VERSION = encodeVersion({ major: 0, minor: 0, capabilities: {} });

/** Counts how often it hears of the end of each range. */
class Watcher implements VfioDevice {
  readonly regions = [];
  readonly irqs = [];
  readonly unmapped = new Map<bigint, number>();
  readonly calls: string[] = [];
  client: DeviceClient | undefined;
  failure: VfioError | undefined;

  read(): void {}
  write(): void {}

  open(client: DeviceClient): void {
    this.calls.push("open");
    this.client = client;
    if (this.failure !== undefined) throw this.failure;
  }

  close(): void {
    this.calls.push(`close after ${this.unmapped.size}`);
  }

  dmaUnmapped({ address }: { address: bigint }): void {
    this.unmapped.set(address, (this.unmapped.get(address) ?? 0) + 1);
    if (this.failure !== undefined) throw this.failure;
  }
}

const directory = mkdtempSync(join(tmpdir(), "linkfence-leaving-"));
const path = join(directory, "device.sock");
const errors: string[] = [];
let idle: ReturnType<typeof openFiles>;
let device: Watcher;
let server: VfioUserServer;
const clients: RawClient[] = [];

beforeEach(() => {
  idle = openFiles();
  device = new Watcher();
  errors.length = 0;
  server = new VfioUserServer([{ socket: path, device }], {
    onEvent: (event) => event.kind === "error" && errors.push(event.message),
  });
});

afterEach(() => {
  server.close();
  for (const client of clients.splice(0)) client.close();
  assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked");
  assert.ok(
    [...device.unmapped.values()].every((times) => times === 1),
    "the device heard of a range more than once",
  );
});

process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

/** Client and server share this thread, so that what the server does at a time can be measured. */
function connect(): RawClient {
  const client = new RawClient(path, false);
  clients.push(client);
  return client;
}

function negotiated(): RawClient {
  const client = connect();
  client.send(Command.VERSION, VERSION);
  server.step(100);
  server.step(100);
  assert.equal(client.receive()?.error, 0);
  return client;
}

function map(client: RawClient, address: bigint, size: bigint, fds: Fd[] = []): void {
  const payload = encodeDmaMap({ argsz: 32, flags: 3, offset: 0n, address, size });
  client.send(Command.DMA_MAP, payload, fds, { flags: FLAG_NO_REPLY });
}

/** As many ranges as a client may have. */
function mapAll(client: RawClient): void {
  for (let index = 0; index < MAX_DMA_MAPS; index++) {
    map(client, BigInt(index) * PAGE, PAGE);
    if (index % 64 === 0) server.step(0);
  }
  for (let turns = 0; turns < 10; turns++) server.step(0);
}

/**
 * Has the server take its turns until `done`.
 * @returns what the longest took of a processor's time, in milliseconds: what any other client may have to wait on a machine
 * that has nothing else to do
 */
function longestTurn(done: () => boolean): number {
  let longest = 0;
  for (const end = performance.now() + 20_000; !done() && performance.now() < end; ) {
    longest = Math.max(
      longest,
      processorTime(() => server.step(10)),
    );
  }
  assert.ok(done(), "it takes for ever");
  return longest;
}

/** A busy machine delays anybody now and then, so one of a few attempts has to do. */
function assertShort(attempt: () => number): void {
  const longest: number[] = [];
  while (longest.length < 3 && !(Math.min(...longest) < 10)) longest.push(attempt());
  assert.ok(Math.min(...longest) < 10, `others waited ${longest.map((ms) => ms.toFixed(1))} ms`);
}

test("a client that leaves 65,535 ranges behind holds up nobody but the next client of its device", () => {
  assertShort(() => {
    device.unmapped.clear();
    device.calls.length = 0;
    const client = negotiated();
    mapAll(client);
    client.close();
    const next = connect();
    next.send(Command.VERSION, VERSION);
    const longest = longestTurn(() => device.calls.length === 3);
    assert.deepEqual(device.calls, ["open", `close after ${MAX_DMA_MAPS}`, "open"]);
    assert.equal(device.unmapped.size, MAX_DMA_MAPS);
    server.step(0);
    assert.equal(next.receive()?.error, 0);
    next.close();
    longestTurn(() => device.calls.length === 4);
    return longest;
  });
});

test("unmapping 65,535 ranges at once holds up nobody, and is answered before the next command is looked at", () => {
  assertShort(() => {
    device.unmapped.clear();
    const client = negotiated();
    mapAll(client);
    const all = encodeDmaUnmap({ argsz: 24, flags: VFIO_DMA_UNMAP_FLAG_ALL, address: 0n, size: 0n });
    const each = encodeDmaUnmap({ argsz: 24, flags: 0, address: 0n, size: 1n << 40n });
    const again = encodeDmaMap({ argsz: 32, flags: 3, offset: 0n, address: 0n, size: 1n << 40n });
    client.send(Command.DMA_UNMAP, clients.length % 2 === 0 ? all : each, [], { id: 1 });
    client.send(Command.DMA_MAP, again, [], { id: 2 });
    server.step(10);
    assert.equal(runsInto(device.client?.dma.read(0n, new Uint8Array(1))), "EFAULT", "out of reach at once");
    const longest = longestTurn(() => !server.isBusy(device));
    assert.equal(device.unmapped.size, MAX_DMA_MAPS);
    for (let turns = 0; turns < 3; turns++) server.step(1);
    assert.deepEqual([client.receive()?.id, client.receive()?.id], [1, 2]);
    client.close();
    device.unmapped.clear();
    longestTurn(() => device.calls.at(-1)?.startsWith("close") === true);
    assert.deepEqual([...device.unmapped], [[0n, 1]]);
    return longest;
  });
});

for (const situation of ["leaving", "unmapping", "unmapping and leaving"]) {
  test(`a server that stops while its client is ${situation} lets go of everything first, once`, () => {
    const client = negotiated();
    mapAll(client);
    if (situation.startsWith("unmapping")) {
      const payload = encodeDmaUnmap({ argsz: 24, flags: 0, address: 0n, size: 40_000n * PAGE });
      client.send(Command.DMA_UNMAP, payload);
      server.step(10);
    }
    if (situation.endsWith("leaving")) {
      client.close();
      server.step(10);
    }
    assert.ok(device.unmapped.size > 0 && device.unmapped.size < MAX_DMA_MAPS, "it is in the middle of it");
    const took = processorTime(() => server.close());
    assert.ok(took < 500, `${took.toFixed(1)} ms`);
    assert.deepEqual(device.calls, ["open", `close after ${MAX_DMA_MAPS}`]);
    assert.equal(device.unmapped.size, MAX_DMA_MAPS);
  });
}

test("files that a client shared and that were mapped are unmapped and closed when it leaves", () => {
  const client = negotiated();
  for (let index = 0; index < MAX_DMA_FILES; index++) {
    const fd = createMemfd("guest", 4096, F_SEAL_SHRINK);
    for (const half of [0n, 2048n]) {
      map(client, BigInt(index) * PAGE + half, 2048n, [fd]);
      server.step(1);
    }
    fd.close();
  }
  for (let index = 0; index < MAX_DMA_FILES; index++) {
    assert.equal(runsInto(device.client?.dma.write(BigInt(index) * PAGE, Uint8Array.of(1))), undefined);
  }
  assert.ok(openFiles().mappings >= idle.mappings + MAX_DMA_FILES);
  client.close();
  longestTurn(() => device.calls.length === 2);
  assert.ok(openFiles().mappings === idle.mappings);
});

test("a device that will not have its client hears no more of it, nor is anything left of it", () => {
  device.failure = new VfioError("ENODEV", "gone");
  const client = connect();
  client.send(Command.VERSION, VERSION);
  for (let turns = 0; turns < 3; turns++) server.step(1);
  assert.equal(client.receive()?.error, 19);
  assert.equal(client.receive(), undefined, "and the connection ends");
  assert.equal(device.client?.trigger(0, 0), false);
  device.failure = undefined;
  negotiated();
  assert.deepEqual(device.calls, ["open", "open"]);
});

test("an unmapping that the device fails is an error to the client, and the memory is gone all the same", () => {
  const client = negotiated();
  map(client, 0n, PAGE);
  map(client, PAGE, PAGE);
  server.step(1);
  device.failure = new VfioError("EBUSY", "in use");
  client.send(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: 24, flags: 0, address: 0n, size: 2n * PAGE }));
  server.step(1);
  assert.equal(client.receive()?.error, 16);
  assert.equal(device.unmapped.size, 2);
  assert.equal(runsInto(device.client?.dma.read(0n, new Uint8Array(1))), "EFAULT");
  device.unmapped.clear();
  map(client, 0n, PAGE);
  client.close();
  longestTurn(() => device.calls.length === 2);
  assert.equal(errors.length, 1, "without a client it is reported");
});

test("negotiation without a reply is served without one, and without a twin socket", () => {
  const client = connect();
  const payload = encodeVersion({ major: 0, minor: 0, capabilities: { twinSocket: { supported: true } } });
  client.sendBytes(message(Command.VERSION, payload, { flags: FLAG_NO_REPLY }));
  client.send(Command.DEVICE_GET_INFO, Uint8Array.of(16, ...new Uint8Array(15)), [], { id: 7 });
  for (let turns = 0; turns < 3; turns++) server.step(1);
  const reply = client.receive();
  assert.deepEqual([reply?.id, reply?.error, reply?.fds], [7, 0, []]);
});

test("negotiation without a reply that fails ends the connection without a word", () => {
  const client = connect();
  client.send(Command.VERSION, new Uint8Array(1), [], { flags: FLAG_NO_REPLY });
  for (let turns = 0; turns < 3; turns++) server.step(1);
  assert.equal(client.receive(), undefined);
  assert.deepEqual(device.calls, []);
});

for (const [seal, name] of [
  [8, "writing"],
  [16, "future writing"],
] as const) {
  test(`memory sealed against ${name} is EACCES to a device that writes it, and can be read`, () => {
    const client = negotiated();
    for (const seals of [seal, seal | F_SEAL_SHRINK]) {
      const fd = createMemfd("sealed", 4096, seals);
      map(client, 0n, PAGE, [fd]);
      fd.close();
      server.step(1);
      assert.equal(runsInto(device.client?.dma.write(0n, Uint8Array.of(1))), "EACCES");
      assert.equal(runsInto(device.client?.dma.read(0n, new Uint8Array(8))), undefined);
      client.send(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: 24, flags: 0, address: 0n, size: PAGE }));
      server.step(1);
      assert.equal(client.receive()?.error, 0);
      device.unmapped.clear();
    }
  });
}

/** The code of the VfioError that steps end in. */
function runsInto(steps: Steps | undefined): string | undefined {
  try {
    if (steps !== undefined) runToEnd(steps);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof VfioError, String(error));
    return error.code;
  }
}
