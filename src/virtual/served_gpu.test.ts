import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { ServedGpus } from "../../test/virtual/served_gpus.js";
import { LINK_DISABLE, NV_PMC_BOOT_0 } from "../machine/part.js";
import { createEventfd, drainEventfd, type Fd, Mapping, POLLIN, pollOne } from "../os/index.js";
import type { IrqSet } from "../vfio/index.js";
import { type RunningServer, startServer, VfioUserClient } from "../vfio-user/index.js";
import { NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER } from "./interrupt_registers.js";
import { BAR0_WINDOW_START, NV_PBUS_BAR0_WINDOW } from "./memory_window.js";
import { PEER_LINK, PEER_WINDOW_START } from "./peer_window.js";
import { NV_PTIMER_ALARM_0, NV_PTIMER_INTR_0, NV_PTIMER_INTR_EN_0, NV_PTIMER_TIME_0 } from "./timer_registers.js";

const GPU0 = "0004:04:00.0";
const GPU2 = "0004:06:00.0";
const MEMORY = 2 ** 24;
const CONFIG = 7;
const COMMAND = 0x04;
const MSI_CONTROL = 0x6a;
const INTX = 0;
const MSI = 1;

const directory = mkdtempSync(join(tmpdir(), "linkfence-gpus-"));
const sockets: Record<string, string> = { [GPU0]: join(directory, "gpu0.sock"), [GPU2]: join(directory, "gpu2.sock") };
let server: RunningServer | undefined;

before(async () => {
  const data: ServedGpus = { sockets, memorySize: MEMORY };
  server = await startServer({ module: new URL("../../test/virtual/served_gpus.js", import.meta.url), data });
});
after(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true });
});

/** Runs a test with a client of each GPU named. */
function withClients(addresses: string[], use: (...clients: VfioUserClient[]) => void): void {
  const clients = addresses.map((address) => new VfioUserClient(sockets[address] ?? ""));
  try {
    use(...clients);
  } finally {
    for (const client of clients) client.close();
  }
}

function read32(client: VfioUserClient, offset: number, region = 0): number {
  const data = client.read(region, offset, 4);
  return new DataView(data.buffer, data.byteOffset).getUint32(0, true);
}

function write32(client: VfioUserClient, offset: number, value: number, region = 0): void {
  client.write(region, offset, new Uint8Array(Uint32Array.of(value).buffer));
}

function setTrigger(client: VfioUserClient, index: number, fd: Fd): void {
  const set: IrqSet = { index, start: 0, count: 1, action: "trigger", data: { kind: "eventfd" } };
  client.setIrqs(set, [fd]);
}

function setAlarm(client: VfioUserClient, milliseconds: number): void {
  write32(client, NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER);
  write32(client, NV_PTIMER_INTR_EN_0, 1);
  write32(client, NV_PTIMER_ALARM_0, (read32(client, NV_PTIMER_TIME_0) + milliseconds * 1e6) >>> 0);
}

test("a client gets BAR1's memory with the region and shares it with the window in BAR0", () => {
  withClients([GPU0], (client) => {
    const { numRegions, numIrqs } = client.deviceInfo();
    assert.ok(numRegions >= 9);
    assert.equal(numIrqs, 5);
    assert.equal(read32(client, NV_PMC_BOOT_0), 0x140000a1);
    const { info, fd } = client.regionInfo(1);
    assert.ok(fd);
    assert.equal(info.size, BigInt(MEMORY));
    const mapped = new Mapping(fd, 0, MEMORY, "read-write");
    write32(client, NV_PBUS_BAR0_WINDOW, 5);
    write32(client, BAR0_WINDOW_START + 8, 0x04030201);
    assert.deepEqual([...mapped.bytes.subarray(0x50008, 0x5000c)], [1, 2, 3, 4]);
    assert.equal(client.read(0, 0x600000, 2 ** 20).length, 2 ** 20);
    mapped.unmap();
    fd.close();
  });
  withClients([GPU0], (client) => assert.equal(read32(client, 0x50008, 1), 0, "and the next one finds it empty"));
});

