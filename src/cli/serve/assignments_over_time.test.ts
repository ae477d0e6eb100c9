import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SENT_AT } from "../../../test/serving/guest.js";
import { withServed } from "../../../test/serving/serve_machine.js";
import { parseAssignments } from "../../isolation/assignment.js";
import { builtinMachine } from "../../machine/builtin.js";
import { LINK_DISABLE } from "../../machine/part.js";
import { OsError } from "../../os/index.js";
import { Command, createMemfd, VfioUserClient } from "../../vfio-user/index.js";
import type { ServingStatus } from "./messages.js";

const sequoia = () => builtinMachine("sequoia");

/** Owner, mask and links that wait for a reset, by GPU. */
function fencesOf({ functions }: ServingStatus) {
  return functions.flatMap(({ kind, assignment, fence }) =>
    kind === "gpu" ? [[assignment, fence?.actual.disableMask, fence?.stillCut]] : [],
  );
}

test("a GPU comes and goes while its neighbours' clients, sockets and memory stay", async () => {
  await withServed(sequoia(), ["vm1=GPU0,GPU1"], async (served) => {
    const gpu0 = served.guest("GPU0");
    gpu0.setMemory(0, 42);
    const before = served.socket("GPU0");
    const added = await served.assign("vm1=GPU0,GPU1", "vm2=GPU2");
    assert.deepEqual(fencesOf(added).slice(0, 3), [
      ["vm1", 0x000c0000, []],
      ["vm1", 0x000c0000, []],
      ["vm2", 0x00170000, []],
    ]);
    const gpu2 = served.guest("GPU2");
    assert.equal(gpu2.linkIsUp(1), false);
    gpu2.close();
    const path = served.socket("GPU2");
    await served.assign("vm1=GPU0,GPU1");
    assert.equal(existsSync(path), false);
    assert.throws(() => served.socket("0006:00:02.0"), /not served/);
    assert.equal(served.socket("GPU0"), before);
    assert.equal(gpu0.memory(0), 42);
    assert.deepEqual([gpu0.disableMask, gpu0.linkIsUp(0)], [0x000c0000, true]);
  });
});

test("links that an owner gains come up with each GPU's next reset, and the status says that they wait", async () => {
  await withServed(sequoia(), ["vm1=GPU0", "vm2=GPU1"], async (served) => {
    const gpu0 = served.guest("GPU0");
    const together = await served.assign("vm1=GPU0,GPU1");
    assert.deepEqual(fencesOf(together).slice(0, 2), [
      ["vm1", 0x001d0000, [0, 4]],
      ["vm1", 0x000c0000, []],
    ]);
    assert.equal(gpu0.linkIsUp(0), false);
    gpu0.reset();
    assert.deepEqual([gpu0.disableMask, gpu0.linkIsUp(0)], [0x000c0000, true]);
    const gpu1 = served.guest("GPU1");
    gpu0.sendOver(0, 7);
    assert.equal(gpu1.memory(SENT_AT), 7);
  });
});

test("a GPU that an owner loses is cut from the others at once, without a reset of theirs, and begins empty", async () => {
  await withServed(sequoia(), ["vm1=GPU0,GPU1,GPU2"], async (served) => {
    const gpu0 = served.guest("GPU0");
    const gpu2 = served.guest("GPU2");
    gpu0.sendOver(2, 0x5ec2e7);
    assert.equal(gpu2.memory(SENT_AT), 0x5ec2e7);
    gpu2.close();
    // Until then events are on their way that this blocked thread has not heard.
    await served.status();
    const events = served.events.length;
    await served.assign("vm1=GPU0,GPU1", "vm2=GPU2");
    const resets = served.events
      .slice(events)
      .flatMap((each) => (each.kind === "fence" && each.event.step === "sbr" ? [each.event.gpu] : []));
    assert.ok(!resets.includes("GPU0"), resets.join());
    assert.deepEqual([gpu0.disableMask, gpu0.linkIsUp(2)], [0x000c0000, false]);
    const next = served.guest("GPU2");
    assert.equal(next.memory(SENT_AT), 0);
    gpu0.sendOver(2, 0xbad);
    assert.equal(next.memory(SENT_AT), 0);
  });
});

