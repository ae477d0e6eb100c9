import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message, RawClient } from "../../test/vfio_user/raw_client.js";
import type { TestCommand } from "../../test/vfio_user/test_device.js";
import { createEventfd, createMemfd, type Fd, Mapping, OsError, truncate, WOULD_BLOCK } from "../os/index.js";
import {
  Command,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeRegionAccess,
  encodeVersion,
  FLAG_NO_REPLY,
  type RunningServer,
  startServer,
  VfioUserClient,
} from "./index.js";
import { MAX_DMA_FILES } from "./server_limits.js";

const EINVAL = 22;
const ENOSPC = 28;
const EMSGSIZE = 90;
const directory = mkdtempSync(join(tmpdir(), "linkfence-hostile-"));
const path = join(directory, "attacked.sock");
const other = join(directory, "other.sock");
const clients: { close(): void }[] = [];
let server: RunningServer;
let idle: ReturnType<typeof openFiles>;

before(async () => {
  const module = new URL("../../test/vfio_user/test_device.js", import.meta.url);
  server = await startServer({ module, data: [path, other] });
  new VfioUserClient(path).close();
  await drive({ do: "result" });
});

after(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

beforeEach(() => {
  idle = openFiles();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  // The server may not have noticed the end of a connection yet.
  const end = performance.now() + 20_000;
  while (!isDeepStrictEqual(openFiles(), idle) && performance.now() < end) await sleep(5);
  assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked");
  new VfioUserClient(path).close();
  await drive({ do: "result" });
});

function drive(command: TestCommand): Promise<unknown> {
  return server.call([0, command]);
}

function connect(negotiate = true): RawClient {
  const client = new RawClient(path, negotiate);
  clients.push(client);
  return client;
}

function map(address: bigint, size: bigint, offset = 0n): Uint8Array {
  return encodeDmaMap({ argsz: 32, flags: 3, offset, address, size });
}

/** Whether the device can be had within `patience` milliseconds of somebody who left without leaving. */
async function isFree(patience: number): Promise<boolean> {
  for (const end = performance.now() + patience; performance.now() < end; await sleep(20)) {
    try {
      new VfioUserClient(path).close();
      return true;
    } catch (error) {
      if (!(error instanceof OsError) || error.code !== "EBUSY") throw error;
    }
  }
  return false;
}

/** Maps ranges side by side, without descriptors, `size` bytes each and `distance` apart. */
function mapMany(client: RawClient, count: number, size: bigint, distance: bigint): void {
  for (let index = 0; index < count; index++) {
    const flags = index % 100 === 99 || index === count - 1 ? 0 : FLAG_NO_REPLY;
    client.send(Command.DMA_MAP, map(BigInt(index) * distance, size), [], { flags });
    if (flags === 0) assert.equal(client.receive()?.error, 0);
  }
}

/** What three of four register accesses by a client of another device take at most, in milliseconds. */
function usualDelay(accesses: number, between: () => void): number {
  const client = new VfioUserClient(other);
  const delays: number[] = [];
  for (let access = 0; access < accesses; access++) {
    between();
    const began = performance.now();
    client.read(0, 0, 4);
    delays.push(performance.now() - began);
  }
  client.close();
  return delays.sort((a, b) => a - b)[Math.floor((accesses * 3) / 4)] ?? 0;
}

/** Who is held up is so each time. A busy machine delays anybody now and then: one of a few attempts has to do. */
function assertUndelayed(between: () => void): void {
  const attempts: number[] = [];
  while (attempts.length < 20 && !(Math.min(...attempts) < 10)) attempts.push(usualDelay(100, between));
  assert.ok(Math.min(...attempts) < 10, `another device's client waited ${attempts.map((ms) => ms.toFixed(1))} ms`);
}

for (const [size, errno] of [
  [0, EINVAL],
  [15, EINVAL],
  [(1 << 20) + 33, EMSGSIZE],
  [0xffffffff, EMSGSIZE],
] as const) {
  test(`a header that says ${size} bytes is refused and ends the connection`, () => {
    const client = connect();
    assert.equal(client.request(Command.DEVICE_GET_INFO, new Uint8Array(16), [], { size })?.error, errno);
    assert.equal(client.receive(), undefined);
  });
}

test("every command cut short anywhere is refused, and the client may go on", () => {
  const client = connect();
  const lengths: [number, number][] = [
    [Command.DMA_MAP, 32],
    [Command.DMA_UNMAP, 24],
    [Command.DEVICE_GET_INFO, 16],
    [Command.DEVICE_GET_REGION_INFO, 32],
    [Command.DEVICE_GET_REGION_IO_FDS, 16],
    [Command.DEVICE_GET_IRQ_INFO, 16],
    [Command.DEVICE_SET_IRQS, 20],
    [Command.REGION_READ, 16],
    [Command.REGION_WRITE, 16],
    [Command.REGION_WRITE_MULTI, 8],
    [Command.DEVICE_FEATURE, 8],
    [Command.MIG_DATA_READ, 8],
    [Command.MIG_DATA_WRITE, 8],
  ];
  for (const [command, length] of lengths) {
    for (let cut = 0; cut < length; cut++) assert.equal(client.request(command, new Uint8Array(cut))?.error, EINVAL);
  }
  assert.equal(client.request(Command.DEVICE_RESET, new Uint8Array(1))?.error, EINVAL);
  const read = encodeRegionAccess({ offset: 0n, region: 0, count: 4 });
  assert.equal(client.request(Command.REGION_READ, new Uint8Array([...read, 0]))?.error, EINVAL);
  assert.equal(client.request(Command.REGION_WRITE, new Uint8Array([...read, 1, 2, 3]))?.error, EINVAL);
  assert.equal(client.request(Command.REGION_WRITE, new Uint8Array([...read, 1, 2, 3, 4, 5]))?.error, EINVAL);
  assert.equal(client.request(Command.REGION_READ, read)?.payload.length, 20);
});

test("a connection that ends anywhere within a message leaves nothing behind", async () => {
  const fd = createMemfd("guest", 4096);
  const bytes = message(Command.DMA_MAP, map(0n, 4096n));
  for (let cut = 1; cut < bytes.length; cut++) {
    const client = connect();
    client.sendBytes(bytes.subarray(0, cut), [fd]);
    client.close();
    await drive({ do: "result" });
  }
  fd.close();
});

test("a message that comes byte by byte is served like any other, its descriptors with it", () => {
  const client = connect();
  const fd = createMemfd("guest", 4096);
  for (const [at, byte] of message(Command.DMA_MAP, map(0n, 4096n)).entries()) {
    client.sendBytes(Uint8Array.of(byte), at === 20 ? [fd] : []);
  }
  assert.equal(client.receive()?.error, 0);
  fd.close();
});

test("counts beyond what is allowed are refused before anything is allocated for them", () => {
  const client = connect();
  const access = (count: number) => encodeRegionAccess({ offset: 0n, region: 0, count });
  assert.equal(client.request(Command.REGION_READ, access(0))?.error, EINVAL);
  assert.equal(client.request(Command.REGION_READ, access((1 << 20) + 1))?.error, EINVAL);
  assert.equal(client.request(Command.REGION_READ, access(0xffffffff))?.error, EINVAL);
  assert.equal(client.request(Command.REGION_WRITE, access(0xffffffff))?.error, EINVAL);
  for (const count of [1n, 4097n, 1n << 63n]) {
    const multi = new Uint8Array(new BigUint64Array([count]).buffer);
    assert.equal(client.request(Command.REGION_WRITE_MULTI, multi)?.error, EINVAL);
  }
});

test("descriptors where none belong are closed and the command is refused", () => {
  const client = connect();
  const fd = createEventfd();
  for (const command of [4, 5, 6, 7, 9, 10, 13, 15, 16, 17, 18, 99]) {
    assert.equal(client.request(command, new Uint8Array(32), [fd, fd])?.error, EINVAL, `command ${command}`);
  }
  assert.equal(client.request(Command.DMA_MAP, map(0n, 4096n), [fd, fd])?.error, EINVAL);
  assert.equal(client.request(Command.DMA_MAP, map(0n, 4096n), [fd])?.error, EINVAL, "no file");
  fd.close();
});

test("more descriptors than allowed are closed and the command is refused, however they come", () => {
  const client = connect();
  const fd = createEventfd();
  const set = Uint8Array.from([20, 0, 0, 0, 0x24, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0]);
  const many = (count: number) => new Array<Fd>(count).fill(fd);
  assert.equal(client.request(Command.DEVICE_SET_IRQS, set, many(17))?.error, EINVAL);
  assert.equal(client.request(Command.DEVICE_SET_IRQS, set, many(253))?.error, EINVAL);
  for (const [at, byte] of message(Command.DEVICE_SET_IRQS, set).entries()) {
    client.sendBytes(Uint8Array.of(byte), many(at % 2 === 0 ? 250 : 1));
  }
  assert.equal(client.receive()?.error, EINVAL);
  const sixteen = set.slice();
  sixteen[16] = 16;
  assert.equal(client.request(Command.DEVICE_SET_IRQS, sixteen, many(16))?.error, 0);
  fd.close();
});

test("a memfd smaller than the range it is said to hold is refused", () => {
  const client = connect();
  const fd = createMemfd("small", 4096);
  assert.equal(client.request(Command.DMA_MAP, map(0n, 4097n), [fd])?.error, EINVAL);
  assert.equal(client.request(Command.DMA_MAP, map(0n, 4096n, 1n), [fd])?.error, EINVAL);
  assert.equal(client.request(Command.DMA_MAP, map(0n, 1n << 63n), [fd])?.error, EINVAL);
  assert.equal(client.request(Command.DMA_MAP, map(0n, 4096n), [fd])?.error, 0);
  fd.close();
});

test("a memfd that can shrink is served, and once it has shrunk the device gets an error", async () => {
  const client = connect();
  const fd = createMemfd("shrinking", 1 << 20, 0);
  assert.equal(client.request(Command.DMA_MAP, map(0n, 1n << 20n), [fd])?.error, 0);
  const dma = (access: "read" | "write", address: bigint) =>
    drive({ do: "dma", access, address, data: new Uint8Array(4096).fill(7) });
  assert.equal(await dma("write", 0xff000n), "done");
  assert.deepEqual(await dma("read", 0xff000n), new Uint8Array(4096).fill(7));
  truncate(fd, 4096);
  assert.equal(await dma("read", 0xff000n), "EIO");
  assert.equal(await dma("write", 0xff000n), "EIO");
  assert.equal(await dma("read", 0xfffn), "EIO", "across the end");
  assert.equal(await dma("write", 0n), "done");
  assert.equal(fd.stat().size, 4096n, "writing did not extend it");
  fd.close();
});

test("ranges whose end lies beyond 2^64 are refused", () => {
  const client = connect();
  const top = (1n << 64n) - 1n;
  for (const [address, size] of [
    [top, 2n],
    [2n, top],
    [top, top],
    [0n, 0n],
  ] as const) {
    assert.equal(client.request(Command.DMA_MAP, map(address, size))?.error, EINVAL);
  }
  assert.equal(client.request(Command.DMA_MAP, map(top, 1n))?.error, 0);
  assert.equal(
    client.request(Command.REGION_READ, encodeRegionAccess({ offset: top - 2n, region: 0, count: 4 }))?.error,
    EINVAL,
  );
});

test("10,000 DMA maps of one file cost one descriptor and no mapping, and go as they came", async () => {
  const client = connect();
  const fd = createMemfd("guest", 10_000 * 4096);
  const before = openFiles();
  for (let index = 0; index < 10_000; index++) {
    // From the top down, each before all others.
    const at = BigInt(9_999 - index) * 4096n;
    assert.equal(client.request(Command.DMA_MAP, map(at * 2n, 4096n, at), [fd])?.error, 0);
  }
  const added = openFiles().descriptors - before.descriptors;
  assert.ok(added <= 1, `${added} descriptors`);
  assert.equal(
    await drive({ do: "dma", access: "write", address: 8192n * 9_999n, data: new Uint8Array(4096) }),
    "done",
  );
  client.close();
  await drive({ do: "result" });
  fd.close();
});

test("a client cannot use up the descriptors of all by sharing ever more files", () => {
  const client = connect();
  for (let index = 0; index <= MAX_DMA_FILES; index++) {
    const fd = createMemfd("one of many", 4096);
    const reply = client.request(Command.DMA_MAP, map(BigInt(index) * 4096n, 4096n), [fd]);
    assert.equal(reply?.error, index < MAX_DMA_FILES ? 0 : ENOSPC);
    fd.close();
  }
});

test("a server that is out of descriptors goes on, and serves whoever waits when there are some again", () => {
  const script = fileURLToPath(new URL("../../test/vfio_user/out_of_descriptors.js", import.meta.url));
  const socket = join(directory, "out_of_descriptors.sock");
  const args = ["-c", 'ulimit -n 256 && exec "$0" "$@"', process.execPath, ...process.execArgv, script, socket];
  const { stdout, stderr } = spawnSync("sh", args, { encoding: "utf8" });
  assert.ok(stdout.startsWith("{"), stderr);
  const { errors, answer } = JSON.parse(stdout) as { errors: string[]; answer: number };
  assert.match(errors.join(), /accept4: EMFILE/);
  assert.equal(answer, 0);
});

test("a client that sends its own end of the connection does not keep the device when it is gone", async () => {
  const client = new RawClient(path);
  client.sendBytes(message(Command.DMA_MAP, map(0n, 4096n)).subarray(0, 20), [client.stream.socket]);
  client.close();
  assert.ok(await isFree(20_000));
});

test("a client that takes no replies and is kept alive by an unread message loses the device to the next", async () => {
  const client = new RawClient(path);
  const read = message(Command.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 1 << 20 }));
  for (let count = 0; count < 10; count++) client.sendBytes(read);
  await sleep(50);
  client.sendBytes(message(Command.DMA_MAP, map(0n, 4096n)), [client.stream.socket]);
  client.close();
  assert.ok(await isFree(20_000));
});

