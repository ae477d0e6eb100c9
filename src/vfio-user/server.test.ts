import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { message } from "../../test/vfio_user/raw_client.js";
import { refuses, TestServer } from "../../test/vfio_user/test_server.js";
import { createEventfd, Mapping } from "../os/index.js";
import { encodeRegionInfo, type IrqSet } from "../vfio/index.js";
import {
  type Capabilities,
  Command,
  decodeRegionAccess,
  encodeDeviceFeature,
  encodeMigrationData,
  encodeRegionAccess,
  encodeVersion,
} from "./index.js";

const server = new TestServer();

function trigger(index: number, count: number, data: IrqSet["data"]["kind"] = "eventfd"): IrqSet {
  return { index, start: 0, count, action: "trigger", data: { kind: data } as IrqSet["data"] };
}

test("negotiation answers 0.0 with a subset of what was proposed", () => {
  const propose = (capabilities: Capabilities) => {
    const client = server.connectRaw(false);
    const reply = client.request(Command.VERSION, encodeVersion({ major: 0, minor: 1, capabilities }));
    client.close();
    for (const fd of reply?.fds ?? []) fd.close();
    assert.deepEqual(reply?.payload.subarray(0, 4), new Uint8Array(4));
    return JSON.parse(Buffer.from(reply?.payload.subarray(4, -1) ?? []).toString()) as unknown;
  };
  return (async () => {
    assert.deepEqual(propose({}), { capabilities: {} });
    await server.quiet();
    assert.deepEqual(propose({ pgsizes: 0x11000, twinSocket: { supported: false } }), {
      capabilities: { pgsizes: 4096 },
    });
    await server.quiet();
    assert.deepEqual(propose({ maxMsgFds: 8, twinSocket: { supported: true } }), {
      capabilities: { max_msg_fds: 16, twin_socket: { supported: true, fd_index: 0 } },
    });
    await server.quiet();
    assert.deepEqual(propose({ maxMsgFds: 0, twinSocket: { supported: true } }), { capabilities: { max_msg_fds: 16 } });
  })();
});

test("another major version, a command before VERSION, and a second VERSION are refused", async () => {
  const other = server.connectRaw(false);
  const reply = other.request(Command.VERSION, encodeVersion({ major: 1, minor: 0, capabilities: {} }));
  assert.equal(reply?.error, 22);
  assert.equal(other.receive(), undefined, "and the connection ends");
  other.close();
  await server.quiet();
  const early = server.connectRaw(false);
  assert.equal(early.request(Command.DEVICE_RESET, new Uint8Array(0))?.error, 22);
  early.close();
  await server.quiet();
  const twice = server.connectRaw();
  assert.notEqual(twice.request(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }))?.error, 0);
  twice.close();
});

test("a second client is told EBUSY while the first goes on undisturbed", async () => {
  const first = server.connect();
  refuses("EBUSY", () => server.connect());
  assert.equal(first.deviceInfo().numRegions, 10);
  first.close();
  await server.quiet();
  assert.ok(server.events.some(({ kind }) => kind === "refuse"));
});

test("a client that takes no descriptors is offered nothing to map", async () => {
  await server.quiet();
  const client = server.connectRaw(false);
  const capabilities = { maxMsgFds: 0 };
  client.request(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities }));
  const ask = encodeRegionInfo({ argsz: 4096, flags: 0, index: 2, size: 0n, offset: 0n, capabilities: [] }, 4096);
  const reply = client.request(Command.DEVICE_GET_REGION_INFO, ask.subarray(0, 32));
  assert.deepEqual(reply?.fds, []);
  assert.equal(new DataView(reply.payload.buffer, reply.payload.byteOffset).getUint32(4, true), 3);
  client.close();
  await server.quiet();
});

