import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionInfo,
  VfioError,
} from "../vfio/index.js";
import {
  type Capabilities,
  Command,
  commandName,
  decodeDeviceFeature,
  decodeDmaAccess,
  decodeDmaMap,
  decodeDmaUnmap,
  decodeHeader,
  decodeMigrationData,
  decodeRegionAccess,
  decodeRegionIoFds,
  decodeVersion,
  decodeWriteMulti,
  decodeWriteMultiReply,
  encodeDeviceFeature,
  encodeDmaAccess,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeHeader,
  encodeMigrationData,
  encodeRegionAccess,
  encodeRegionIoFds,
  encodeVersion,
  encodeWriteMulti,
  encodeWriteMultiReply,
  FLAG_ERROR,
  FLAG_TYPE_REPLY,
  HEADER_SIZE,
  type Header,
  REGION_ACCESS_SIZE,
} from "./index.js";

interface Recorded {
  from: "client" | "server";
  message: string;
}

const file = new URL("../../test/data/vfio_user/qemu_11_1.json", import.meta.url);
const recorded = JSON.parse(readFileSync(file, "utf8")) as Recorded[];

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function bytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
}

/** Decodes a payload and encodes it again. */
function again(header: Header, payload: Uint8Array): Uint8Array {
  const isReply = (header.flags & FLAG_TYPE_REPLY) !== 0;
  switch (header.command) {
    case Command.DMA_MAP:
      return isReply ? payload : encodeDmaMap(decodeDmaMap(payload));
    case Command.DMA_UNMAP:
      return encodeDmaUnmap(decodeDmaUnmap(payload));
    case Command.DEVICE_GET_INFO:
      return encodeDeviceInfo(decodeDeviceInfo(payload));
    case Command.DEVICE_GET_REGION_INFO:
      return encodeRegionInfo(decodeRegionInfo(payload));
    case Command.DEVICE_GET_IRQ_INFO:
      return encodeIrqInfo(decodeIrqInfo(payload));
    case Command.DEVICE_SET_IRQS:
      return isReply ? payload : encodeIrqSet(decodeIrqSet(payload));
    case Command.REGION_READ:
    case Command.REGION_WRITE: {
      const data = payload.subarray(REGION_ACCESS_SIZE);
      return Uint8Array.from([...encodeRegionAccess(decodeRegionAccess(payload)), ...data]);
    }
    default:
      assert.equal(header.command, Command.DEVICE_RESET);
      return payload;
  }
}

for (const [index, { from, message }] of recorded.entries()) {
  const header = decodeHeader(bytes(message));
  const payload = bytes(message).subarray(HEADER_SIZE);
  test(`${commandName(header.command)} from QEMU 11.1's ${from} (${index}) is understood and encoded to the same bytes`, () => {
    assert.equal(header.size, message.length / 2);
    assert.equal(hex(encodeHeader(header)), message.slice(0, 2 * HEADER_SIZE));
    if (header.command !== Command.VERSION) {
      assert.equal(hex(again(header, payload)), hex(payload));
      return;
    }
    const { major, minor, capabilities } = decodeVersion(payload);
    assert.deepEqual([major, minor], [0, 0]);
    const expected: Capabilities = {
      maxMsgFds: 16,
      maxDataXferSize: 1 << 20,
      maxDmaMaps: 65535,
      pgsizes: 4096,
      writeMultiple: true,
    };
    assert.deepEqual(capabilities, expected);
    if (from === "server") assert.equal(hex(encodeVersion({ major, minor, capabilities })), hex(payload));
  });
}

test("the recording has every command that QEMU sends, with its reply", () => {
  const seen = new Set(recorded.map(({ from, message }) => `${from} ${decodeHeader(bytes(message)).command}`));
  for (const command of [1, 2, 3, 4, 5, 7, 8, 9, 10, 13]) {
    assert.ok(seen.has(`client ${command}`) && seen.has(`server ${command}`), commandName(command));
  }
});

test("an error reply is a bare header with the error flag and an errno", () => {
  const header = { id: 0x1f, command: Command.DMA_UNMAP, size: 16, flags: FLAG_TYPE_REPLY | FLAG_ERROR, error: 2 };
  assert.equal(hex(encodeHeader(header)), "1f000300100000002100000002000000");
  assert.deepEqual(decodeHeader(encodeHeader(header)), header);
});

// Commands that QEMU does not send, written out by hand after the tables of the specification.
test("DMA_READ and DMA_WRITE begin with an address and a count of 8 bytes each", () => {
  const access = { address: 0x123456789abcdef0n, count: 0x1000n };
  assert.equal(hex(encodeDmaAccess(access)), "f0debc9a785634120010000000000000");
  assert.deepEqual(decodeDmaAccess(encodeDmaAccess(access)), access);
});