test("tens of thousands of ranges make unmapping no slower for others", () => {
  const client = connect();
  mapMany(client, 20_000, 4096n, 8192n);
  const unmap = message(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: 24, flags: 0, address: 1n << 60n, size: 4096n }), {
    flags: FLAG_NO_REPLY,
  });
  const many = Uint8Array.from({ length: unmap.length * 500 }, (_, index) => unmap[index % unmap.length] ?? 0);
  let at = 0;
  assertUndelayed(() => {
    const sent = client.sendBytes(many.subarray(at));
    if (sent !== WOULD_BLOCK) at = (at + sent) % many.length;
  });
});

test("DMA across thousands of ranges lets others have their turn", async () => {
  const client = connect();
  const fd = createMemfd("guest", 4096);
  for (let index = 0; index < 4096; index++) {
    assert.equal(client.request(Command.DMA_MAP, map(BigInt(index), 1n, BigInt(4095 - index)), [fd])?.error, 0);
  }
  const data = Uint8Array.from({ length: 4096 }, (_, index) => index);
  assert.equal(await drive({ do: "dma", access: "write", address: 0n, data }), null, "not done at once");
  for (let tries = 0; tries < 4000 && (await drive({ do: "result" })) === null; tries++) await sleep(5);
  assert.equal(await drive({ do: "result" }), "done");
  const memory = new Mapping(fd, 0, 4096, "read");
  assert.deepEqual(memory.bytes.slice().reverse(), data);
  memory.unmap();
  fd.close();
});

