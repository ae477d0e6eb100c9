import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message, RawClient } from "../../test/vfio_user/raw_client.js";
import { TestDevice } from "../../test/vfio_user/test_device.js";
import { createEventfd, duplicateFd, POLLIN, signalEventfd } from "../os/index.js";
import { Command, encodeRegionAccess, encodeVersion, type ServerEvent, VfioUserServer } from "./index.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-own-"));
const version = encodeVersion({ major: 0, minor: 0, capabilities: {} });
const read = message(Command.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 }));

after(() => rmSync(directory, { recursive: true }));

/** Connects and negotiates with a server on this thread. */
function connect(server: VfioUserServer, path: string): RawClient {
  const client = new RawClient(path, false);
  client.send(Command.VERSION, version);
  for (let turn = 0; turn < 4; turn++) server.step(10);
  assert.equal(client.receive()?.command, Command.VERSION);
  return client;
}

test("a server on one's own thread serves step by step, and devices come and go", () => {
  // What the os room keeps for its calls is there from the first on.
  const idle = openFiles();
  const events: ServerEvent[] = [];
  const server = new VfioUserServer([], { onEvent: (event) => events.push(event) });
  const devices = [new TestDevice(), new TestDevice()] as const;
  const paths = [join(directory, "first"), join(directory, "second")] as const;
  server.add(devices[0], paths[0]);
  server.add(devices[1], paths[1]);
  const clients = paths.map((path) => connect(server, path));
  server.remove(devices[0]);
  assert.equal(existsSync(paths[0]), false);
  assert.equal(clients[0]?.receive(), undefined);
  clients[1]?.sendBytes(read);
  server.step(10);
  assert.equal(clients[1]?.receive()?.payload.length, 20);
  server.close();
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ["connect", "connect", "disconnect", "disconnect"],
  );
  for (const client of clients) client.close();
  for (const device of devices) device.dispose();
  assert.deepEqual(openFiles(), idle);
});

test("with spin on, a server answers, sleeps when nobody asks, and still looks after the others", () => {
  const devices = [new TestDevice(), new TestDevice()] as const;
  const paths = [join(directory, "busy"), join(directory, "other")] as const;
  const server = new VfioUserServer(
    [
      { socket: paths[0], device: devices[0] },
      { socket: paths[1], device: devices[1] },
    ],
    { spin: 2000 },
  );
  const [busy, other] = [connect(server, paths[0]), connect(server, paths[1])];
  for (let round = 0; round < 100; round++) {
    busy.sendBytes(read);
    if (round === 50) other.sendBytes(read);
    server.step(10);
    assert.equal(busy.receive()?.payload.length, 20);
  }
  assert.equal(other.receive(0)?.payload.length, 20);
  const began = performance.now();
  server.step(30);
  server.step(30);
  assert.ok(performance.now() - began >= 29, "it waits once it has spun in vain");
  server.close();
  busy.close();
  other.close();
  for (const device of devices) device.dispose();
});

test("run ends when the stop eventfd is signalled, and a device's own descriptors can be watched", () => {
  const server = new VfioUserServer([]);
  const event = createEventfd();
  let seen = 0;
  server.poller.add(event, POLLIN, {
    onReady: () => {
      seen++;
      const stop = duplicateFd(server.stopEventfd);
      signalEventfd(stop);
      stop.close();
    },
  });
  signalEventfd(event);
  server.run();
  assert.ok(seen > 0);
  server.close();
  event.close();
});
