import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, type TestContext, test } from "node:test";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { message, RawClient } from "../../test/vfio_user/raw_client.js";
import { OsError } from "../os/index.js";
import { type DeviceClient, pause, type Steps, type VfioDevice, VfioError } from "../vfio/index.js";
import {
  Command,
  encodeDmaMap,
  encodeRegionAccess,
  encodeVersion,
  FLAG_NO_REPLY,
  type ServerEvent,
  VfioUserServer,
} from "./index.js";

const VERSION = message(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }));
const READ = message(Command.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 }), { id: 2 });
const EIO = 5;
const EBUSY = 16;
const ENODEV = 19;

type Moment = "before" | "after";

/** Tells what happens to it, and waits before and after each client until a gate is opened. */
class GuardedDevice implements VfioDevice {
  readonly regions = [{ size: 4096, readable: true, writable: true }];
  readonly irqs = [];
  readonly calls: string[] = [];
  readonly isOpen = { before: true, after: true };
  readonly failures: Partial<Record<Moment | "open", unknown>> = {};
  client: DeviceClient | undefined;

  beforeOpen(): Steps {
    return this.#guard("before");
  }

  open(client: DeviceClient): void {
    this.calls.push("open");
    if (this.failures.open !== undefined) throw this.failures.open;
    this.client = client;
  }

  close(): void {
    this.calls.push("close");
  }

  afterClose(): Steps {
    return this.#guard("after");
  }

  read(): void {
    this.calls.push("read");
  }

  write(): void {}

  dmaUnmapped(): void {
    this.calls.push("unmapped");
  }

  *#guard(moment: Moment): Steps {
    this.calls.push(`${moment} begins`);
    let over = "cancelled";
    try {
      while (!this.isOpen[moment]) yield* pause(1);
      over = "ends";
      const failure = this.failures[moment];
      if (moment in this.failures) throw failure;
    } finally {
      this.calls.push(`${moment} ${over}`);
    }
  }
}

const LET_IN = ["before begins", "before ends", "open"];
const LEFT = ["close", "after begins", "after ends"];

const directory = mkdtempSync(join(tmpdir(), "linkfence-before-"));
const path = join(directory, "device.sock");
const otherPath = join(directory, "other.sock");
const events: ServerEvent[] = [];
const clients: RawClient[] = [];
let idle: ReturnType<typeof openFiles>;
let device: GuardedDevice;
let other: GuardedDevice;
let server: VfioUserServer;

beforeEach(() => {
  idle = openFiles();
  events.length = 0;
  device = new GuardedDevice();
  other = new GuardedDevice();
  const devices = [
    { socket: path, device },
    { socket: otherPath, device: other },
  ];
  server = new VfioUserServer(devices, { onEvent: (event) => events.push(event) });
});

afterEach(() => {
  server.close();
  for (const client of clients.splice(0)) client.close();
  assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked");
});

process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

/** Client and server share this thread, so that a client can vanish at any moment there is. */
function connect(socket = path): RawClient {
  const client = new RawClient(socket, false);
  clients.push(client);
  return client;
}

function run(turns = 8): void {
  for (let turn = 0; turn < turns; turn++) server.step(2);
}

/** A client that has been let in. */
function attached(socket = path): RawClient {
  const client = connect(socket);
  client.sendBytes(VERSION);
  run();
  assert.equal(client.receive(0)?.error, 0);
  return client;
}

/** Lets time pass in an instant. */
function skipTime(context: TestContext, milliseconds: number): void {
  const now = performance.now.bind(performance);
  context.mock.method(performance, "now", () => now() + milliseconds);
}

/** Whether nothing has come from the server, not even the end. */
function isSilent(client: RawClient): boolean {
  try {
    client.receive(0);
    return false;
  } catch {
    return true;
  }
}

/** The errors that the server's owner was told of. */
function reported(): string[] {
  return events.flatMap((event) => (event.kind === "error" ? [event.message] : []));
}

test("a client is let in when what comes before it is over, and is heard from then on, in order", () => {
  device.isOpen.before = false;
  const client = connect();
  client.sendBytes(VERSION);
  client.sendBytes(READ);
  run();
  assert.ok(isSilent(client));
  assert.deepEqual(device.calls, ["before begins"]);
  assert.deepEqual(events, [], "it is not yet there");
  device.isOpen.before = true;
  run();
  assert.deepEqual([client.receive(0)?.command, client.receive(0)?.id], [Command.VERSION, 2]);
  assert.deepEqual(device.calls, [...LET_IN, "read"]);
  client.close();
  run();
  assert.deepEqual(device.calls, [...LET_IN, "read", ...LEFT]);
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ["connect", "disconnect"],
  );
});

