import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message, RawClient } from "../../test/vfio_user/raw_client.js";
import { createMemfd, F_SEAL_SHRINK, type Fd, POLLIN, pollOne } from "../os/index.js";
import {
  Container,
  ContainerMember,
  DEVICE_INFO_SIZE,
  type DmaRange,
  VFIO_DMA_UNMAP_FLAG_ALL,
  type VfioDevice,
  type VfioRegion,
} from "../vfio/index.js";
import { Command, encodeDmaMap, encodeDmaUnmap, encodeVersion, VfioUserServer } from "./index.js";

const PAGE = 4096n;
const EEXIST = 17;
const VERSION = message(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }));

class Member implements VfioDevice {
  readonly irqs = [];
  readonly mapped = new Set<bigint>();
  regions: (VfioRegion | undefined)[] = [];

  read(): void {}
  write(): void {}

  dmaMapped({ address }: DmaRange): void {
    this.mapped.add(address);
  }

  dmaUnmapped({ address }: DmaRange): void {
    this.mapped.delete(address);
  }
}

const directory = mkdtempSync(join(tmpdir(), "linkfence-shared-"));
const clients: RawClient[] = [];
let idle: ReturnType<typeof openFiles>;
let container: Container;
let devices: Member[];
let server: VfioUserServer;
let memory: Fd;

beforeEach(() => {
  idle = openFiles();
  container = new Container();
  devices = [new Member(), new Member(), new Member()];
  const served = devices.map((device, index) => ({
    socket: socketOf(index),
    device: new ContainerMember(device, container),
  }));
  server = new VfioUserServer(served);
  memory = createMemfd("guest", 1 << 30, F_SEAL_SHRINK);
});

afterEach(() => {
  server.close();
  for (const client of clients.splice(0)) client.close();
  memory.close();
  assert.equal(container.rangeCount, 0);
  assert.equal(container.pinnedBytes, 0n);
  assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked");
});

process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

function socketOf(index: number): string {
  return join(directory, `${index}.sock`);
}

function run(): void {
  for (let turn = 0; turn < 6; turn++) server.step(1);
}

function attached(index: number): RawClient {
  const client = new RawClient(socketOf(index), false);
  clients.push(client);
  client.sendBytes(VERSION);
  run();
  assert.equal(client.receive(0)?.error, 0);
  return client;
}

/** Asks for a map. */
function sendMap(client: RawClient, address: bigint, size: bigint, offset = address, fds: Fd[] = [memory]): void {
  client.send(Command.DMA_MAP, encodeDmaMap({ argsz: 32, flags: 3, offset, address, size }), fds);
}

function sendUnmap(client: RawClient, address: bigint, size: bigint): void {
  client.send(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: 24, flags: 0, address, size }));
}

function hasReply(client: RawClient): boolean {
  return pollOne(client.stream.socket, POLLIN, 0) !== 0;
}

/** The errno of the next reply, for which the server is given time. */
function errnoOf(client: RawClient): number {
  for (const end = performance.now() + 20_000; !hasReply(client) && performance.now() < end; ) server.step(1);
  return client.receive(0)?.error ?? -1;
}

/** @returns the errno of the reply */
function map(client: RawClient, address: bigint, size: bigint, offset = address, fds: Fd[] = [memory]): number {
  sendMap(client, address, size, offset, fds);
  return errnoOf(client);
}

test("clients of one assignment map the same memory, each by a descriptor of its own, and it counts once", () => {
  const all = devices.map((_, index) => attached(index));
  for (const client of all) {
    const own = memory.duplicate();
    assert.equal(map(client, 0n, 1n << 30n, 0n, [own]), 0);
    own.close();
  }
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, 1n << 30n]);
  assert.ok(devices.every(({ mapped }) => mapped.size === 1));
  all[0]?.close();
  run();
  all[1]?.send(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: 24, flags: VFIO_DMA_UNMAP_FLAG_ALL, address: 0n, size: 0n }));
  run();
  assert.deepEqual(
    devices.map(({ mapped }) => mapped.size),
    [0, 0, 1],
  );
  assert.equal(container.rangeCount, 1);
  all[2]?.close();
  run();
  assert.equal(container.rangeCount, 0);
});