test("what came over a link into a GPU that nobody had is not there for its next owner", async () => {
  await withServed(sequoia(), ["vm1=GPU0,GPU1"], async (served) => {
    const gpu0 = served.guest("GPU0");
    gpu0.sendOver(0, 0x5ec2e7);
    await served.assign("vm1=GPU0", "vm2=GPU1");
    gpu0.sendOver(0, 0xbad);
    assert.equal(served.guest("GPU1").memory(SENT_AT), 0);
  });
});

test("a client that comes just when its GPU changes hands keeps it or is not let in, and never both", async () => {
  await withServed(sequoia(), ["vm1=GPU0", "vm2=GPU2"], async (served) => {
    for (let round = 0; round < 4; round++) {
      const [now, next] = round % 2 === 0 ? ["vm2", "vm3"] : ["vm3", "vm2"];
      const change = served.assign("vm1=GPU0", `${next}=GPU2`).then(
        () => next,
        () => now,
      );
      let guest: ReturnType<typeof served.guest> | undefined;
      try {
        guest = served.guest("GPU2");
      } catch (error) {
        assert.ok(error instanceof OsError);
      }
      const owner = await change;
      const { functions } = await served.status();
      const gpu2 = functions.find(({ name }) => name === "GPU2");
      assert.equal(gpu2?.assignment, owner);
      assert.equal(gpu2?.client === null, guest === undefined);
      assert.equal(guest === undefined, owner === next);
      guest?.close();
      // The server hears of the end and of the change by different ways.
      await sleep(20);
      if (owner === now) await served.assign("vm1=GPU0", `${next}=GPU2`);
    }
  });
});

test("what a client has is not taken away: the change is refused, with its process named and nothing touched", async () => {
  await withServed(sequoia(), ["vm1=GPU0,GPU1", "vm2=GPU2"], async (served) => {
    const before = fencesOf(await served.status());
    const bridge = new VfioUserClient(served.socket("0006:00:02.0"));
    const refusal = new RegExp(`process ${process.pid} .*NPU-0006:00:02.0`);
    const change = parseAssignments(served.machine, ["vm1=GPU0,GPU1,GPU2"]);
    await assert.rejects(served.call({ kind: "check", assignments: change }), refusal);
    await assert.rejects(served.call({ kind: "assign", assignments: change }), { code: "EUSAGE", message: refusal });
    assert.deepEqual(fencesOf(await served.status()), before);
    bridge.close();
  });
});

test("a plan that does not isolate is refused, one change at a time is made, and checking changes nothing", async () => {
  await withServed(sequoia(), ["vm1=GPU0,GPU1"], async (served) => {
    await assert.rejects(served.assign("vm1=GPU0", "vm2=GPU0"), /GPU0 is in 2 assignments/);
    const both = [served.assign("vm1=GPU0,GPU1", "vm2=GPU2"), served.assign("vm1=GPU0,GPU1", "vm3=GPU3")];
    const results = await Promise.allSettled(both);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected"],
    );
    await served.call({ kind: "check", assignments: [] });
    assert.deepEqual(
      (await served.status()).assignments.map(({ name }) => name),
      ["vm1", "vm2"],
    );
  });
});

test("a GPU that is released while it is being reset after its last client gets its links back", async () => {
  await withServed(sequoia(), ["vm1=GPU0", "vm2=GPU1,GPU2"], async (served) => {
    for (const wait of [0, 5, 99, 102]) {
      served.guest("GPU1").close();
      await sleep(wait);
      const { functions } = await served.assign();
      for (const { fence } of functions)
        assert.deepEqual(fence?.actual.linksUp, [0, 1, 2, 3, 4, 5], `after ${wait} ms`);
      await served.assign("vm1=GPU0", "vm2=GPU1,GPU2");
    }
  });
});

test("releasing everything leaves no socket, and all links of the host's GPUs come up again", async () => {
  await withServed(sequoia(), ["vm1=GPU0", "vm2=GPU1,GPU2"], async (served) => {
    const guest = served.guest("GPU1");
    guest.setMemory(0, 1);
    guest.close();
    const status = await served.assign();
    assert.deepEqual(served.sockets, []);
    for (const { fence, assignment } of status.functions) {
      assert.deepEqual([assignment, fence?.actual.linksUp], ["host", [0, 1, 2, 3, 4, 5]]);
    }
    assert.deepEqual(status.assignments, []);
    const again = await served.assign("vm9=GPU1");
    assert.equal(again.functions.filter(({ socket }) => socket !== null).length, 3);
    assert.equal(served.guest("GPU1").memory(0), 0);
  });
});