test("while a device is made ready a second client is told EBUSY, and other devices are served", () => {
  device.isOpen.before = false;
  const client = connect();
  client.sendBytes(VERSION);
  run();
  const second = connect();
  second.sendBytes(VERSION);
  const elsewhere = attached(otherPath);
  elsewhere.sendBytes(READ);
  run();
  assert.equal(second.receive(0)?.error, EBUSY);
  assert.equal(elsewhere.receive(0)?.error, 0);
  assert.ok(isSilent(client));
  assert.deepEqual(device.calls, ["before begins"]);
});

for (const [name, failure, errno] of [
  ["a VfioError", new VfioError("ENODEV", "the fence is open"), ENODEV],
  ["an OsError", new OsError("open", EBUSY), EBUSY],
  ["anything else", new TypeError("a bug"), EIO],
  ["undefined", undefined, EIO],
] as const) {
  test(`${name} thrown before a client is let in turns it away with that errno, and the next one may try`, () => {
    device.failures.before = failure;
    const client = connect();
    client.sendBytes(VERSION);
    client.sendBytes(READ);
    run();
    assert.equal(client.receive(0)?.error, errno);
    assert.equal(client.receive(0), undefined, "and the connection ends");
    assert.deepEqual(device.calls, ["before begins", "before ends"], "neither opened nor closed");
    delete device.failures.before;
    attached();
    assert.deepEqual(device.calls.slice(2), LET_IN);
  });
}

test("a client that wanted no reply is turned away without a word", () => {
  device.isOpen.before = false;
  device.failures.before = new VfioError("ENODEV", "the fence is open");
  const client = connect();
  client.sendBytes(
    message(Command.VERSION, encodeVersion({ major: 0, minor: 0, capabilities: {} }), { flags: FLAG_NO_REPLY }),
  );
  run();
  device.isOpen.before = true;
  run();
  assert.equal(client.receive(0), undefined);
});

test("a client whose proposal is nonsense does not have the device made ready", () => {
  for (const payload of [new Uint8Array(1), encodeVersion({ major: 7, minor: 0, capabilities: {} })]) {
    const client = connect();
    client.send(Command.VERSION, payload);
    run();
    assert.notEqual(client.receive(0)?.error, 0);
    assert.equal(client.receive(0), undefined);
  }
  assert.deepEqual(device.calls, []);
});

test("a client that the device does not open for is no client, so nothing comes after it", () => {
  device.failures.open = new VfioError("ENODEV", "gone");
  const client = connect();
  client.sendBytes(VERSION);
  run();
  assert.equal(client.receive(0)?.error, ENODEV);
  assert.deepEqual(device.calls, LET_IN);
});

test("what was begun for a client that vanished is finished, and begun anew for the next", () => {
  device.isOpen.before = false;
  const client = connect();
  client.sendBytes(VERSION);
  run();
  client.close();
  run();
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ["disconnect"],
  );
  const next = connect();
  next.sendBytes(VERSION);
  run();
  assert.deepEqual(device.calls, ["before begins"]);
  assert.ok(isSilent(next));
  device.isOpen.before = true;
  run();
  assert.equal(next.receive(0)?.error, 0);
  assert.deepEqual(device.calls, ["before begins", "before ends", ...LET_IN]);
});

test("a client that vanishes within its proposal has nothing begun, and right after it is a client that left", () => {
  for (let length = 1; length < VERSION.length; length += 7) {
    const client = connect();
    client.sendBytes(VERSION.subarray(0, length));
    if (length % 2 === 0) run(1);
    client.close();
    run(3);
  }
  assert.deepEqual(device.calls, []);
  const client = connect();
  client.sendBytes(VERSION);
  client.close();
  run();
  assert.deepEqual(device.calls, [...LET_IN, ...LEFT]);
});