test("device, region and interrupt info are what the device says, and indexes beyond are refused", () => {
  const client = server.connect();
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
  const client = server.connect();
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

test("the reply to a command that is sent in pieces is not lost, however soon it comes", () => {
  const client = server.connect();
  const data = new Uint8Array(1 << 20).fill(0x5a);
  for (let turn = 0; turn < 40; turn++) client.write(0, 0, data);
  assert.deepEqual(client.read(0, 0, data.length), data);
  client.close();
});

test("pipelined commands are answered in order", () => {
  const client = server.connectRaw();
  const all: number[] = [];
  for (let id = 0; id < 300; id++) {
    all.push(...message(Command.REGION_READ, encodeRegionAccess({ offset: BigInt(id), region: 0, count: 4 }), { id }));
  }
  client.sendBytes(Uint8Array.from(all));
  for (let id = 0; id < 300; id++) assert.equal(client.receive()?.id, id);
  client.close();
});

test("accesses outside a region, against its permissions and to absent ones are refused", () => {
  const client = server.connect();
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

test("accesses that run over the end of a region that clips are cut to what is there, and the reply says how much", () => {
  const client = server.connect();
  const end = 2 ** 37;
  assert.deepEqual(client.read(9, end - 4, 8), new Uint8Array(4).fill(0x99));
  assert.deepEqual(client.read(9, end - 1, 1 << 20), Uint8Array.of(0x99));
  const much = client.read(9, end - 3 * 2 ** 19, 2 << 20);
  assert.deepEqual([much.length, much.at(-1), much.at(-17)], [3 * 2 ** 19, 0x99, 0]);
  assert.equal(client.read(9, end - 2 ** 20, 2 << 20).length, 2 ** 20, "where the first message ends, too");
  assert.equal(client.write(9, end - 2, Uint8Array.of(1, 2, 3, 4)), 2);
  assert.deepEqual(client.read(9, end - 4, 4), Uint8Array.of(0x99, 0x99, 1, 2));
  client.writeMulti([
    { offset: BigInt(end) - 3n, region: 9, data: Uint8Array.of(5, 6, 7, 8, 9) },
    { offset: BigInt(end) - 8n, region: 9, data: Uint8Array.of(4) },
  ]);
  assert.deepEqual(client.read(9, end - 8, 8), Uint8Array.of(4, 0x99, 0x99, 0x99, 0x99, 5, 6, 7));
  for (const offset of [end, end + 1, 2n ** 53n, 2n ** 64n - 4n]) {
    refuses("EINVAL", () => client.read(9, offset, 4));
    refuses("EINVAL", () => client.write(9, offset, Uint8Array.of(1)));
    refuses("EINVAL", () => client.writeMulti([{ offset: BigInt(offset), region: 9, data: Uint8Array.of(1) }]));
  }
  client.close();
});

test("the reply to a write that was cut off has the count of what was done, and to none at all an error", async () => {
  await server.quiet();
  const client = server.connectRaw();
  const write = (data: Uint8Array) => {
    const fixed = encodeRegionAccess({ offset: 2n ** 37n - 2n, region: 9, count: data.length });
    return client.request(Command.REGION_WRITE, Uint8Array.of(...fixed, ...data));
  };
  const reply = write(new Uint8Array(12));
  assert.deepEqual(decodeRegionAccess(reply?.payload ?? new Uint8Array(0)), {
    offset: 2n ** 37n - 2n,
    region: 9,
    count: 2,
  });
  assert.equal(write(new Uint8Array(0))?.error, 22);
  client.close();
});

test("what a device throws reaches the client as an errno, and the server lives on", () => {
  const client = server.connect();
  refuses("EPERM", () => client.read(4, 0, 4));
  refuses("EIO", () => client.write(4, 4, Uint8Array.of(1)));
  refuses("EIO", () => client.read(4, 8, 4));
  assert.equal(client.deviceInfo().numRegions, 10);
  client.close();
});

test("a device that fails to open refuses its client and has the next", async () => {
  await server.drive({ do: "fail to open" });
  refuses("EIO", () => server.connect());
  const client = server.connect();
  assert.equal(client.deviceInfo().numRegions, 10);
  client.close();
});

test("a mapped area is the device's memory", async () => {
  const client = server.connect();
  const { fd } = client.regionInfo(2);
  assert.ok(fd);
  const mapping = new Mapping(fd, 4096, 8192, "read-write");
  mapping.bytes[1] = 0xab;
  assert.equal(await server.drive({ do: "memory", offset: 4097 }), 0xab);
  assert.deepEqual(client.read(2, 4097, 1), Uint8Array.of(0xab));
  mapping.unmap();
  fd.close();
  client.close();
});

test("a client gets no more doorbells than it takes descriptors, and no bytes that a device forgot to fill", () => {
  const client = server.connect({ capabilities: { maxMsgFds: 1 } });
  const { info, fds } = client.regionIoFds(0);
  assert.deepEqual([info.count, info.subRegions.length, fds.length], [1, 1, 1]);
  for (const fd of fds) fd.close();
  client.write(0, 0, new Uint8Array(4096).fill(0xaa));
  client.read(0, 0, 4096);
  assert.deepEqual(client.read(6, 0, 4096), new Uint8Array(4096));
  client.close();
});

test("a reset holds back the client's next command until it is done, and is finished when the client leaves", async () => {
  const client = server.connectRaw();
  const began = performance.now();
  client.send(Command.DEVICE_RESET, new Uint8Array(0), [], { id: 1 });
  client.send(Command.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 }), [], { id: 2 });
  assert.equal(client.receive()?.id, 1);
  assert.ok(performance.now() - began > 150);
  assert.equal(client.receive()?.id, 2);
  client.send(Command.DEVICE_RESET, new Uint8Array(0));
  await sleep(20);
  client.close();
  const next = server.connect();
  const log = (await server.drive({ do: "log" })) as string[];
  assert.equal(log.filter((line) => line === "reset ends").length, 2, "the next client is served after it");
  next.close();
});

test("features and migration are not supported, and unknown commands say so too", () => {
  const client = server.connectRaw();
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
  const first = server.connect();
  const fd = createEventfd();
  first.write(0, 100, Uint8Array.of(42));
  first.setIrqs(trigger(2, 1), [fd]);
  first.dmaMap(0n, 4096n);
  first.close();
  await server.quiet();
  const second = server.connect();
  assert.deepEqual(second.read(0, 100, 1), Uint8Array.of(42));
  assert.equal(await server.drive({ do: "trigger", index: 2, subindex: 0 }), false);
  second.dmaMap(0n, 4096n);
  second.close();
  fd.close();
});
