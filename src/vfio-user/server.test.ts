import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message, RawClient } from "../../test/vfio_user/raw_client.js";
import type { TestCommand } from "../../test/vfio_user/test_device.js";
import {
  createEventfd,
  createMemfd,
  drainEventfd,
  type Fd,
  Mapping,
  OsError,
  POLLIN,
  pollOne,
  signalEventfd,
} from "../os/index.js";
import { type IrqSet, VfioError } from "../vfio/index.js";
import {
  type Capabilities,
  type ClientOptions,
  Command,
  encodeDeviceFeature,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeMigrationData,
  encodeRegionAccess,
  encodeVersion,
  type RunningServer,
  type ServerEvent,
  startServer,
  VfioUserClient,
} from "./index.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-server-"));
const path = join(directory, "device.sock");
const module = new URL("../../test/vfio_user/test_device.ts", import.meta.url);
const events: ServerEvent[] = [];
/** Closed after each test, whatever became of it. */
const clients: { close(): void }[] = [];
let server: RunningServer;
let idle: ReturnType<typeof openFiles>;

before(async () => {
  server = await startServer({ module, data: [path], onEvent: (event) => events.push(event) });
  new VfioUserClient(path).close();
  await quiet();
  idle = openFiles();
});

after(async () => {
  await server.stop();
  assert.equal(existsSync(path), false, "the socket file is gone");
  rmSync(directory, { recursive: true });
});

beforeEach(async () => {
  await drive({ do: "log" });
  events.length = 0;
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await quiet();
  assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked");
});

/** Until the server has noticed that the last client is gone. */
async function quiet(): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      new VfioUserClient(path).close();
      await sleep(5);
      await server.call([0, { do: "result" }]);
      return;
    } catch {
      await sleep(5);
    }
  }
}

function drive(command: TestCommand): Promise<unknown> {
  return server.call([0, command]);
}

function connect(options: ClientOptions = {}): VfioUserClient {
  const client = new VfioUserClient(path, options);
  clients.push(client);
  return client;
}

function connectRaw(negotiate = true): RawClient {
  const client = new RawClient(path, negotiate);
  clients.push(client);
  return client;
}

function refuses(code: string, run: () => unknown): void {
  assert.throws(
    run,
    (error: unknown) => (error instanceof OsError || error instanceof VfioError) && error.code === code,
  );
}

function trigger(index: number, count: number, data: IrqSet["data"]["kind"] = "eventfd"): IrqSet {
  return { index, start: 0, count, action: "trigger", data: { kind: data } as IrqSet["data"] };
}

test("negotiation answers 0.0 with a subset of what was proposed", () => {
  const propose = (capabilities: Capabilities) => {
    const client = connectRaw(false);
    const reply = client.request(Command.VERSION, encodeVersion({ major: 0, minor: 1, capabilities }));
    client.close();
    for (const fd of reply?.fds ?? []) fd.close();
    assert.deepEqual(reply?.payload.subarray(0, 4), new Uint8Array(4));
    return JSON.parse(Buffer.from(reply?.payload.subarray(4, -1) ?? []).toString()) as unknown;
  };
  return (async () => {
    assert.deepEqual(propose({}), { capabilities: {} });
    await quiet();
    assert.deepEqual(propose({ pgsizes: 0x11000, twinSocket: { supported: false } }), {
      capabilities: { pgsizes: 4096 },
    });
    await quiet();
    assert.deepEqual(propose({ maxMsgFds: 8, twinSocket: { supported: true } }), {
      capabilities: { max_msg_fds: 16, twin_socket: { supported: true, fd_index: 0 } },
    });
  })();
});

test("another major version, a command before VERSION, and a second VERSION are refused", async () => {
  const other = connectRaw(false);
  const reply = other.request(Command.VERSION, encodeVersion({ major: 1, minor: 0, capabilities: {} }));
  assert.equal(reply?.error, 22);
  assert.equal(other.receive(), undefined, "and the connection ends");
  other.close();
  await quiet();
  const early = connectRaw(false);
  assert.equal(early.request(Command.DEVICE_RESET, new Uint8Array(0))?.error, 22);
  early.close();
  await quiet();
  const twice = connectRaw();
  assert.notEqual(twice.request(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }))?.error, 0);
  twice.close();
});

