import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SENT_AT } from "../../../test/serving/guest.js";
import { ServedMachine, withServed } from "../../../test/serving/serve_machine.js";
import { builtinMachine } from "../../machine/builtin.js";
import type { Machine } from "../../machine/machine.js";
import { LINK_DISABLE } from "../../machine/part.js";
import { OsError } from "../../os/index.js";
import { Command, VfioUserClient } from "../../vfio-user/index.js";
import type { FunctionStatus } from "./messages.js";

const PAIR_AND_ONE = ["vm1=GPU0,GPU1", "vm2=GPU2"];
/** Links of a Sequoia's GPU0, and of GPU2, by what is at their far ends. */
const FROM_GPU0 = { toGpu1: [0, 4], toGpu2: [2, 3] };
const FROM_GPU2 = { toGpu1: [0, 2], toGpu0: [1, 4] };

const sequoia = () => builtinMachine("sequoia");

function ofGpu(functions: readonly FunctionStatus[], name: string): FunctionStatus {
  return functions.find((each) => each.kind === "gpu" && each.name === name) ?? assert.fail(`no status of ${name}`);
}

/** Waits until a machine's status is as it should be. */
async function untilStatus(served: ServedMachine, holds: (functions: FunctionStatus[]) => boolean): Promise<void> {
  for (let attempt = 0; attempt < 2000; attempt++) {
    if (holds((await served.status()).functions)) return;
    await sleep(10);
  }
  assert.fail(`still ${JSON.stringify((await served.status()).functions)}`);
}

/** Serves all tests that leave nobody behind. */
let served: ServedMachine;
before(async () => {
  served = await ServedMachine.start(sequoia(), PAIR_AND_ONE);
});
after(() => served.stop());
afterEach(() => served.dismiss());

const isRefused = (code: string) => (error: unknown) => error instanceof OsError && error.code === code;

test("GPUs and bridges of assignments are served, each on a socket of its own, fenced before anybody comes", async () => {
  assert.deepEqual(readdirSync(served.directory).sort(), [
    "GPU0-0004:04:00.0.sock",
    "GPU1-0004:05:00.0.sock",
    "GPU2-0004:06:00.0.sock",
    "NPU-0006:00:00.0.sock",
    "NPU-0006:00:00.1.sock",
    "NPU-0006:00:01.0.sock",
    "NPU-0006:00:01.1.sock",
    "NPU-0006:00:02.0.sock",
    "NPU-0006:00:02.1.sock",
  ]);
  for (const path of served.sockets) assert.equal(statSync(path).mode & 0o777, 0o600);
  const { functions } = await served.status();
  const fences = functions.flatMap(({ name, assignment, socket, fence }) =>
    fence === undefined
      ? []
      : [[name, assignment, socket && basename(socket), fence.state, fence.actual.disableMask, fence.actual.linksUp]],
  );
  assert.deepEqual(fences, [
    ["GPU0", "vm1", "GPU0-0004:04:00.0.sock", "in force", 0x000c0000, [0, 1, 4, 5]],
    ["GPU1", "vm1", "GPU1-0004:05:00.0.sock", "in force", 0x000c0000, [0, 1, 4, 5]],
    ["GPU2", "vm2", "GPU2-0004:06:00.0.sock", "in force", 0x00170000, [3, 5]],
    ["GPU3", "host", null, "in force", 0, [0, 1, 2, 3, 4, 5]],
    ["GPU4", "host", null, "in force", 0, [0, 1, 2, 3, 4, 5]],
    ["GPU5", "host", null, "in force", 0, [0, 1, 2, 3, 4, 5]],
  ]);
});

