import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { ServedMemory } from "../../test/virtual/served_memory.js";
import { Mapping } from "../os/index.js";
import { type RunningServer, startServer, VfioUserClient } from "../vfio-user/index.js";

const MEMORY = 2 ** 24;
const WINDOW = 2 ** 37;
const [BAR1, BAR4, CONFIG, EXTRA] = [1, 4, 7, 9];
const COMMAND = 0x04;
const ALL_FLAGS = 0xf;

const directory = mkdtempSync(join(tmpdir(), "linkfence-memory-"));
const data: ServedMemory = {
  gpu: join(directory, "gpu.sock"),
  bridge: join(directory, "bridge.sock"),
  memorySize: MEMORY,
};
let server: RunningServer | undefined;

before(async () => {
  server = await startServer({ module: new URL("../../test/virtual/served_memory.js", import.meta.url), data });
});
after(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true });
});

/** A client of the bridge, with memory decoding on. */
function bridgeClient(): VfioUserClient {
  const client = new VfioUserClient(data.bridge);
  client.write(CONFIG, COMMAND, Uint8Array.of(2, 0));
  return client;
}

/** A piece of a region, mapped from the descriptor that came with its info. */
function map(client: VfioUserClient, region: number, length = 4096): Mapping {
  const { info, fd } = client.regionInfo(region);
  assert.ok(fd, `region ${region} comes with a descriptor`);
  const mapping = new Mapping(fd, Number(info.offset), length, "read-write");
  fd.close();
  return mapping;
}

test("the RAM region is described as by the kernel, with one sparse area, and a descriptor each time", () => {
  const client = new VfioUserClient(data.gpu);
  for (let turn = 0; turn < 2; turn++) {
    const { info, fd } = client.regionInfo(EXTRA);
    assert.ok(fd);
    assert.equal(fd.stat().size, BigInt(MEMORY));
    fd.close();
    const { size, flags, capabilities } = info;
    assert.deepEqual([size, flags], [BigInt(WINDOW), ALL_FLAGS]);
    assert.deepEqual(capabilities, [
      { kind: "sparse-mmap", areas: [{ offset: 0n, size: BigInt(MEMORY) }] },
      { kind: "type", type: 0x800010de, subtype: 1 },
      { kind: "nvlink2-ssatgt", tgt: 0x3e000000000n },
    ]);
  }
  client.close();
});

test("messages beyond the memory are EIO, beyond the window EINVAL", () => {
  const client = new VfioUserClient(data.gpu);
  client.write(EXTRA, MEMORY - 4, Uint8Array.of(1, 2, 3, 4));
  assert.deepEqual([...client.read(EXTRA, MEMORY - 2, 2)], [3, 4]);
  for (const offset of [MEMORY - 2, MEMORY, WINDOW - 4, WINDOW - 2]) {
    assert.throws(() => client.read(EXTRA, offset, 4), { code: "EIO" }, `${offset}`);
    assert.throws(() => client.write(EXTRA, offset, new Uint8Array(4)), { code: "EIO" }, `${offset}`);
  }
  for (const offset of [WINDOW, 2 ** 52]) {
    assert.throws(() => client.read(EXTRA, offset, 4), { code: "EINVAL" }, `${offset}`);
  }
  client.close();
});

test("accesses that run over the ATSD page are cut there, and the reply says so", () => {
  const client = new VfioUserClient(data.bridge);
  assert.equal(client.write(EXTRA, 4094, Uint8Array.of(1, 2, 3, 4)), 2);
  assert.deepEqual([...client.read(EXTRA, 4093, 8)], [0, 1, 2]);
  assert.throws(() => client.read(EXTRA, 4096, 1), { code: "EINVAL" });
  const { info, fd } = client.regionInfo(EXTRA);
  fd?.close();
  assert.deepEqual([info.size, info.flags], [4096n, ALL_FLAGS]);
  assert.deepEqual(
    info.capabilities.map(({ kind }) => kind),
    ["type", "nvlink2-ssatgt", "nvlink2-lnkspd"],
  );
  client.close();
});

test("what one client of an owner writes by BAR4, the other finds by region 9 and BAR1, and the reverse", () => {
  const gpu = new VfioUserClient(data.gpu);
  const bridge = bridgeClient();
  const views = [map(bridge, BAR4), map(gpu, EXTRA), map(gpu, BAR1)];
  for (const [at, view] of views.entries()) view.bytes[at] = at + 1;
  for (const view of views) assert.deepEqual([...view.bytes.subarray(0, 4)], [1, 2, 3, 0]);
  assert.deepEqual([...bridge.read(BAR4, 0, 4)], [1, 2, 3, 0]);
  bridge.reset();
  assert.deepEqual([...gpu.read(EXTRA, 0, 4)], [1, 2, 3, 0], "a reset of the bridge leaves the memory alone");
  for (const view of views) view.unmap();
  for (const client of [bridge, gpu]) client.close();
});

test("the next owner finds empty memory, and what the last one still maps shows nothing of it", () => {
  let gpu = new VfioUserClient(data.gpu);
  let bridge = bridgeClient();
  const old = [map(bridge, BAR4), map(gpu, EXTRA)];
  gpu.write(EXTRA, 0, Uint8Array.of(1));
  for (const client of [gpu, bridge]) client.close();
  gpu = new VfioUserClient(data.gpu);
  bridge = bridgeClient();
  assert.deepEqual([...gpu.read(EXTRA, 0, 1)], [0]);
  bridge.write(BAR4, 1, Uint8Array.of(5));
  for (const view of old) {
    assert.equal(view.bytes[1], 0);
    view.bytes[2] = 6;
  }
  const now = map(bridge, BAR4);
  assert.deepEqual([...now.bytes.subarray(0, 3)], [0, 5, 0]);
  for (const view of [...old, now]) view.unmap();
  for (const client of [gpu, bridge]) client.close();
});

test("a GPU takes no new client while one of its last owner stays at the bridge", () => {
  const gpu = new VfioUserClient(data.gpu);
  const bridge = bridgeClient();
  gpu.write(EXTRA, 0, Uint8Array.of(1));
  gpu.close();
  assert.throws(() => new VfioUserClient(data.gpu).deviceInfo(), { code: "EBUSY" });
  assert.deepEqual([...bridge.read(BAR4, 0, 1)], [1]);
  bridge.close();
  const next = new VfioUserClient(data.gpu);
  assert.deepEqual([...next.read(EXTRA, 0, 1)], [0]);
  next.close();
});
