import assert from "node:assert/strict";
import { test } from "node:test";
import { refuses, TestServer } from "../../test/vfio_user/test_server.js";
import { createMemfd, Mapping } from "../os/index.js";
import { Command, encodeDmaMap, encodeDmaUnmap } from "./index.js";

const server = new TestServer();

test("DMA reaches shared files at any alignment, and refuses what was not shared", async () => {
  const client = server.connect();
  const memory = createMemfd("guest", 1 << 16);
  const mapping = new Mapping(memory, 0, 1 << 16, "read-write");
  mapping.bytes.set([1, 2, 3, 4], 5000);
  client.dmaMap(0x12345n, 1000n, { fd: memory, offset: 4999n });
  client.dmaMap(0xffff_ffff_ffff_f000n, 4096n, { fd: memory, offset: 0n }, "read");
  const read = (address: bigint, count: number) =>
    server.drive({ do: "dma", access: "read", address, data: new Uint8Array(count) });
  const write = (address: bigint, ...data: number[]) =>
    server.drive({ do: "dma", access: "write", address, data: Uint8Array.from(data) });
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
  await server.quiet();
});

test("DMA maps over others are EEXIST, nonsense is EINVAL, and unmapping takes whole ranges", async () => {
  const client = server.connect();
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
  await server.quiet();
  assert.deepEqual(
    ((await server.drive({ do: "log" })) as string[]).filter((line) => line.startsWith("unmap")),
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
    const client = server.connect({ memory: shared, capabilities: { twinSocket: { supported } } });
    assert.equal(client.capabilities.twinSocket?.supported ?? false, supported);
    client.dmaMap(0x100000n, 4n << 20n);
    const data = Uint8Array.from({ length: 2_500_000 }, (_, index) => index * 3);
    await server.drive({ do: "dma", access: "write", address: 0x100001n, data });
    let result: unknown = null;
    while (result === null) {
      client.serve(5);
      assert.equal(client.read(0, 0, 4).length, 4, "register accesses are answered meanwhile");
      result = await server.drive({ do: "result" });
    }
    assert.equal(result, "done");
    assert.deepEqual(memory.subarray(1, 2_500_001), data);
    await server.drive({ do: "dma", access: "read", address: 0x100001n, data: new Uint8Array(1000) });
    for (result = null; result === null; result = await server.drive({ do: "result" })) client.serve(5);
    assert.deepEqual(result, data.slice(0, 1000));
    client.close();
  });
}

test("a DMA message in flight ends when the client takes the memory back, and when it leaves", async () => {
  const client = server.connectRaw();
  const map = encodeDmaMap({ argsz: 32, flags: 3, offset: 0n, address: 0x1000n, size: 4096n });
  assert.equal(client.request(Command.DMA_MAP, map)?.error, 0);
  const start = () => server.drive({ do: "dma", access: "read", address: 0x1000n, data: new Uint8Array(4) });
  assert.equal(await start(), null);
  const asked = client.receive();
  assert.equal(asked?.command, Command.DMA_READ);
  const unmap = encodeDmaUnmap({ argsz: 24, flags: 0, address: 0x1000n, size: 4096n });
  assert.equal(client.request(Command.DMA_UNMAP, unmap)?.error, 0);
  assert.equal(await server.drive({ do: "result" }), "ECANCELED");
  assert.equal(client.request(Command.DMA_MAP, map)?.error, 0);
  assert.equal(await start(), null);
  client.close();
  await server.quiet();
  assert.equal(await server.drive({ do: "result" }), "cancelled");
});