test("a client finds a V100 with its coherent RAM, and bridges with their ATSD registers", () => {
  const { client } = served.guest("GPU0");
  assert.deepEqual([...client.read(7, 0, 4)], [0xde, 0x10, 0xb1, 0x1d]);
  const ram = client.regionInfo(9);
  ram.fd?.close();
  assert.equal(ram.info.size, 1n << 37n, "a window of 128 GiB");
  assert.deepEqual(ram.info.capabilities.map((each) => each.kind).sort(), ["nvlink2-ssatgt", "sparse-mmap", "type"]);
  const bridge = new VfioUserClient(served.socket("0006:00:00.0"));
  try {
    assert.deepEqual([...bridge.read(7, 0, 4)], [0x14, 0x10, 0xea, 0x04]);
    const atsd = bridge.regionInfo(9);
    atsd.fd?.close();
    const kinds = atsd.info.capabilities.map((each) => each.kind);
    assert.ok(kinds.includes("nvlink2-lnkspd") && kinds.includes("nvlink2-ssatgt"), kinds.join());
  } finally {
    bridge.close();
  }
});

test("bytes cross inside an assignment and never to another, before, between and after resets from both sides", () => {
  const [gpu0, gpu1, gpu2] = [served.guest("GPU0"), served.guest("GPU1"), served.guest("GPU2")];
  for (let round = 1; round <= 6; round++) {
    for (const link of FROM_GPU0.toGpu1) {
      gpu0.sendOver(link, round * 16 + link);
      assert.equal(gpu1.memory(SENT_AT), round * 16 + link, `round ${round}`);
    }
    for (const link of FROM_GPU0.toGpu2) gpu0.sendOver(link, 0xbad);
    for (const link of [...FROM_GPU2.toGpu0, ...FROM_GPU2.toGpu1]) {
      assert.equal(gpu2.linkIsUp(link), false);
      gpu2.sendOver(link, 0xbad);
    }
    assert.deepEqual([gpu0.memory(SENT_AT), gpu2.memory(SENT_AT)], [0, 0]);
    const resetting = [gpu0, gpu2, gpu1][round % 3];
    resetting?.reset();
    assert.equal(gpu0.disableMask, 0x000c0000, "in force before the first access after a reset");
    assert.equal(gpu2.disableMask, 0x00170000);
  }
});

test("a guest that writes 0 to the disable register changes nothing, and is reported", async () => {
  const gpu0 = served.guest("GPU0");
  gpu0.setRegister(LINK_DISABLE, 0);
  assert.equal(gpu0.disableMask, 0x000c0000);
  assert.equal(gpu0.linkIsUp(2), false);
  await served.status();
  const writes = served.events.flatMap((each) => (each.kind === "fence" && each.event.write ? [each.event] : []));
  assert.deepEqual(
    writes.map(({ gpu, step, write }) => [gpu, step, write?.offset, write?.asked]),
    [["GPU0", "guarded write", LINK_DISABLE, 0]],
  );
});

test("what a client left in the memory is not there for the next, nor does its mapping show what the next one writes", async () => {
  const first = served.guest("GPU2");
  first.setMemory(0x1234, 0x5ec2e7);
  const mapped = first.client.regionInfo(1).fd;
  assert.ok(mapped);
  first.close();
  const second = served.guest("GPU2");
  assert.equal(second.memory(0x1234), 0);
  second.setMemory(0x2000, 0x0de5);
  const old = readFileSync(`/proc/self/fd/${mapped.number}`);
  mapped.close();
  assert.ok(old.every((byte) => byte === 0));
});

test("a client that goes without a word, in the middle of a reset, leaves a fenced GPU", async () => {
  for (let round = 0; round < 3; round++) {
    const guest = served.guest("GPU0");
    guest.client.post(Command.DEVICE_RESET, new Uint8Array(0));
    guest.close();
    await untilStatus(served, (functions) => ofGpu(functions, "GPU0").client === null);
    const next = served.guest("GPU0");
    assert.equal(next.disableMask, 0x000c0000);
    next.close();
  }
  await untilStatus(served, (functions) => ofGpu(functions, "GPU0").fence?.state === "in force");
});