test("a second client is told EBUSY while the first goes on undisturbed", async () => {
  const first = connect();
  refuses("EBUSY", () => connect());
  assert.equal(first.deviceInfo().numRegions, 10);
  first.close();
  await quiet();
  assert.ok(events.some(({ kind }) => kind === "refuse"));
});

test("device, region and interrupt info are what the device says, and indexes beyond are refused", () => {
  const client = connect();
  assert.deepEqual(client.deviceInfo(), { argsz: 16, flags: 3, numRegions: 10, numIrqs: 5 });
  const plain = client.regionInfo(1);
  assert.deepEqual(plain, { info: { argsz: 32, flags: 1, index: 1, size: 4096n, offset: 0n, capabilities: [] } });
  const { info, fd } = client.regionInfo(2);
  assert.deepEqual(info.capabilities, [{ kind: "sparse-mmap", areas: [{ offset: 4096n, size: 8192n }] }]);
  assert.equal(info.flags, 0xf);
  assert.ok(fd);
  fd.close();
  const nvlink = client.regionInfo(9).info;
  assert.equal(nvlink.size, 1n << 37n);
  assert.deepEqual(
    nvlink.capabilities.map(({ kind }) => kind),
    ["type", "nvlink2-ssatgt", "nvlink2-lnkspd"],
  );
  assert.equal(client.regionInfo(5).info.size, 0n);
  assert.deepEqual(client.irqInfo(2), { argsz: 16, flags: 1, index: 2, count: 64 });
  assert.equal(client.irqInfo(4).count, 0);
  refuses("EINVAL", () => client.regionInfo(10));
  refuses("EINVAL", () => client.irqInfo(5));
  client.close();
});

test("reads and writes of any size reach the region, in order, with and without replies", () => {
  const client = connect();
  for (const count of [1, 2, 3, 4, 8, 9, 4096, 1 << 20, 2 << 20]) {
    const data = Uint8Array.from({ length: count }, (_, at) => at * 7 + count);
    client.write(0, 0, data);
    assert.deepEqual(client.read(0, 0, count), data, `${count} bytes`);
  }
  for (let value = 0; value < 200; value++) client.write(0, 4, Uint8Array.of(value), true);
  assert.deepEqual(client.read(0, 4, 1), Uint8Array.of(199));
  client.writeMulti([
    { offset: 0n, region: 0, data: Uint8Array.of(1, 2, 3, 4) },
    { offset: 2n, region: 0, data: Uint8Array.of(9) },
  ]);
  assert.deepEqual(client.read(0, 0, 4), Uint8Array.of(1, 2, 9, 4));
  assert.deepEqual(client.read(9, 2 ** 37 - 4, 4), new Uint8Array(4).fill(0x99));
  client.close();
});

test("pipelined commands are answered in order", () => {
  const client = connectRaw();
  const all: number[] = [];
  for (let id = 0; id < 300; id++) {
    all.push(...message(Command.REGION_READ, encodeRegionAccess({ offset: BigInt(id), region: 0, count: 4 }), { id }));
  }
  client.sendBytes(Uint8Array.from(all));
  for (let id = 0; id < 300; id++) assert.equal(client.receive()?.id, id);
  client.close();
});

test("accesses outside a region, against its permissions and to absent ones are refused", () => {
  const client = connect();
  refuses("EINVAL", () => client.read(1, 4093, 4));
  refuses("EINVAL", () => client.read(1, 4096, 1));
  refuses("EINVAL", () => client.read(1, 2n ** 64n - 2n, 4));
  refuses("EINVAL", () => client.read(1, 2n ** 53n, 4));
  refuses("EINVAL", () => client.read(5, 0, 4));
  refuses("EINVAL", () => client.read(0xffffffff, 0, 4));
  refuses("EINVAL", () => client.read(3, 0, 4));
  refuses("EINVAL", () => client.write(1, 0, Uint8Array.of(1)));
  refuses("EINVAL", () => client.writeMulti([{ offset: 2n ** 64n - 1n, region: 0, data: Uint8Array.of(1) }]));
  client.write(0, 0, Uint8Array.of(5));
  const partly = [
    { offset: 0n, region: 0, data: Uint8Array.of(6) },
    { offset: 0n, region: 1, data: Uint8Array.of(6) },
  ];
  refuses("EINVAL", () => client.writeMulti(partly));
  assert.deepEqual(client.read(0, 0, 1), Uint8Array.of(5), "of several writes all or none are done");
  client.close();
});

