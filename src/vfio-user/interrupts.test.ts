import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { refuses, TestServer } from "../../test/vfio_user/test_server.js";
import { createEventfd, createMemfd, drainEventfd, type Fd, POLLIN, pollOne, signalEventfd } from "../os/index.js";
import type { IrqSet } from "../vfio/index.js";

const server = new TestServer();

function trigger(index: number, count: number, data: IrqSet["data"]["kind"] = "eventfd"): IrqSet {
  return { index, start: 0, count, action: "trigger", data: { kind: data } as IrqSet["data"] };
}

test("interrupts reach eventfds of all kinds, in chunks of what the server takes", async () => {
  const client = server.connect();
  const fds = Array.from({ length: 64 }, createEventfd);
  client.setIrqs(trigger(2, 64), fds);
  assert.equal(await server.drive({ do: "trigger", index: 2, subindex: 63 }), true);
  assert.deepEqual(fds.map(drainEventfd).indexOf(1n), 63);
  client.setIrqs({ ...trigger(2, 2), start: 62 });
  assert.equal(await server.drive({ do: "trigger", index: 2, subindex: 63 }), false);
  assert.equal(await server.drive({ do: "trigger", index: 2, subindex: 61 }), true);
  drainEventfd(fds[61] as Fd);
  client.setIrqs({ ...trigger(2, 3), data: { kind: "bool", values: [true, false, true] } });
  client.setIrqs(trigger(2, 1, "none"));
  assert.deepEqual(fds.slice(0, 4).map(drainEventfd), [2n, 0n, 1n, 0n]);
  client.setIrqs(trigger(2, 0, "none"));
  assert.equal(await server.drive({ do: "trigger", index: 2, subindex: 0 }), false);
  for (const fd of fds) fd.close();
  client.close();
});

test("a masked interrupt waits for its unmasking, and mask and unmask have eventfds of their own", async () => {
  const client = server.connect();
  const [fd, mask, unmask] = [createEventfd(), createEventfd(), createEventfd()];
  const one = (action: IrqSet["action"], kind: IrqSet["data"]["kind"]): IrqSet => ({ ...trigger(1, 1, kind), action });
  client.setIrqs(one("trigger", "eventfd"), [fd]);
  client.setIrqs(one("mask", "eventfd"), [mask]);
  client.setIrqs(one("unmask", "eventfd"), [unmask]);
  client.setIrqs(one("mask", "none"));
  assert.equal(drainEventfd(mask), 1n);
  assert.equal(await server.drive({ do: "trigger", index: 1, subindex: 0 }), false);
  assert.equal(drainEventfd(fd), 0n);
  client.setIrqs({ ...one("unmask", "none"), data: { kind: "bool", values: [false] } });
  assert.equal(drainEventfd(fd), 0n);
  client.setIrqs({ ...one("unmask", "none"), data: { kind: "bool", values: [true] } });
  assert.equal(drainEventfd(unmask), 0n, "it is the client's to signal");
  assert.equal(drainEventfd(fd), 1n);
  for (const each of [fd, mask, unmask]) each.close();
  client.close();
});

test("INTx masks itself, and comes again after each unmask while it is asserted", async () => {
  const client = server.connect();
  const [fd, resample] = [createEventfd(), createEventfd()];
  client.setIrqs(trigger(0, 1), [fd]);
  await server.drive({ do: "intx", asserted: true });
  await server.drive({ do: "intx", asserted: true });
  assert.equal(drainEventfd(fd), 1n);
  const unmask: IrqSet = { ...trigger(0, 1, "none"), action: "unmask" };
  client.setIrqs(unmask);
  assert.equal(drainEventfd(fd), 1n);
  await server.drive({ do: "intx", asserted: false });
  client.setIrqs(unmask);
  assert.equal(drainEventfd(fd), 0n);
  client.setIrqs({ ...trigger(0, 1), action: "unmask" }, [resample]);
  await server.drive({ do: "intx", asserted: true });
  assert.equal(drainEventfd(fd), 1n);
  signalEventfd(resample);
  assert.equal(pollOne(fd, POLLIN, 20_000), POLLIN, "the client's signal unmasks, as with the kernel");
  await sleep(50);
  assert.equal(drainEventfd(fd), 1n, "once, although the line stays asserted");
  client.setIrqs(unmask);
  assert.equal(pollOne(fd, POLLIN, 20_000), POLLIN);
  assert.equal(drainEventfd(fd), 1n, "and so does the command");
  for (const each of [fd, resample]) each.close();
  client.close();
});

test("interrupt settings that make no sense are refused, and their descriptors closed", () => {
  const client = server.connect();
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
  const client = server.connect();
  const { info, fds } = client.regionIoFds(0);
  assert.deepEqual(info.subRegions, [
    { offset: 8n, size: 4n, fdIndex: 0, type: 0, flags: 0, data: 0n },
    { offset: 16n, size: 8n, fdIndex: 1, type: 0, flags: 1, data: 5n },
  ]);
  for (const fd of [...fds].reverse()) signalEventfd(fd);
  for (const fd of fds) fd.close();
  const rung: string[] = [];
  for (let attempt = 0; attempt < 4000 && rung.length < 2; attempt++) {
    const log = (await server.drive({ do: "log" })) as string[];
    rung.push(...log.filter((line) => line.startsWith("ioevent")));
    await sleep(5);
  }
  assert.deepEqual(rung.sort(), ["ioevent 0 16 5", "ioevent 0 8 any"]);
  assert.deepEqual(client.regionIoFds(1), {
    info: { argsz: 16, flags: 0, index: 1, count: 0, subRegions: [] },
    fds: [],
  });
  client.close();
});