test("REGION_WRITE_MULTI has 24 bytes for each write, whatever its length", () => {
  const text =
    "0200000000000000 1000000000000000 02000000 04000000 78563412 00000000 0800000000000000 00000000 01000000 ff00000000000000";
  const writes = [
    { offset: 0x10n, region: 2, data: bytes("78563412") },
    { offset: 8n, region: 0, data: bytes("ff") },
  ];
  assert.equal(hex(encodeWriteMulti(writes)), text.replaceAll(" ", ""));
  assert.deepEqual(
    decodeWriteMulti(bytes(text)).map(({ offset, region, data }) => ({ offset, region, data: data.slice() })),
    writes,
  );
  assert.equal(hex(encodeWriteMultiReply(2)), "0200000000000000");
  assert.equal(decodeWriteMultiReply(bytes("0200000000000000")), 2n);
});

test("DEVICE_GET_REGION_IO_FDS has 40 bytes for each sub-region", () => {
  const text =
    "38000000 00000000 00000000 01000000 2400000000000000 0400000000000000 00000000 00000000 01000000 00000000 0700000000000000";
  const info = {
    argsz: 56,
    flags: 0,
    index: 0,
    count: 1,
    subRegions: [{ offset: 0x24n, size: 4n, fdIndex: 0, type: 0, flags: 1, data: 7n }],
  };
  assert.equal(hex(encodeRegionIoFds(info)), text.replaceAll(" ", ""));
  assert.deepEqual(decodeRegionIoFds(bytes(text)), info);
  assert.equal(hex(encodeRegionIoFds(info, 16)), "38000000000000000000000001000000");
});

test("DEVICE_FEATURE and the migration data messages have 8 bytes before their data", () => {
  const feature = { argsz: 16, flags: 0x10002, data: bytes("0200000000000000") };
  assert.equal(hex(encodeDeviceFeature(feature)), "10000000020001000200000000000000");
  assert.deepEqual(decodeDeviceFeature(encodeDeviceFeature(feature)), feature);
  const data = { argsz: 10, size: 2, data: bytes("abcd") };
  assert.equal(hex(encodeMigrationData(data)), "0a00000002000000abcd");
  assert.deepEqual(decodeMigrationData(encodeMigrationData(data)), data);
});

test("version data of a twin socket is read and written", () => {
  const text = '{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}';
  const payload = Uint8Array.from([0, 0, 0, 0, ...Buffer.from(text), 0]);
  const version = { major: 0, minor: 0, capabilities: { twinSocket: { supported: true, fdIndex: 0 } } };
  assert.deepEqual(decodeVersion(payload), version);
  assert.equal(hex(encodeVersion(version)), hex(payload));
  assert.deepEqual(decodeVersion(bytes("00000000")).capabilities, {});
});

test("every decoder refuses what is too short, and version data that is not what it should be", () => {
  const decoders: [(bytes: Uint8Array) => unknown, number][] = [
    [decodeHeader, 16],
    [decodeVersion, 4],
    [decodeDmaMap, 32],
    [decodeDmaUnmap, 24],
    [decodeDmaAccess, 16],
    [decodeDeviceInfo, 16],
    [decodeRegionInfo, 32],
    [decodeIrqInfo, 16],
    [decodeIrqSet, 20],
    [decodeRegionAccess, 16],
    [decodeRegionIoFds, 16],
    [decodeWriteMulti, 8],
    [decodeWriteMultiReply, 8],
    [decodeDeviceFeature, 8],
    [decodeMigrationData, 8],
  ];
  for (const [decode, size] of decoders) {
    for (let length = 0; length < size; length++)
      assert.throws(() => decode(new Uint8Array(length)), VfioError, decode.name);
  }
  const texts = [
    "{",
    "[]",
    '"x"',
    '{"capabilities":[]}',
    '{"capabilities":{"max_msg_fds":-1}}',
    '{"capabilities":{"pgsizes":1.5}}',
  ];
  for (const text of [
    ...texts,
    '{"capabilities":{"write_multiple":1}}',
    '{"capabilities":{"twin_socket":{"supported":2}}}',
  ]) {
    assert.throws(() => decodeVersion(Uint8Array.from([0, 0, 0, 0, ...Buffer.from(text), 0])), VfioError, text);
  }
  assert.throws(() => decodeVersion(Uint8Array.from([0, 0, 0, 0, ...Buffer.from("{}")])), /NUL/);
  assert.throws(() => decodeVersion(new Uint8Array(5000)), /4996 bytes/);
  assert.throws(() => decodeWriteMulti(bytes("ffffffffffffffff")), VfioError);
  assert.throws(() => decodeWriteMulti(bytes("0100000000000000")), VfioError);
});

test("a peer to which any page size will do, or that has no limit, is understood", () => {
  const text = '{"capabilities":{"pgsizes":18446744073709547520,"max_dma_maps":18446744073709551615}}';
  const { capabilities } = decodeVersion(Uint8Array.from([0, 0, 0, 0, ...Buffer.from(text), 0]));
  assert.deepEqual(capabilities, { pgsizes: 2 ** 64 - 4096, maxDmaMaps: 2 ** 64 });
});
