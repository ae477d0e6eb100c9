import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import { decodeFunction } from "../pci/decode_function.js";
import { VirtualBridge } from "./virtual_bridge.js";

const GIB = 2 ** 30;

/** The third bridge of a Sequoia: link 2, of GPU1. */
function sequoiaBridge(): VirtualBridge {
  const { bridges, functions } = builtinMachine("sequoia");
  const bridge = bridges[2];
  assert.ok(bridge !== undefined);
  const fn = functions.find(({ address }) => address === bridge.address);
  return new VirtualBridge(bridge, fn);
}

function bytesOf(bridge: VirtualBridge): Uint8Array {
  const bytes = new Uint8Array(256);
  bridge.readConfigBytes(0, bytes);
  return bytes;
}

test("an NPU bridge is function 1014:04ea of class 0680, one of several, with two BARs and INTA", () => {
  const bridge = sequoiaBridge();
  const bytes = bytesOf(bridge);
  const fn = decodeFunction(bridge.bridge.address, bytes);
  assert.equal(fn.damage, undefined);
  assert.deepEqual(
    [fn.vendorId, fn.deviceId, fn.classCode, fn.revision, fn.headerType, fn.multifunction],
    [0x1014, 0x04ea, 0x068001, 1, 0, true],
  );
  assert.deepEqual(
    fn.bars.map(({ index, width, prefetchable }) => [index, width, prefetchable]),
    [
      [0, 64, false],
      [2, 64, false],
    ],
  );
  assert.deepEqual(
    fn.capabilities.map(({ offset, id }) => [offset, id]),
    [
      [0x40, 0x10],
      [0x80, 0x09],
    ],
  );
  assert.equal(fn.express?.functionLevelReset, true);
  assert.equal(bytes[0x3d], 1);
});

test("its vendor capability says which link it is, and that there is a GPU on it", () => {
  const bytes = bytesOf(sequoiaBridge());
  assert.deepEqual([...bytes.subarray(0x80, 0x90)], [0x09, 0, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0]);
});

test("of a bridge that is known by a device tree alone the function is the same", () => {
  const { bridge } = sequoiaBridge();
  const bare = new VirtualBridge(bridge, undefined);
  assert.deepEqual(bytesOf(bare).subarray(0x40), bytesOf(sequoiaBridge()).subarray(0x40));
  assert.deepEqual([bare.config.barSize(0), bare.config.barSize(2), bare.config.barSize(4)], [0x20000n, 0x10000n, 0n]);
});

test("it has 256 bytes of config space", () => {
  const bridge = sequoiaBridge();
  assert.equal(bridge.config.size, 256);
  assert.equal(bridge.readConfig(0x100, 4), 0xffffffff);
});

test("GPU RAM can be its 64-bit prefetchable BAR4, unassigned and sized like any other", () => {
  const bridge = sequoiaBridge();
  bridge.addRamBar(16 * GIB);
  assert.equal(bridge.config.barSize(4), 0x400000000n);
  assert.equal(bridge.readConfig(0x20, 4), 0xc);
  const ones = new Uint8Array(8).fill(0xff);
  const seen = new Uint8Array(8);
  bridge.writeConfigBytes(0x20, ones);
  bridge.readConfigBytes(0x20, seen);
  assert.equal(new DataView(seen.buffer).getBigUint64(0, true), 0xfffffffc0000000cn);
  assert.equal(bridge.config.barSize(0), 0x20000n, "besides its own two");
});

test("a frozen bridge reads as ones and takes no writes, in bytes too", () => {
  const bridge = sequoiaBridge();
  bridge.frozen = true;
  assert.deepEqual(bytesOf(bridge), new Uint8Array(256).fill(0xff));
  bridge.writeConfigBytes(0x48, Uint8Array.of(0, 0x80));
  assert.equal(bridge.inReset, false);
  bridge.frozen = false;
  bridge.writeConfigBytes(0x48, Uint8Array.of(0, 0x80));
  assert.equal(bridge.inReset, true, "its function level reset puts the link into reset");
  assert.notEqual(bridge.readConfig(0x10, 4) >>> 4, 0, "and leaves config space alone");
});
