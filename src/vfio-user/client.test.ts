import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message } from "../../test/vfio_user/raw_client.js";
import { OsError } from "../os/index.js";
import { encodeRegionInfo, VfioError } from "../vfio/index.js";
import {
  type ClientOptions,
  Command,
  encodeDmaAccess,
  encodeRegionAccess,
  encodeVersion,
  FLAG_ERROR,
  FLAG_TYPE_REPLY,
  startServer,
  VfioUserClient,
} from "./index.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-client-"));
const workers: Worker[] = [];

after(async () => {
  await Promise.all(workers.map((worker) => worker.terminate()));
  rmSync(directory, { recursive: true });
});

/** A server that answers each message with the next of its replies, whatever was asked, and then hangs up. */
const SCRIPTED = `
  const { createServer } = require("node:net");
  const { parentPort, workerData } = require("node:worker_threads");
  createServer((socket) => {
    let next = 0;
    socket.on("error", () => {});
    socket.on("data", (data) => {
      parentPort.postMessage(data.toString("hex"));
      const reply = workerData.replies[next++];
      if (reply === undefined) return socket.destroy();
      const bytes = Buffer.from(reply);
      if (bytes.length >= 2 && workerData.echo) bytes.writeUInt16LE(data.readUInt16LE(0), 0);
      socket.write(bytes);
    });
  }).listen(workerData.path, () => parentPort.postMessage("ready"));
`;

async function serve(replies: Uint8Array[], echo = true): Promise<{ path: string; worker: Worker }> {
  const path = join(directory, String(workers.length));
  const worker = new Worker(SCRIPTED, { eval: true, workerData: { path, replies, echo } });
  workers.push(worker);
  await once(worker, "message");
  return { path, worker };
}

/** Until everything is closed, at the server's end too, which is in this process and takes its time. */
async function settled(idle: ReturnType<typeof openFiles>): Promise<void> {
  for (let attempt = 0; attempt < 4000 && openFiles().descriptors !== idle.descriptors; attempt++) await sleep(5);
  assert.deepEqual(openFiles(), idle);
}

function reply(command: number, payload: Uint8Array, flags = FLAG_TYPE_REPLY): Uint8Array {
  return message(command, payload, { flags });
}

const VERSION = reply(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: { maxMsgFds: 8 } }));

/** Connects to a server with these replies after VERSION's, does something, and checks how it fails. */
async function fails(code: string, replies: Uint8Array[], act: (client: VfioUserClient) => void): Promise<void> {
  const { path } = await serve([VERSION, ...replies]);
  const idle = openFiles();
  const client = new VfioUserClient(path, { timeout: code === "ETIMEDOUT" ? 1000 : 20_000 });
  assert.throws(
    () => act(client),
    (error: unknown) => (error instanceof VfioError || error instanceof OsError) && error.code === code,
  );
  client.close();
  await settled(idle);
}

async function failsToConnect(code: string, replies: Uint8Array[], options: ClientOptions = {}): Promise<void> {
  const { path } = await serve(replies);
  const idle = openFiles();
  assert.throws(
    () => new VfioUserClient(path, { timeout: 20_000, ...options }),
    (error: unknown) => (error instanceof VfioError || error instanceof OsError) && error.code === code,
  );
  await settled(idle);
}

test("a server that answers VERSION wrongly is not talked to", async () => {
  await failsToConnect("EINVAL", [reply(Command.VERSION, new Uint8Array(3))]);
  await failsToConnect("EINVAL", [reply(Command.VERSION, Uint8Array.from([0, 0, 0, 0, 123, 0]))]);
  await failsToConnect("EPROTO", [reply(Command.VERSION, encodeVersion({ major: 1, minor: 0, capabilities: {} }))]);
  await failsToConnect("EPROTO", [reply(Command.DMA_MAP, new Uint8Array(0))]);
  await failsToConnect("ECANCELED", []);
  const twin = { major: 0, minor: 0, capabilities: { twinSocket: { supported: true, fdIndex: 3 } } };
  await failsToConnect("EPROTO", [reply(Command.VERSION, encodeVersion(twin))]);
});