test("clients that come and vanish at once, again and again, have everything finished that was begun", () => {
  for (let round = 0; round < 60; round++) {
    device.isOpen.before = round % 3 > 0;
    device.isOpen.after = round % 5 > 0;
    const client = connect();
    client.sendBytes(VERSION);
    run(round % 4);
    client.close();
    run(round % 3);
    device.isOpen.before = true;
    device.isOpen.after = true;
  }
  run(40);
  const count = (call: string) => device.calls.filter((each) => each === call).length;
  assert.equal(count("before begins"), count("before ends"));
  assert.equal(count("after begins"), count("after ends"));
  assert.equal(count("open"), count("close"));
  assert.equal(count("close"), count("after begins"));
  assert.ok(count("open") > 0 && count("before begins") > count("open"), device.calls.join());
  for (const [index, call] of device.calls.entries()) {
    if (call === "open") assert.equal(device.calls[index - 1], "before ends");
    if (call === "before begins") assert.notEqual(device.calls[index - 1], "close", "what comes after comes first");
  }
});

test("a failure before a client that has vanished is nobody's, and the next one is served", () => {
  device.isOpen.before = false;
  device.failures.before = new VfioError("EIO", "the fence is open");
  const client = connect();
  client.sendBytes(VERSION);
  run();
  client.close();
  run();
  device.isOpen.before = true;
  run();
  delete device.failures.before;
  attached();
});

test("nobody is let in before what comes after the last client is over, however it ended", () => {
  attached().close();
  device.isOpen.after = false;
  run();
  device.calls.length = 0;
  const next = connect();
  next.sendBytes(VERSION);
  run();
  const second = connect();
  second.sendBytes(VERSION);
  run();
  assert.equal(second.receive(0)?.error, EBUSY);
  assert.ok(isSilent(next));
  assert.deepEqual(device.calls, []);
  device.failures.after = new VfioError("EIO", "the memory cannot be cleared");
  device.isOpen.after = true;
  run();
  assert.equal(next.receive(0)?.error, 0);
  assert.deepEqual(device.calls, ["after ends", ...LET_IN]);
  assert.deepEqual(reported(), ["the memory cannot be cleared (EIO)"]);
});

test("a client that waits for its turn and vanishes has nothing begun for it", () => {
  attached().close();
  device.isOpen.after = false;
  run();
  const next = connect();
  next.sendBytes(VERSION);
  run();
  next.close();
  run();
  device.isOpen.after = true;
  device.calls.length = 0;
  run();
  assert.deepEqual(device.calls, ["after ends"]);
});

test("a client that comes while the device is busy has all its time to negotiate when it is not", (context) => {
  const client = attached();
  device.isOpen.after = false;
  client.close();
  run();
  const next = connect();
  run();
  skipTime(context, 6000);
  run();
  device.isOpen.after = true;
  run();
  next.sendBytes(VERSION);
  run();
  assert.equal(next.receive(0)?.error, 0);
});

test("a device that does not become ready in half a minute turns its client away, and its steps are cancelled", (context) => {
  device.isOpen.before = false;
  const client = connect();
  client.sendBytes(VERSION);
  run();
  skipTime(context, 31_000);
  run();
  assert.equal(client.receive(0)?.error, 110);
  assert.deepEqual(device.calls, ["before begins", "before cancelled"]);
});

for (const end of ["stops", "no longer has the device"]) {
  test(`a server that ${end} cancels what comes before a client`, () => {
    device.isOpen.before = false;
    const client = connect();
    client.sendBytes(VERSION);
    run();
    if (end === "stops") server.close();
    else server.remove(device);
    assert.deepEqual(device.calls, ["before begins", "before cancelled"]);
    assert.equal(client.receive(0), undefined);
  });

  test(`a server that ${end} cancels what comes after a client`, () => {
    device.isOpen.after = false;
    attached().close();
    run();
    if (end === "stops") server.close();
    else server.remove(device);
    assert.deepEqual(device.calls, [...LET_IN, "close", "after begins", "after cancelled"]);
  });

  test(`a server that ${end} while a client is attached lets it go, and begins nothing that it would not finish`, () => {
    const client = attached();
    const payload = encodeDmaMap({ argsz: 32, flags: 3, offset: 0n, address: 0n, size: 4096n });
    client.send(Command.DMA_MAP, payload);
    run();
    if (end === "stops") server.close();
    else server.remove(device);
    assert.deepEqual(device.calls, [...LET_IN, "unmapped", "close"]);
  });
}

test("a device that was removed and is served again serves, whatever it was busy with", () => {
  device.isOpen.before = false;
  connect().sendBytes(VERSION);
  run();
  server.remove(device);
  device.isOpen.before = true;
  server.add(device, path);
  attached();
});