test("a client that never reads its replies is not served any further, and delays nobody else", async () => {
  const client = connect();
  const read = message(Command.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 1 << 20 }));
  const flood = () => {
    for (let count = 0; count < 200 && client.sendBytes(read) !== WOULD_BLOCK; count++);
  };
  flood();
  await sleep(50);
  const before = process.memoryUsage();
  assertUndelayed(flood);
  const grown = process.memoryUsage().arrayBuffers - before.arrayBuffers;
  assert.ok(grown < 16 << 20, `${grown} bytes more`);
});

test("a client that sends a byte now and then delays nobody else", () => {
  const client = connect();
  const bytes = message(Command.REGION_WRITE, encodeRegionAccess({ offset: 0n, region: 0, count: 1 << 19 }));
  let at = 0;
  assertUndelayed(() => {
    client.sendBytes(bytes.subarray(at % 16, (at % 16) + 1));
    at++;
  });
});

test("a client that floods with messages leaves others their turn", () => {
  const client = connect();
  const write = message(
    Command.REGION_WRITE,
    new Uint8Array([...encodeRegionAccess({ offset: 0n, region: 0, count: 1 }), 1]),
    {
      flags: 0x10,
    },
  );
  const many = Uint8Array.from({ length: write.length * 2000 }, (_, index) => write[index % write.length] ?? 0);
  let at = 0;
  assertUndelayed(() => {
    const sent = client.sendBytes(many.subarray(at));
    if (sent !== WOULD_BLOCK) at = (at + sent) % many.length;
  });
});