test("what a device throws reaches the client as an errno, and the server lives on", () => {
  const client = connect();
  refuses("EPERM", () => client.read(4, 0, 4));
  refuses("EIO", () => client.write(4, 4, Uint8Array.of(1)));
  refuses("EIO", () => client.read(4, 8, 4));
  assert.equal(client.deviceInfo().numRegions, 10);
  client.close();
});

test("a device that fails to open refuses its client and has the next", async () => {
  await drive({ do: "fail to open" });
  refuses("EIO", () => connect());
  const client = connect();
  assert.equal(client.deviceInfo().numRegions, 10);
  client.close();
});

test("a mapped area is the device's memory", async () => {
  const client = connect();
  const { fd } = client.regionInfo(2);
  assert.ok(fd);
  const mapping = new Mapping(fd, 4096, 8192, "read-write");
  mapping.bytes[1] = 0xab;
  assert.equal(await drive({ do: "memory", offset: 4097 }), 0xab);
  assert.deepEqual(client.read(2, 4097, 1), Uint8Array.of(0xab));
  mapping.unmap();
  fd.close();
  client.close();
});

test("DMA reaches shared files at any alignment, and refuses what was not shared", async () => {
  const client = connect();
  const memory = createMemfd("guest", 1 << 16);
  const mapping = new Mapping(memory, 0, 1 << 16, "read-write");
  mapping.bytes.set([1, 2, 3, 4], 5000);
  client.dmaMap(0x12345n, 1000n, { fd: memory, offset: 4999n });
  client.dmaMap(0xffff_ffff_ffff_f000n, 4096n, { fd: memory, offset: 0n }, "read");
  const read = (address: bigint, count: number) =>
    drive({ do: "dma", access: "read", address, data: new Uint8Array(count) });
  const write = (address: bigint, ...data: number[]) =>
    drive({ do: "dma", access: "write", address, data: Uint8Array.from(data) });
  assert.deepEqual(await read(0x12346n, 4), Uint8Array.of(1, 2, 3, 4));
  assert.equal(await write(0x12347n, 8, 9), "done");
  assert.deepEqual(mapping.bytes.slice(5000, 5004), Uint8Array.of(1, 8, 9, 4));
  assert.deepEqual(await read(0xffff_ffff_ffff_fffen, 2), new Uint8Array(2));
  assert.equal(await read(0xffff_ffff_ffff_fffen, 4), "EFAULT");
  assert.equal(await write(0xffff_ffff_ffff_fffen, 1), "EACCES");
  assert.equal(await read(0x12344n, 4), "EFAULT");
  assert.equal(await read(0x12345n + 998n, 4), "EFAULT");
  client.dmaUnmap(0x12345n, 1000n);
  assert.equal(await read(0x12346n, 4), "EFAULT");
  client.dmaUnmapAll();
  mapping.unmap();
  memory.close();
  client.close();
  await quiet();
});

