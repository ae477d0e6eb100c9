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
  type DmaBackend,
  type DmaRange,
  type Steps,
  type VfioDevice,
} from "../vfio/index.js";
import { Command, encodeDmaMap, encodeDmaUnmap, encodeVersion, VfioUserServer } from "./index.js";

const PAGE = 4096n;
const VERSION = message(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }));

/** Maps and takes back only when it is let. */
class SlowBackend implements DmaBackend {
  readonly mapped = new Set<bigint>();
  readonly leaving = new Set<bigint>();
  maps = true;
  settles = true;

  *map({ address }: DmaRange): Steps {
    let done = false;
    try {
      while (!this.maps) yield { deadline: performance.now() + 2, done: () => this.maps };
      this.mapped.add(address);
      done = true;
    } finally {
      if (!done) this.leaving.add(address);
    }
  }

  unmap({ address }: DmaRange): void {
    assert.ok(this.mapped.delete(address));
    this.leaving.add(address);
  }

  *settle(): Steps {
    while (!this.settles && this.leaving.size > 0) yield { deadline: performance.now() + 2, done: () => this.settles };
    this.leaving.clear();
  }
}

const directory = mkdtempSync(join(tmpdir(), "linkfence-backend-"));
const clients: RawClient[] = [];
let idle: ReturnType<typeof openFiles>;
let backend: SlowBackend;
let container: Container;
let server: VfioUserServer;
let memory: Fd;

beforeEach(() => {
  idle = openFiles();
  backend = new SlowBackend();
  container = new Container(backend);
  const served = [0, 1].map((index) => {
    const device: VfioDevice = { regions: [], irqs: [], read() {}, write() {} };
    return { socket: socketOf(index), device: new ContainerMember(device, container) };
  });
  server = new VfioUserServer(served);
  memory = createMemfd("guest", 1 << 20, F_SEAL_SHRINK);
});

afterEach(() => {
  server.close();
  for (const client of clients.splice(0)) client.close();
  memory.close();
  assert.deepEqual([backend.mapped.size, container.rangeCount, container.pinnedBytes], [0, 0, 0n]);
  assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked");
});

process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

function socketOf(index: number): string {
  return join(directory, `${index}.sock`);
}

function run(): void {
  for (let turn = 0; turn < 6; turn++) server.step(1);
}

function connected(index: number): RawClient {
  const client = new RawClient(socketOf(index), false);
  clients.push(client);
  client.sendBytes(VERSION);
  run();
  return client;
}

function attached(index: number): RawClient {
  const client = connected(index);
  assert.equal(client.receive(0)?.error, 0);
  return client;
}

function sendMap(client: RawClient, address: bigint): void {
  client.send(Command.DMA_MAP, encodeDmaMap({ argsz: 32, flags: 3, offset: address, address, size: PAGE }), [memory]);
  run();
}

function sendUnmap(client: RawClient, address: bigint): void {
  client.send(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: 24, flags: 0, address, size: PAGE }));
  run();
}

function hasReply(client: RawClient): boolean {
  return pollOne(client.stream.socket, POLLIN, 0) !== 0;
}

/** The errno of a reply that is there. */
function errnoOf(client: RawClient): number {
  run();
  assert.ok(hasReply(client), "there is no reply");
  return client.receive(0)?.error ?? -1;
}

test("a map is answered when the backend has mapped it, and others are served meanwhile", () => {
  const [first, second] = [attached(0), attached(1)];
  backend.maps = false;
  sendMap(first, 0n);
  assert.ok(!hasReply(first));
  sendUnmap(second, 0n);
  assert.equal(errnoOf(second), 0);
  backend.maps = true;
  assert.equal(errnoOf(first), 0);
  assert.ok(backend.mapped.has(0n));
});

test("an unmapping is answered when no device reaches the memory any more", () => {
  const client = attached(0);
  sendMap(client, 0n);
  assert.equal(errnoOf(client), 0);
  backend.settles = false;
  sendUnmap(client, 0n);
  assert.ok(!hasReply(client));
  backend.settles = true;
  assert.equal(errnoOf(client), 0);
  assert.equal(backend.mapped.size, 0);
});

test("the next client is let in when no device reaches the memory of the last one any more", () => {
  const client = attached(0);
  sendMap(client, 0n);
  assert.equal(errnoOf(client), 0);
  backend.settles = false;
  client.close();
  run();
  const next = connected(0);
  assert.ok(!hasReply(next));
  backend.settles = true;
  assert.equal(errnoOf(next), 0);
});

test("a client that vanishes while its memory is being mapped has mapped nothing", () => {
  const client = attached(0);
  backend.maps = false;
  sendMap(client, 0n);
  client.close();
  run();
  backend.maps = true;
  run();
  assert.deepEqual([backend.mapped.size, container.rangeCount], [0, 0]);
  assert.equal(errnoOf(connected(0)), 0);
});

test("a server that stops while memory is being mapped, or taken back, leaves none mapped", () => {
  const [first, second] = [attached(0), attached(1)];
  sendMap(first, 0n);
  backend.maps = false;
  backend.settles = false;
  sendMap(second, PAGE);
  sendUnmap(first, 0n);
  server.close();
  assert.deepEqual([backend.mapped.size, container.rangeCount], [0, 0]);
});