test("the status names the client, the groups with and without isolate_nvlink, and the regions", async () => {
  const began = Date.now();
  served.guest("GPU1");
  const status = await served.status();
  assert.deepEqual([status.machine, status.virtual], ["sequoia", true]);
  const [gpu0, gpu1] = [ofGpu(status.functions, "GPU0"), ofGpu(status.functions, "GPU1")];
  assert.equal(gpu0.client, null);
  assert.deepEqual([gpu1.client?.pid, gpu1.client?.uid], [process.pid, process.getuid?.()]);
  const since = Date.parse(gpu1.client?.since ?? "");
  assert.ok(since >= began && since <= Date.now());
  assert.equal(gpu0.iommuGroup?.id, gpu1.iommuGroup?.id);
  assert.notEqual(gpu0.iommuGroup?.isolated, gpu1.iommuGroup?.isolated);
  assert.deepEqual(
    gpu1.regions.map(({ index, mappable }) => [index, mappable]),
    [
      [0, false],
      [1, true],
      [3, false],
      [7, false],
      [9, true],
    ],
  );
  assert.deepEqual(gpu1.warnings, []);
  const bridges = status.functions.filter(({ kind }) => kind === "bridge");
  assert.deepEqual(bridges.map(({ address, assignment }) => [address, assignment]).slice(0, 2), [
    ["0006:00:00.0", "vm1"],
    ["0006:00:00.1", "vm1"],
  ]);
});

test("a plan that does not isolate is refused with nothing left behind, and so is a GPU that the host's driver has", async () => {
  const bound = sequoia();
  for (const fn of bound.functions) if (fn.address === "0004:06:00.0") fn.driver = "nvidia";
  for (const [machine, assign, reason] of [
    [sequoia(), ["vm1=GPU0", "vm2=GPU0"], /GPU0 is in 2 assignments/],
    [bound, ["vm1=GPU0,GPU1"], /GPU2/],
  ] as const) {
    await assert.rejects(ServedMachine.start(machine, [...assign]), reason);
  }
  await withServed(
    bound,
    ["vm1=GPU0,GPU1"],
    async (served) => {
      const { fence, socket } = ofGpu((await served.status()).functions, "GPU2");
      assert.deepEqual([socket, fence?.state, fence?.actual.disableMask], [null, "in force", 0x00170000]);
    },
    { includeHost: true },
  );
});

/** A Sequoia of which a register of a GPU was recorded as answering with an error. */
function withUnreadableRegister(gpu: number): Machine {
  const machine = structuredClone(sequoia());
  const link = machine.gpus[gpu]?.links[0];
  assert.ok(link);
  link.evidence = { registers: [{ offset: LINK_DISABLE, value: 0xbadf5040 }] };
  return machine;
}

test("a GPU whose register does not answer is not served unfenced: EIO to everybody, and the status says why", async () => {
  await withServed(withUnreadableRegister(0), ["vm1=GPU0", "vm2=GPU2"], async (served) => {
    const { fence, socket } = ofGpu((await served.status()).functions, "GPU0");
    assert.deepEqual([fence?.state, fence?.since, fence?.actual.disableMask], ["failed", null, null]);
    assert.match(fence?.reason ?? "", /0xbadf5040/);
    assert.ok(socket);
    assert.throws(() => new VfioUserClient(socket), isRefused("EIO"));
    assert.equal(ofGpu((await served.status()).functions, "GPU0").fence?.state, "failed");
  });
});

test("a GPU whose far end cannot be proven cut is not reset under a client, and is not served", async () => {
  await withServed(withUnreadableRegister(2), PAIR_AND_ONE, (served) => {
    assert.throws(() => new VfioUserClient(served.socket("GPU0")), isRefused("EIO"));
    assert.throws(() => new VfioUserClient(served.socket("GPU2")), isRefused("EIO"));
  });
});

