import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import { pause } from "../vfio/steps.js";
import { VirtualMachine } from "../virtual/virtual_machine.js";
import type { GpuPort } from "./gpu_port.js";
import { restoreConfig, saveConfig } from "./saved_config.js";

function setUp() {
  const vm = new VirtualMachine(builtinMachine("c4140"));
  const address = vm.machine.gpus[0]?.address ?? "";
  return { vm, gpu: vm.gpu(address), port: vm.port(address) as GpuPort };
}

test("after a reset every BAR, the Express controls and the command register are as they were", () => {
  const { gpu, port } = setUp();
  gpu.writeConfig(0x80, 2, 0x2950);
  gpu.writeConfig(0x3c, 1, 0x21);
  const header = () => Array.from({ length: 16 }, (_, i) => gpu.readConfig(4 * i, 4));
  const before = header();
  const saved = saveConfig(port);
  gpu.secondaryBusReset();
  assert.notDeepEqual(header(), before);
  restoreConfig(port, saved);
  assert.deepEqual(header(), before);
  assert.equal(gpu.readConfig(0x80, 2), 0x2950);
});

test("nothing is decoded until all BARs are back: the command register comes last", () => {
  const { gpu, port } = setUp();
  const saved = saveConfig(port);
  gpu.secondaryBusReset();
  gpu.writeConfig(0x04, 2, 0x2);
  const decodingAt: number[] = [];
  restoreConfig(
    {
      ...port,
      writeConfig: (at, size, value) => {
        port.writeConfig(at, size, value);
        if ((port.readConfig(0x04, 2) & 2) !== 0) decodingAt.push(at);
      },
    },
    saved,
  );
  assert.deepEqual(decodingAt, [0x04]);
});

test("a BAR that does not take its address back is an error, and so is silence", () => {
  const { gpu, port } = setUp();
  const saved = saveConfig(port);
  gpu.secondaryBusReset();
  const deaf: GpuPort = {
    ...port,
    writeConfig: (at, size, v) => (at === 0x10 ? undefined : port.writeConfig(at, size, v)),
  };
  assert.throws(() => restoreConfig(deaf, saved), { code: "EFENCE_RESTORE", message: /0x00000010/ });
  gpu.faults.configUnreadable = true;
  assert.throws(() => restoreConfig(port, saved), { code: "EFENCE_UNREADABLE" });
  assert.throws(() => saveConfig(port), { code: "EFENCE_UNREADABLE" });
});

test("an answer that nobody gave is never saved, to be written into a BAR later", () => {
  const { port } = setUp();
  const reads = (run: (port: GpuPort) => void) => {
    let count = 0;
    const counted: GpuPort["readConfig"] = (at, size) => {
      count++;
      return port.readConfig(at, size);
    };
    run({ ...port, readConfig: counted });
    return count;
  };
  const right = saveConfig(port);
  for (let silent = 0; silent < reads(saveConfig); silent++) {
    let read = 0;
    const faltering: GpuPort = {
      ...port,
      readConfig: (at, size) => (read++ === silent ? 2 ** (8 * size) - 1 : port.readConfig(at, size)),
    };
    let saved: unknown;
    try {
      saved = saveConfig(faltering);
    } catch (error) {
      assert.equal((error as { code?: string }).code, "EFENCE_UNREADABLE");
      continue;
    }
    assert.deepEqual(saved, right, `read ${silent}`);
  }
});

test("a capability list that loops or leads nowhere ends the search", () => {
  for (const next of [0x40, 0x44, 0xfc]) {
    const bytes = new Uint8Array(256);
    bytes.set([0xde, 0x10, 0xb1, 0x1d, 0, 0, 0x10, 0]);
    bytes[0x34] = 0x40;
    bytes.set([0x09, next], 0x40);
    bytes.set([0x09, 0x40], 0x44);
    bytes.set([0x10, 0x40, 0x02], 0xfc);
    const port: GpuPort = {
      readConfig: (at, size) =>
        Array.from({ length: size }, (_, i) => (bytes[at + i] ?? 0) * 256 ** i).reduce((a, b) => a + b),
      writeConfig: () => {},
      readBar0: () => 0,
      writeBar0: () => {},
      secondaryBusReset: () => pause(0),
    };
    assert.equal(saveConfig(port).length, 10, "only the header's registers");
  }
});