test("DMA maps over others are EEXIST, nonsense is EINVAL, and unmapping takes whole ranges", async () => {
  const client = connect();
  const memory = createMemfd("guest", 1 << 16);
  const map = (address: bigint, size: bigint, offset = 0n) => client.dmaMap(address, size, { fd: memory, offset });
  map(0x1000n, 0x1000n);
  map(0x2000n, 0x1000n);
  map(0x8000n, 0x1000n);
  for (const [address, size] of [
    [0x1000n, 0x1000n],
    [0x1fffn, 1n],
    [0xfffn, 2n],
    [0x800n, 0x4000n],
  ] as const) {
    refuses("EEXIST", () => map(address, size));
  }
  refuses("EINVAL", () => map(0x10000n, 0n));
  refuses("EINVAL", () => map(2n ** 64n - 1n, 2n));
  refuses("EINVAL", () => map(0x10000n, 0x1000n, 0xf001n));
  refuses("EINVAL", () => map(0x10000n, 0x1000n, 2n ** 64n - 1n));
  refuses("EPERM", () => map(0xbad000n, 0x1000n));
  refuses("EINVAL", () => client.dmaUnmap(0x1000n, 0x800n));
  refuses("EINVAL", () => client.dmaUnmap(0x1800n, 0x1800n));
  client.dmaUnmap(0x1000n, 0x2000n);
  client.dmaUnmap(0x100000n, 0x1000n);
  client.dmaUnmapAll();
  memory.close();
  client.close();
  await quiet();
  assert.deepEqual(
    ((await drive({ do: "log" })) as string[]).filter((line) => line.startsWith("unmap")),
    ["unmap 1000", "unmap 2000", "unmap 8000"],
  );
});

for (const supported of [false, true]) {
  test(`DMA without a file goes by messages, ${supported ? "on a twin socket" : "between the client's own"}`, async () => {
    const memory = new Uint8Array(4 << 20);
    const at = (address: bigint) => Number(address - 0x100000n);
    const shared = {
      read: (address: bigint, data: Uint8Array) => data.set(memory.subarray(at(address), at(address) + data.length)),
      write: (address: bigint, data: Uint8Array) => memory.set(data, at(address)),
    };
    const client = connect({ memory: shared, capabilities: { twinSocket: { supported } } });
    assert.equal(client.capabilities.twinSocket?.supported ?? false, supported);
    client.dmaMap(0x100000n, 4n << 20n);
    const data = Uint8Array.from({ length: 2_500_000 }, (_, index) => index * 3);
    await drive({ do: "dma", access: "write", address: 0x100001n, data });
    let result: unknown = null;
    while (result === null) {
      client.serve(5);
      assert.equal(client.read(0, 0, 4).length, 4, "register accesses are answered meanwhile");
      result = await drive({ do: "result" });
    }
    assert.equal(result, "done");
    assert.deepEqual(memory.subarray(1, 2_500_001), data);
    await drive({ do: "dma", access: "read", address: 0x100001n, data: new Uint8Array(1000) });
    for (result = null; result === null; result = await drive({ do: "result" })) client.serve(5);
    assert.deepEqual(result, data.slice(0, 1000));
    client.close();
  });
}

test("a DMA message in flight ends when the client takes the memory back, and when it leaves", async () => {
  const client = connectRaw();
  const map = encodeDmaMap({ argsz: 32, flags: 3, offset: 0n, address: 0x1000n, size: 4096n });
  assert.equal(client.request(Command.DMA_MAP, map)?.error, 0);
  const start = () => drive({ do: "dma", access: "read", address: 0x1000n, data: new Uint8Array(4) });
  assert.equal(await start(), null);
  const asked = client.receive();
  assert.equal(asked?.command, Command.DMA_READ);
  const unmap = encodeDmaUnmap({ argsz: 24, flags: 0, address: 0x1000n, size: 4096n });
  assert.equal(client.request(Command.DMA_UNMAP, unmap)?.error, 0);
  assert.equal(await drive({ do: "result" }), "ECANCELED");
  assert.equal(client.request(Command.DMA_MAP, map)?.error, 0);
  assert.equal(await start(), null);
  client.close();
  await quiet();
  assert.equal(await drive({ do: "result" }), "cancelled");
});