test("six GPUs of 16 GiB and their bridges take next to no memory, for nobody touches that of the GPUs", async () => {
  const before = process.memoryUsage().rss;
  const all = ["vm1=GPU0,GPU1,GPU2", "vm2=GPU3,GPU4,GPU5"];
  await withServed(
    sequoia(),
    all,
    (large) => {
      assert.equal(large.sockets.length, 18);
      const files = readdirSync("/proc/self/fd").flatMap((fd) => {
        const stat = statSync(`/proc/self/fd/${fd}`, { throwIfNoEntry: false });
        return stat?.size === 2 ** 34 ? [stat] : [];
      });
      assert.equal(files.length, 6);
      for (const { blocks } of files) assert.equal(blocks, 0);
      const grown = process.memoryUsage().rss - before;
      assert.ok(grown < 60e6, `${Math.round(grown / 1e6)} MB more`);
    },
    { gpuMemory: 2 ** 34, ramAsBar: true },
  );
});

test("with the RAM as a BAR the bridge's client shares the GPU's bytes, and maps over them pin nothing", async () => {
  const options = { ramAsBar: true };
  const use = async (shown: ServedMachine) => {
    const guest = shown.guest("GPU0");
    const bridge = shown.client("0006:00:00.0");
    bridge.write(7, 4, Uint8Array.of(6, 0));
    bridge.write(4, 0x100, Uint8Array.of(1, 2, 3, 4));
    assert.deepEqual([...guest.client.read(1, 0x100, 4)], [1, 2, 3, 4]);
    assert.deepEqual([...guest.client.read(9, 0x100, 4)], [1, 2, 3, 4]);
    const file = guest.client.regionInfo(9).fd;
    assert.ok(file);
    bridge.dmaMap(0n, 2n ** 24n, { fd: file, offset: 0n });
    guest.client.dmaMap(0n, 2n ** 24n, { fd: file, offset: 0n });
    file.close();
    assert.deepEqual(
      (await shown.status()).assignments.map(({ pinnedBytes }) => pinnedBytes),
      ["0"],
    );
    const second = shown.client("0006:00:00.1");
    assert.equal(second.regionInfo(4).info.size, 0n, "only the GPU's first bridge shows it");
  };
  await withServed(sequoia(), ["vm1=GPU0"], use, options);
});

test("no bridge shows memory that the CPUs do not address, and both functions say what they go without", async () => {
  const use = async (shown: ServedMachine) => {
    const guest = shown.guest("GPU1");
    assert.equal(guest.client.deviceInfo().numRegions, 9);
    for (const { address, kind, warnings } of (await shown.status()).functions) {
      if (!shown.sockets.some((each) => each.endsWith(`-${address}.sock`))) continue;
      assert.match(warnings.join(), kind === "gpu" ? /^no NVLink2 RAM region: .*EINVAL/ : /^no ATSD region: .*EFAULT/);
      if (kind === "bridge") assert.equal(shown.client(address).regionInfo(4).info.size, 0n);
    }
  };
  await withServed(builtinMachine("minsky"), ["vm1=GPU1"], use, { ramAsBar: true });
});

test("a reset keeps the memory, or clears it where that is asked for", async () => {
  for (const resetClearsMemory of [false, true]) {
    const use = (each: ServedMachine) => {
      const guest = each.guest("GPU0");
      guest.setMemory(0x40, 7);
      guest.reset();
      assert.equal(guest.memory(0x40), resetClearsMemory ? 0 : 7);
    };
    await withServed(builtinMachine("c4140"), ["vm1=GPU0"], use, { resetClearsMemory });
  }
});

test("a register that is not modelled is told of once", async () => {
  const guest = served.guest("GPU0");
  for (let i = 0; i < 3; i++) assert.equal(guest.register(0x88_0000) >>> 16, 0xbadf);
  await served.status();
  const told = served.events.filter(({ kind }) => kind === "unmodelled");
  assert.equal(told.length, 1, JSON.stringify(told));
});