test("the alarm signals the MSI's eventfd once, and again after it was acknowledged and set anew", () => {
  withClients([GPU0], (client) => {
    const fd = createEventfd();
    setTrigger(client, MSI, fd);
    client.write(CONFIG, MSI_CONTROL, Uint8Array.of(1, 0));
    for (let turn = 0; turn < 2; turn++) {
      setAlarm(client, 50);
      assert.notEqual(pollOne(fd, POLLIN, 1000), 0);
      assert.equal(drainEventfd(fd), 1n);
      assert.equal(pollOne(fd, POLLIN, 20), 0);
      write32(client, NV_PTIMER_INTR_0, 1);
    }
    client.write(CONFIG, MSI_CONTROL, Uint8Array.of(0, 0));
    fd.close();
  });
});

test("without MSI the alarm comes by INTx, again after each unmask until it is acknowledged", () => {
  withClients([GPU0], (client) => {
    const fd = createEventfd();
    setTrigger(client, INTX, fd);
    const unmask = () => client.setIrqs({ index: INTX, start: 0, count: 1, action: "unmask", data: { kind: "none" } });
    setAlarm(client, 50);
    assert.notEqual(pollOne(fd, POLLIN, 1000), 0);
    assert.equal(drainEventfd(fd), 1n);
    assert.equal((client.read(CONFIG, COMMAND + 2, 1)[0] ?? 0) & 8, 8);
    unmask();
    assert.equal(drainEventfd(fd), 1n);
    write32(client, NV_PTIMER_INTR_0, 1);
    unmask();
    assert.equal(drainEventfd(fd), 0n);
    assert.equal((client.read(CONFIG, COMMAND + 2, 1)[0] ?? 0) & 8, 0);
    fd.close();
  });
});

test("an alarm that a reset cancelled does not come, and while one GPU is in reset the other is served", () => {
  withClients([GPU0, GPU2], (client, other) => {
    const fd = createEventfd();
    setTrigger(client, INTX, fd);
    setAlarm(client, 80);
    let others = Number.POSITIVE_INFINITY;
    // A busy machine delays anybody now and then, so one of a few attempts has to do.
    for (let attempt = 0; attempt < 20 && others >= 100; attempt++) {
      const began = performance.now();
      client.post(13, new Uint8Array());
      assert.equal(read32(other, NV_PMC_BOOT_0), 0x140000a1);
      others = performance.now() - began;
      assert.equal(read32(client, 0, CONFIG), 0x1db110de);
      assert.ok(performance.now() - began >= 100, "the one in reset waits");
    }
    assert.ok(others < 100, "the other does not");
    assert.equal(read32(client, NV_PMC_BOOT_0), 0xffffffff, "and lost its addresses");
    assert.equal(drainEventfd(fd), 0n);
    fd.close();
    for (const [at, value] of [
      [0x10, 0x5a000000],
      [COMMAND, 6],
    ] as const)
      write32(client, at, value, CONFIG);
  });
});

test("bytes cross from one client's GPU to another's, until one of them cuts the link", () => {
  withClients([GPU0, GPU2], (client, other) => {
    for (const each of [client, other]) {
      for (const [at, value] of [
        [0x12004c, 4],
        [0x122204, 2],
        [0x200, 0x42000120],
      ] as const)
        write32(each, at, value);
    }
    write32(client, PEER_LINK, 2);
    write32(client, PEER_WINDOW_START, 0xcafe);
    assert.equal(read32(other, 0, 1), 0xcafe);
    write32(other, LINK_DISABLE, 1 << (16 + 1));
    write32(client, PEER_WINDOW_START, 0xbeef);
    assert.equal(read32(client, PEER_WINDOW_START) >>> 16, 0xbadf);
    assert.equal(read32(other, 0, 1), 0xcafe);
  });
});