test("an error reply is an error with the command's name and the server's errno", async () => {
  const refused = message(Command.DEVICE_RESET, new Uint8Array(0), { flags: FLAG_TYPE_REPLY | FLAG_ERROR, error: 95 });
  const { path } = await serve([VERSION, refused]);
  const client = new VfioUserClient(path);
  assert.throws(() => client.reset(), /DEVICE_RESET: E(NOTSUP|OPNOTSUPP)/);
  client.close();
});

test("replies that are short, long, about something else or never come are errors", async () => {
  const access = (count: number) => encodeRegionAccess({ offset: 0n, region: 0, count });
  const read = (client: VfioUserClient) => client.read(0, 0, 4);
  await fails("EPROTO", [reply(Command.REGION_READ, access(4))], read);
  await fails("EPROTO", [reply(Command.REGION_READ, new Uint8Array([...access(8), ...new Uint8Array(8)]))], read);
  await fails("EPROTO", [reply(Command.REGION_READ, new Uint8Array([...access(2), ...new Uint8Array(4)]))], read);
  await fails("EINVAL", [reply(Command.REGION_READ, new Uint8Array(3))], read);
  await fails("EPROTO", [reply(Command.REGION_WRITE, access(5))], (client) => client.write(0, 0, new Uint8Array(4)));
  await fails("EPROTO", [reply(Command.REGION_WRITE, access(4))], read);
  await fails("ECANCELED", [], read);
  await fails("ETIMEDOUT", [new Uint8Array(0)], read);
  await fails("ETIMEDOUT", [Uint8Array.of(1, 2, 3)], read);
  await fails("EMSGSIZE", [message(Command.REGION_READ, new Uint8Array(0), { size: 0xffffffff })], read);
  await fails("EINVAL", [message(Command.REGION_READ, new Uint8Array(0), { size: 3 })], read);
  await fails("EPROTO", [reply(Command.REGION_WRITE_MULTI, new Uint8Array(8))], (client) =>
    client.writeMulti([{ offset: 0n, region: 0, data: Uint8Array.of(1) }]),
  );
});

test("a read gives what came of it, and a write says how much was done, when the server cuts them off", async () => {
  const access = (count: number) => encodeRegionAccess({ offset: 0n, region: 0, count });
  const ended = message(Command.REGION_READ, new Uint8Array(0), { flags: FLAG_TYPE_REPLY | FLAG_ERROR, error: 22 });
  const small = { major: 0, minor: 0, capabilities: { maxDataXferSize: 4 } };
  const { path } = await serve([
    reply(Command.VERSION, encodeVersion(small)),
    reply(Command.REGION_READ, Uint8Array.of(...access(4), 1, 2, 3, 4)),
    reply(Command.REGION_READ, Uint8Array.of(...access(1), 5), FLAG_TYPE_REPLY),
    reply(Command.REGION_READ, Uint8Array.of(...access(4), 6, 7, 8, 9)),
    ended,
    ended,
    reply(Command.REGION_READ, access(0)),
    reply(Command.REGION_WRITE, access(4)),
    reply(Command.REGION_WRITE, access(3)),
  ]);
  const client = new VfioUserClient(path, { timeout: 20_000 });
  assert.deepEqual(client.read(0, 0, 12), Uint8Array.of(1, 2, 3, 4, 5));
  assert.deepEqual(client.read(0, 0, 12), Uint8Array.of(6, 7, 8, 9), "the region ends between two messages");
  assert.throws(() => client.read(0, 0, 12), /REGION_READ: EINVAL/);
  assert.deepEqual(client.read(0, 0, 12), new Uint8Array(0));
  assert.equal(client.write(0, 0, new Uint8Array(12)), 7);
  client.close();
});

test("region info that never fits, or whose capabilities are broken, is refused", async () => {
  const info = {
    argsz: 0,
    flags: 0,
    index: 0,
    size: 0n,
    offset: 0n,
    capabilities: [{ kind: "msix-mappable" as const }],
  };
  const growing = [100, 200, 300, 400].map((argsz) => {
    const bytes = encodeRegionInfo(info, 32);
    new DataView(bytes.buffer).setUint32(0, argsz, true);
    return reply(Command.DEVICE_GET_REGION_INFO, bytes);
  });
  const ask = (client: VfioUserClient) => client.regionInfo(0);
  await fails("EPROTO", growing, ask);
  const huge = encodeRegionInfo(info, 32);
  new DataView(huge.buffer).setUint32(0, 0xffffffff, true);
  await fails("EPROTO", [reply(Command.DEVICE_GET_REGION_INFO, huge)], ask);
  const looping = encodeRegionInfo(info);
  new DataView(looping.buffer).setUint32(36, 32, true);
  await fails("EINVAL", [reply(Command.DEVICE_GET_REGION_INFO, looping)], ask);
});