test("interrupts reach eventfds of all kinds, in chunks of what the server takes", async () => {
  const client = connect();
  const fds = Array.from({ length: 64 }, createEventfd);
  client.setIrqs(trigger(2, 64), fds);
  assert.equal(await drive({ do: "trigger", index: 2, subindex: 63 }), true);
  assert.deepEqual(fds.map(drainEventfd).indexOf(1n), 63);
  client.setIrqs({ ...trigger(2, 2), start: 62 });
  assert.equal(await drive({ do: "trigger", index: 2, subindex: 63 }), false);
  assert.equal(await drive({ do: "trigger", index: 2, subindex: 61 }), true);
  drainEventfd(fds[61] as Fd);
  client.setIrqs({ ...trigger(2, 3), data: { kind: "bool", values: [true, false, true] } });
  client.setIrqs(trigger(2, 1, "none"));
  assert.deepEqual(fds.slice(0, 4).map(drainEventfd), [2n, 0n, 1n, 0n]);
  client.setIrqs(trigger(2, 0, "none"));
  assert.equal(await drive({ do: "trigger", index: 2, subindex: 0 }), false);
  for (const fd of fds) fd.close();
  client.close();
});

test("a masked interrupt waits for its unmasking, and mask and unmask have eventfds of their own", async () => {
  const client = connect();
  const [fd, mask, unmask] = [createEventfd(), createEventfd(), createEventfd()];
  const one = (action: IrqSet["action"], kind: IrqSet["data"]["kind"]): IrqSet => ({ ...trigger(1, 1, kind), action });
  client.setIrqs(one("trigger", "eventfd"), [fd]);
  client.setIrqs(one("mask", "eventfd"), [mask]);
  client.setIrqs(one("unmask", "eventfd"), [unmask]);
  client.setIrqs(one("mask", "none"));
  assert.equal(drainEventfd(mask), 1n);
  assert.equal(await drive({ do: "trigger", index: 1, subindex: 0 }), false);
  assert.equal(drainEventfd(fd), 0n);
  client.setIrqs({ ...one("unmask", "none"), data: { kind: "bool", values: [false] } });
  assert.equal(drainEventfd(fd), 0n);
  client.setIrqs({ ...one("unmask", "none"), data: { kind: "bool", values: [true] } });
  assert.equal(drainEventfd(unmask), 1n);
  assert.equal(drainEventfd(fd), 1n);
  for (const each of [fd, mask, unmask]) each.close();
  client.close();
});

test("INTx masks itself, and comes again after each unmask while it is asserted", async () => {
  const client = connect();
  const [fd, resample] = [createEventfd(), createEventfd()];
  client.setIrqs(trigger(0, 1), [fd]);
  await drive({ do: "intx", asserted: true });
  await drive({ do: "intx", asserted: true });
  assert.equal(drainEventfd(fd), 1n);
  const unmask: IrqSet = { ...trigger(0, 1, "none"), action: "unmask" };
  client.setIrqs(unmask);
  assert.equal(drainEventfd(fd), 1n);
  await drive({ do: "intx", asserted: false });
  client.setIrqs(unmask);
  assert.equal(drainEventfd(fd), 0n);
  client.setIrqs({ ...trigger(0, 1), action: "unmask" }, [resample]);
  await drive({ do: "intx", asserted: true });
  assert.equal(drainEventfd(fd), 1n);
  signalEventfd(resample);
  assert.equal(pollOne(fd, POLLIN, 1000), POLLIN, "the client's signal unmasks, as with the kernel");
  for (const each of [fd, resample]) each.close();
  client.close();
});

test("interrupt settings that make no sense are refused, and their descriptors closed", () => {
  const client = connect();
  const fd = createEventfd();
  const memfd = createMemfd("no eventfd", 4096);
  refuses("EINVAL", () => client.setIrqs(trigger(2, 65, "none")));
  refuses("EINVAL", () => client.setIrqs({ ...trigger(2, 0xffffffff, "none"), start: 0xffffffff }));
  refuses("EINVAL", () => client.setIrqs(trigger(3, 1), [fd]));
  refuses("EINVAL", () => client.setIrqs(trigger(9, 1), [fd]));
  refuses("EINVAL", () => client.setIrqs(trigger(2, 2), [fd]));
  refuses("EINVAL", () => client.setIrqs(trigger(2, 1), [memfd]));
  refuses("EINVAL", () => client.setIrqs(trigger(2, 1, "none"), [fd]));
  refuses("EINVAL", () => client.setIrqs({ ...trigger(2, 1, "none"), action: "mask" }));
  refuses("EINVAL", () => client.setIrqs({ ...trigger(1, 0, "none"), action: "mask" }));
  fd.close();
  memfd.close();
  client.close();
});

