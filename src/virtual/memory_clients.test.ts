import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { runToEnd, type Steps } from "../vfio/steps.js";
import { GpuMemory } from "./gpu_memory.js";
import { MemoryClients, type MemoryFunction } from "./memory_clients.js";

function withClients(use: (clients: MemoryClients, memory: GpuMemory) => void): void {
  const memory = new GpuMemory("test", 2 ** 16);
  try {
    use(new MemoryClients(memory), memory);
  } finally {
    memory.close();
  }
}

const first = (memory: GpuMemory) => {
  const data = new Uint8Array(1);
  memory.read(0, data);
  return data[0];
};
const put = (memory: GpuMemory, value: number) => memory.write(0, Uint8Array.of(value));

function leave(clients: MemoryClients, via: MemoryFunction): void {
  clients.close(via);
  runToEnd(clients.afterClose());
}

function enter(clients: MemoryClients, via: MemoryFunction): void {
  runToEnd(clients.beforeOpen());
  clients.open(via);
}

test("the GPU and its bridge share one memory while both have clients, in whatever order they come", () => {
  for (const order of [["gpu", "bridge"] as const, ["bridge", "gpu"] as const]) {
    withClients((clients, memory) => {
      enter(clients, order[0]);
      const { fd } = memory;
      put(memory, 1);
      enter(clients, order[1]);
      assert.deepEqual([memory.fd, first(memory)], [fd, 1]);
      leave(clients, "bridge");
      enter(clients, "bridge");
      assert.deepEqual([memory.fd, first(memory)], [fd, 1], "the bridge's client may come and go");
    });
  }
});

test("the memory is another one when the last client has left", () => {
  for (const order of [["gpu", "bridge"] as const, ["bridge", "gpu"] as const, ["gpu"] as const, ["bridge"] as const]) {
    withClients((clients, memory) => {
      for (const via of order) enter(clients, via);
      const { fd } = memory;
      put(memory, 1);
      for (const via of order) leave(clients, via);
      assert.equal(first(memory), 0);
      assert.notEqual(memory.fd, fd);
    });
  }
});

test("once the GPU's client has left nobody comes in before the bridge's has, which keeps what it had", () => {
  withClients((clients, memory) => {
    enter(clients, "gpu");
    enter(clients, "bridge");
    put(memory, 1);
    leave(clients, "gpu");
    assert.equal(first(memory), 1);
    for (const via of ["gpu", "bridge"] as const) assert.throws(() => clients.open(via), { code: "EBUSY" });
    const waiting = clients.beforeOpen();
    assert.equal(waiting.next().done, false);
    leave(clients, "bridge");
    assert.equal(waiting.next().done, true);
    clients.open("gpu");
    assert.equal(first(memory), 0);
  });
});

test("who waits for the last owner's client is turned away after a second", () => {
  withClients((clients) => {
    enter(clients, "gpu");
    enter(clients, "bridge");
    leave(clients, "gpu");
    const began = performance.now();
    assert.throws(() => runToEnd(clients.beforeOpen()), { code: "EBUSY" });
    assert.ok(performance.now() - began >= 990);
  });
});

test("memory that nobody has is renewed when asked, for others may have written to it over a link", () => {
  withClients((clients, memory) => {
    put(memory, 1);
    runToEnd(clients.afterClose());
    assert.equal(first(memory), 0);
  });
});

test("clearing that is cancelled, or overtaken by the next client, leaves nothing behind", () => {
  withClients((clients, memory) => {
    clients.open("gpu");
    put(memory, 1);
    clients.close("gpu");
    clients.afterClose().return();
    assert.equal(first(memory), 1);
    clients.open("gpu");
    assert.equal(first(memory), 0);
  });
});

test("whatever clients do, what one owner wrote is never there for the next", () => {
  const step = fc.record({ via: fc.constantFrom<MemoryFunction>("gpu", "bridge"), clear: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      withClients((clients, memory) => {
        const attached = new Set<MemoryFunction>();
        let owner = 1;
        for (const { via, clear } of steps) {
          if (attached.has(via)) {
            attached.delete(via);
            clients.close(via);
            if (via === "gpu" || attached.size === 0) owner++;
            if (clear) runToEnd(clients.afterClose());
            continue;
          }
          try {
            clients.open(via);
          } catch {
            continue;
          }
          attached.add(via);
          const seen = first(memory) ?? 0;
          assert.ok(seen === 0 || seen === owner, `owner ${owner} sees what ${seen} wrote`);
          put(memory, owner);
        }
      });
    }),
  );
});

test("both functions may clear at once, and a client that comes meanwhile keeps its memory", () => {
  withClients((clients, memory) => {
    enter(clients, "gpu");
    put(memory, 1);
    clients.close("gpu");
    const both: Steps[] = [clients.afterClose(), clients.afterClose()];
    for (const steps of both) runToEnd(steps);
    clients.open("gpu");
    put(memory, 2);
    assert.equal(first(memory), 2);
    runToEnd(clients.afterClose());
    assert.equal(first(memory), 2, "nothing is cleared under a client");
  });
});