test("a client that maps something else over another's memory is told EEXIST, and its device has not heard of it", () => {
  const [first, second] = [attached(0), attached(1)];
  assert.equal(map(first, 0n, 4n * PAGE), 0);
  const other = createMemfd("other", 1 << 20);
  assert.equal(map(second, 0n, 4n * PAGE, 0n, [other]), EEXIST);
  assert.equal(map(second, PAGE, PAGE), EEXIST);
  assert.equal(map(second, 0n, 4n * PAGE, 0n, []), EEXIST);
  assert.equal(map(second, 0n, 4n * PAGE, PAGE), EEXIST);
  other.close();
  assert.equal(devices[1]?.mapped.size, 0);
  assert.equal(map(second, 0n, 4n * PAGE), 0, "and may still map the same");
  first.close();
  run();
  assert.equal(map(second, 0n, 4n * PAGE), EEXIST, "its own");
  assert.equal(map(second, 4n * PAGE, PAGE), 0);
});

/** The second client has asked for what the first one's range is in the way of, and for something else behind it. */
function whileWaiting(): { first: RawClient; second: RawClient } {
  const [first, second] = [attached(0), attached(1)];
  assert.equal(map(first, 0n, 4n * PAGE), 0);
  sendMap(second, 0n, 8n * PAGE);
  second.send(Command.DEVICE_GET_INFO, new Uint8Array(DEVICE_INFO_SIZE).fill(DEVICE_INFO_SIZE, 0, 1), [], { id: 7 });
  run();
  assert.ok(!hasReply(second), "it waits");
  return { first, second };
}

test("a map waits for another member's range to go, what its client sends waits behind it, and others are served", () => {
  const { first, second } = whileWaiting();
  const third = attached(2);
  assert.equal(map(third, 64n * PAGE, PAGE), 0);
  sendUnmap(first, 0n, 4n * PAGE);
  assert.equal(errnoOf(first), 0);
  assert.equal(errnoOf(second), 0);
  run();
  assert.equal(second.receive(0)?.id, 7);
  assert.equal(map(first, 0n, 8n * PAGE), 0);
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [2, 9n * PAGE]);
});

test("a map that waits for a client that leaves is answered when that has left", () => {
  const { first, second } = whileWaiting();
  first.close();
  assert.equal(errnoOf(second), 0);
  assert.equal(container.pinnedBytes, 8n * PAGE);
});

test("a client that vanishes while its map waits has mapped nothing, and the next one need not wait for that", () => {
  const { second } = whileWaiting();
  second.close();
  run();
  attached(1);
  assert.equal(devices[1]?.mapped.size, 0);
  assert.equal(container.rangeCount, 1);
});

test("a server that stops while a map waits lets its descriptor go", () => {
  whileWaiting();
  server.close();
  assert.equal(container.rangeCount, 0);
});

test("a map that has waited half a second in vain is refused, and that client's next ones at once", () => {
  const began = performance.now();
  const { second } = whileWaiting();
  assert.equal(errnoOf(second), EEXIST);
  const waited = performance.now() - began;
  assert.ok(waited >= 500, `${waited} ms`);
  run();
  assert.equal(second.receive(0)?.id, 7);
  const again = performance.now();
  for (let page = 0n; page < 4n; page++) assert.equal(map(second, page * PAGE, PAGE), EEXIST);
  assert.ok(performance.now() - again < 1900, "waiting for each takes two seconds");
  assert.equal(map(second, 4n * PAGE, PAGE), 0);
});

test("a client that leaves frees its addresses for what others want to map there", () => {
  const [first, second] = [attached(0), attached(1)];
  for (let page = 0n; page < 50n; page++) assert.equal(map(first, page * PAGE, PAGE), 0);
  assert.equal(map(second, 0n, 64n * PAGE), EEXIST);
  first.close();
  run();
  assert.equal(map(second, 0n, 64n * PAGE), 0);
  assert.equal(container.pinnedBytes, 64n * PAGE);
});

test("memory of a device that a client maps for DMA is found registered, and not counted", () => {
  const { dev, ino } = memory.stat();
  const deviceMemory = { id: `${dev}:${ino}`, size: 1 << 30 };
  if (devices[0] !== undefined) {
    devices[0].regions = [{ size: 1 << 30, readable: true, writable: true, deviceMemory }];
  }
  const [gpu, bridge] = [attached(0), attached(1)];
  assert.equal(map(bridge, 1n << 40n, 1n << 30n, 0n), 0);
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, 0n]);
  gpu.close();
  run();
  assert.equal(map(bridge, 1n << 41n, 1n << 20n, 0n), 0);
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [2, 1n << 20n], "dropped at release");
});