test("doorbells arrive by eventfd", async () => {
  const client = connect();
  const { info, fds } = client.regionIoFds(0);
  assert.deepEqual(info.subRegions, [
    { offset: 8n, size: 4n, fdIndex: 0, type: 0, flags: 0, data: 0n },
    { offset: 16n, size: 8n, fdIndex: 1, type: 0, flags: 1, data: 5n },
  ]);
  for (const fd of [...fds].reverse()) signalEventfd(fd);
  for (const fd of fds) fd.close();
  await sleep(20);
  const log = (await drive({ do: "log" })) as string[];
  assert.deepEqual(log.filter((line) => line.startsWith("ioevent")).sort(), ["ioevent 0 16 5", "ioevent 0 8 any"]);
  assert.deepEqual(client.regionIoFds(1), {
    info: { argsz: 16, flags: 0, index: 1, count: 0, subRegions: [] },
    fds: [],
  });
  client.close();
});

test("a client gets no more doorbells than it takes descriptors, and no bytes that a device forgot to fill", () => {
  const client = connect({ capabilities: { maxMsgFds: 1 } });
  const { info, fds } = client.regionIoFds(0);
  assert.deepEqual([info.count, info.subRegions.length, fds.length], [1, 1, 1]);
  for (const fd of fds) fd.close();
  client.write(0, 0, new Uint8Array(4096).fill(0xaa));
  client.read(0, 0, 4096);
  assert.deepEqual(client.read(6, 0, 4096), new Uint8Array(4096));
  client.close();
});

test("a reset holds back the client's next command until it is done, and is finished when the client leaves", async () => {
  const client = connectRaw();
  client.send(Command.DEVICE_RESET, new Uint8Array(0), [], { id: 1 });
  client.send(Command.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 }), [], { id: 2 });
  const began = performance.now();
  assert.equal(client.receive()?.id, 1);
  assert.ok(performance.now() - began > 150);
  assert.equal(client.receive()?.id, 2);
  client.send(Command.DEVICE_RESET, new Uint8Array(0));
  await sleep(20);
  client.close();
  const next = connect();
  const log = (await drive({ do: "log" })) as string[];
  assert.equal(log.filter((line) => line === "reset ends").length, 2, "the next client is served after it");
  next.close();
});

test("features and migration are not supported, and unknown commands say so too", () => {
  const client = connectRaw();
  const ENOTSUP = 95;
  const feature = encodeDeviceFeature({ argsz: 16, flags: 0x10001, data: new Uint8Array(8) });
  const data = encodeMigrationData({ argsz: 16, size: 8, data: new Uint8Array(8) });
  assert.equal(client.request(Command.DEVICE_FEATURE, feature)?.error, ENOTSUP);
  assert.equal(client.request(Command.MIG_DATA_READ, data)?.error, ENOTSUP);
  assert.equal(client.request(Command.MIG_DATA_WRITE, data)?.error, ENOTSUP);
  for (const command of [0, 11, 12, 14, 19, 0xffff]) {
    assert.equal(client.request(command, new Uint8Array(0))?.error, ENOTSUP, String(command));
  }
  client.close();
});

test("a client that comes back finds the device as it was, its own memory and interrupts gone", async () => {
  const first = connect();
  const fd = createEventfd();
  first.write(0, 100, Uint8Array.of(42));
  first.setIrqs(trigger(2, 1), [fd]);
  first.dmaMap(0n, 4096n);
  first.close();
  await quiet();
  const second = connect();
  assert.deepEqual(second.read(0, 100, 1), Uint8Array.of(42));
  assert.equal(await drive({ do: "trigger", index: 2, subindex: 0 }), false);
  second.dmaMap(0n, 4096n);
  second.close();
  fd.close();
});
