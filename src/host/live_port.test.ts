import assert from "node:assert/strict";
import { readFileSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Entry, madeUpConfig, madeUpFunction, madeUpHost } from "../../test/made_up_host.js";
import { HostError } from "./error.js";
import { LivePort } from "./live_port.js";

const GPU = "0000:1a:00.0";
const FOLDER = `sys/bus/pci/devices/${GPU}`;
const SIZE = 0x2000;

/** A GPU whose BAR0 is a file of 8 KiB, each word of which is its own offset. */
function host(t: TestContext, files: Record<string, Entry> = {}): string {
  const words = Uint32Array.from({ length: SIZE / 4 }, (_, index) => 4 * index);
  const none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
  return madeUpHost(
    t,
    madeUpFunction("pci0000:00", GPU, {
      config: madeUpConfig({ size: 4096, ids: [0x10de, 0x1db1], classCode: 0x030200, bar0: 0x90000000 }),
      resource: `0x0000000090000000 0x0000000090001fff 0x0000000000040200\n${none.repeat(6)}`,
      resource0: new Uint8Array(words.buffer),
      ...files,
    }),
  );
}

const refuses = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof HostError && error.code === code && message.test(error.message);

test("registers and config space are read and written", (t) => {
  const root = host(t);
  const port = new LivePort(GPU, { write: true }, root);
  t.after(() => port.close());
  assert.equal(port.readBar0(0x1ffc), 0x1ffc);
  port.writeBar0(0x148, 0xbadf1234);
  assert.equal(port.readBar0(0x148), 0xbadf1234);
  assert.equal(readFileSync(join(root, FOLDER, "resource0")).readUInt32LE(0x148), 0xbadf1234);
  assert.deepEqual(
    [port.readConfig(0, 4), port.readConfig(2, 2), port.readConfig(0x0b, 1)],
    [0x1db110de, 0x1db1, 0x03],
  );
  port.writeConfig(4, 2, 0x0406);
  assert.equal(port.readConfig(4, 2), 0x0406);
});

test("a register that BAR0 does not have is refused", (t) => {
  const port = new LivePort(GPU, { write: true }, host(t));
  t.after(() => port.close());
  for (const offset of [-4, 2, SIZE, 0.5, Number.NaN, 2 ** 53]) {
    assert.throws(() => port.readBar0(offset), refuses("EREGISTERS", /no register/), String(offset));
  }
});

test("a mapping that is taken away is an error, and does not end the process", (t) => {
  const root = host(t);
  const port = new LivePort(GPU, { write: false }, root);
  t.after(() => port.close());
  assert.equal(port.readBar0(0x1000), 0x1000);
  truncateSync(join(root, FOLDER, "resource0"), 0);
  assert.throws(() => port.readBar0(0x1000), refuses("EREGISTERS", /any more/));
});

test("whoever may only read writes nothing to registers, and to config space only where nobody drives", (t) => {
  const free = new LivePort(GPU, { write: false }, host(t));
  assert.throws(() => free.writeBar0(0, 1), refuses("EREGISTERS", /read only/));
  free.writeConfig(4, 2, 0x0402);
  const driver = { driver: { link: "../../../bus/pci/drivers/nvidia" } };
  const driven = new LivePort(GPU, { write: false }, host(t, driver));
  assert.throws(() => driven.writeConfig(4, 2, 0x0402), refuses("EREGISTERS", /only nvidia/));
  for (const port of [free, driven]) port.close();
});

test("a function that is suspended is said to be, with what wakes it", (t) => {
  const ones = new Uint8Array(SIZE).fill(0xff);
  const port = new LivePort(GPU, { write: false }, host(t, { resource0: ones, power_state: "D3hot\n" }));
  t.after(() => port.close());
  assert.throws(() => port.readBar0(0), refuses("EREGISTERS", /suspended \(D3hot\).*power\/control/));
});

test("all ones of a function that has power are all ones", (t) => {
  const ones = new Uint8Array(SIZE).fill(0xff);
  const port = new LivePort(GPU, { write: false }, host(t, { resource0: ones, power_state: "D0\n" }));
  t.after(() => port.close());
  assert.equal(port.readBar0(0), 0xffffffff);
});

test("a function that is gone, and one without a BAR0, are said to be", (t) => {
  const root = host(t);
  rmSync(join(root, FOLDER));
  const gone = new LivePort(GPU, { write: false }, root);
  assert.throws(() => gone.readBar0(0), refuses("EGONE", /is gone/));
  assert.throws(() => gone.readConfig(0, 4), refuses("EGONE", /is gone/));
  const bare = new LivePort(GPU, { write: false }, host(t, { resource: "" }));
  assert.throws(() => bare.readBar0(0), refuses("EREGISTERS", /no BAR0/));
});

test("config space that ends where only root reads on is said to", (t) => {
  const port = new LivePort(GPU, { write: false }, host(t, { config: new Uint8Array(64) }));
  t.after(() => port.close());
  assert.throws(() => port.readConfig(0x60, 4), refuses("EREGISTERS", /run as root/));
});