test("a reply that nobody waits for is passed over", async () => {
  const stale = message(Command.DEVICE_RESET, new Uint8Array(0), { id: 4711, flags: FLAG_TYPE_REPLY });
  const { path } = await serve(
    [
      new Uint8Array([...message(Command.VERSION, VERSION.subarray(16), { id: 0, flags: 1 }), ...stale]),
      message(Command.DEVICE_RESET, new Uint8Array(0), { id: 1, flags: 1 }),
    ],
    false,
  );
  const client = new VfioUserClient(path);
  client.reset();
  client.close();
});

test("the server's DMA requests are answered with an error when they are nonsense or no memory is shared", async () => {
  const request = (command: number, count: bigint) =>
    message(command, encodeDmaAccess({ address: 0n, count }), { id: 9 });
  for (const [asked, options, errno] of [
    [request(Command.DMA_READ, 4n), {}, "0e000000"],
    [request(Command.DMA_READ, 1n << 40n), { memory: { read() {}, write() {} } }, "16000000"],
    [request(Command.DMA_WRITE, 4n), { memory: { read() {}, write() {} } }, "16000000"],
    [request(Command.DEVICE_RESET, 4n), { memory: { read() {}, write() {} } }, "5f000000"],
  ] as const) {
    const { path, worker } = await serve([VERSION, asked]);
    const heard: string[] = [];
    worker.on("message", (data) => heard.push(String(data)));
    const client = new VfioUserClient(path, { timeout: 1000, ...options });
    // The scripted server answers this with its request, which the client answers while it waits in vain.
    assert.throws(() => client.reset());
    client.close();
    for (let attempt = 0; attempt < 4000 && heard.length < 3; attempt++) await sleep(5);
    assert.equal(heard[2]?.slice(16, 32), `21000000${errno}`, "an error reply with this errno");
  }
});

test("a server that sends requests without end keeps nobody longer than the timeout", async () => {
  const path = join(directory, String(workers.length));
  const flood = `
    const { createServer } = require("node:net");
    const { parentPort, workerData } = require("node:worker_threads");
    const requests = Buffer.concat(Array(2048).fill(Buffer.from(workerData.request)));
    createServer((socket) => {
      const more = () => { while (socket.write(requests)); };
      socket.on("error", () => {}).on("drain", more).resume();
      more();
    }).listen(workerData.path, () => parentPort.postMessage("ready"));`;
  const request = message(Command.DMA_READ, encodeDmaAccess({ address: 0n, count: 4n }), { id: 9 });
  const worker = new Worker(flood, { eval: true, workerData: { path, request } });
  workers.push(worker);
  await once(worker, "message");
  assert.throws(() => new VfioUserClient(path, { timeout: 200 }), { code: "ETIMEDOUT" });
});

for (const twin of [false, true]) {
  test(`a DMA_READ larger than a socket's buffer is answered ${twin ? "on the twin socket" : ""}`, async () => {
    const path = join(directory, `engine-${twin}`);
    const server = await startServer({
      module: new URL("../../examples/copy_engine.js", import.meta.url),
      data: [path],
    });
    const memory = { read: (_address: bigint, data: Uint8Array) => void data.fill(7), write() {} };
    const capabilities = twin ? { twinSocket: { supported: true } } : {};
    const client = new VfioUserClient(path, { memory, capabilities });
    client.dmaMap(0n, 1n << 20n);
    client.write(0, 0x10, Uint8Array.of(0, 0, 0x10, 0)); // LENGTH
    client.write(0, 0x14, Uint8Array.of(1, 0, 0, 0)); // COMMAND: guest to BAR2
    client.serve(300);
    assert.deepEqual(client.read(0, 0x1c, 4), Uint8Array.of(2, 0, 0, 0), "STATUS: done");
    assert.deepEqual(client.read(2, (1 << 20) - 4, 4), Uint8Array.of(7, 7, 7, 7));
    client.close();
    await server.stop();
  });
}