test("an assignment's functions share one DMA space: the same map counts once, another over it is refused", async () => {
  await withServed(sequoia(), ["vm1=GPU0,GPU1", "vm2=GPU2"], async (served) => {
    const pinned = async () => (await served.status()).assignments.map(({ pinnedBytes }) => pinnedBytes);
    const [gpu0, gpu1, gpu2] = [served.guest("GPU0"), served.guest("GPU1"), served.guest("GPU2")];
    const memory = createMemfd("guest memory", 0x100000);
    const other = createMemfd("other memory", 0x100000);
    gpu0.client.dmaMap(0x10000n, 0x100000n, { fd: memory, offset: 0n });
    gpu1.client.dmaMap(0x10000n, 0x100000n, { fd: memory, offset: 0n });
    assert.deepEqual(await pinned(), [String(0x100000), "0"]);
    const refused = (error: unknown) => error instanceof OsError && error.code === "EEXIST";
    assert.throws(() => gpu1.client.dmaMap(0x100000n, 0x100000n, { fd: other, offset: 0n }), refused);
    gpu2.client.dmaMap(0x10000n, 0x100000n, { fd: other, offset: 0n });
    assert.deepEqual(await pinned(), [String(0x100000), String(0x100000)]);
    gpu0.client.dmaUnmap(0x10000n, 0x100000n);
    assert.deepEqual(await pinned(), [String(0x100000), String(0x100000)]);
    gpu1.close();
    gpu2.close();
    for (let attempt = 0; attempt < 2000 && (await pinned()).some((bytes) => bytes !== "0"); attempt++) await sleep(5);
    assert.deepEqual(await pinned(), ["0", "0"]);
    memory.close();
    other.close();
  });
});

test("a change waits its turn while a neighbour's GPU is being reset under its client", async () => {
  await withServed(sequoia(), ["vm1=GPU0"], async (served) => {
    const gpu0 = served.guest("GPU0");
    gpu0.setMemory(8, 9);
    gpu0.client.post(Command.DEVICE_RESET, new Uint8Array(0));
    const status = await served.assign("vm1=GPU0", "vm2=GPU1,GPU2");
    assert.deepEqual(fencesOf(status).slice(0, 3), [
      ["vm1", 0x001d0000, []],
      ["vm2", 0x00110000, []],
      ["vm2", 0x00120000, []],
    ]);
    const resets = served.events.flatMap((each) =>
      each.kind === "fence" && ["sbr", "done"].includes(each.event.step)
        ? [`${each.event.gpu} ${each.event.step}`]
        : [],
    );
    assert.deepEqual(resets.slice(resets.lastIndexOf("GPU0 sbr"), resets.lastIndexOf("GPU0 sbr") + 2), [
      "GPU0 sbr",
      "GPU0 done",
    ]);
    gpu0.powerOn();
    assert.deepEqual([gpu0.memory(8), gpu0.disableMask], [9, 0x001d0000]);
  });
});

test("a GPU that cannot be fenced for its new owner is not let to it, and the others go on", async () => {
  const machine = structuredClone(sequoia());
  const link = machine.gpus[2]?.links[0];
  assert.ok(link);
  link.evidence = { registers: [{ offset: LINK_DISABLE, value: 0xbadf5040 }] };
  await withServed(machine, ["vm1=GPU3"], async (served) => {
    const gpu3 = served.guest("GPU3");
    const { functions } = await served.assign("vm1=GPU3", "vm2=GPU0");
    const gpu0 = functions.find(({ name }) => name === "GPU0");
    assert.equal(gpu0?.fence?.state, "failed");
    assert.match(gpu0?.fence?.reason ?? "", /not reset: the far end.* GPU2/);
    const refused = (error: unknown) => error instanceof OsError && error.code === "EIO";
    assert.throws(() => served.guest("GPU0"), refused);
    assert.equal(gpu3.disableMask, 0x001d0000);
  });
});

test("stopping in the middle of a change ends it, with no socket left behind", async () => {
  await withServed(sequoia(), ["vm1=GPU0"], async (served) => {
    const change = assert.rejects(served.assign("vm1=GPU0", "vm2=GPU1"), /the server has ended/);
    await Promise.all([change, served.stopServing()]);
    assert.deepEqual(readdirSync(served.directory), []);
  });
});