test("1,000 clients come and go, with and without negotiating", async () => {
  for (let round = 0; round < 1000; round++) {
    const client = new RawClient(path, false);
    if (round % 3 > 0) {
      client.send(
        Command.VERSION,
        encodeVersion({ major: 0, minor: 0, capabilities: { twinSocket: { supported: round % 2 === 0 } } }),
      );
    }
    const reply = round % 3 === 2 ? client.receive() : undefined;
    for (const fd of reply?.fds ?? []) fd.close();
    client.close();
  }
  await drive({ do: "result" });
});

test("a full interrupt counter and a descriptor turned blocking do not stop the server", async () => {
  const client = connect();
  const fd = createEventfd();
  const set = Uint8Array.from([20, 0, 0, 0, 0x24, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
  assert.equal(client.request(Command.DEVICE_SET_IRQS, set, [fd])?.error, 0);
  const { libc, NativeMemory } = await import("../os/index.js");
  const memory = new NativeMemory(8);
  memory.view.setBigUint64(0, 0xfffffffffffffffen, true);
  assert.equal(libc().write(fd.number, memory.address, 8), 8);
  libc().fcntl(fd.number, 4, "int", 0);
  assert.equal(await drive({ do: "trigger", index: 2, subindex: 0 }), true);
  fd.close();
});
