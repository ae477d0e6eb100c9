import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import {
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionInfo,
  type Steps,
  VfioError,
} from "../../../../src/vfio/index.js";
import type { Attachment } from "../../../../src/vfio-user/attachment.js";
import { answer, begin } from "../../../../src/vfio-user/commands.js";
import {
  Command,
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
  FLAG_TYPE_REPLY,
  HEADER_SIZE,
} from "../../../../src/vfio-user/index.js";
import { message } from "../../../vfio_user/raw_client.js";
import { hostileMessage } from "../../hostile_message.js";
import { Random } from "../../random.js";
import { device } from "../bounded_device.js";
import { BYTE_MUTATIONS } from "../mutation.js";
import { Finding, type MakeTarget, readOrRefused } from "../target.js";

type Codec = readonly [decode: (bytes: Uint8Array) => unknown, encode: (value: never) => Uint8Array];

/** What each command carries, in a request or a reply. */
const CODECS: ReadonlyMap<number, readonly Codec[]> = new Map<number, readonly Codec[]>([
  [Command.VERSION, [[decodeVersion, encodeVersion]]],
  [Command.DMA_MAP, [[decodeDmaMap, encodeDmaMap]]],
  [Command.DMA_UNMAP, [[decodeDmaUnmap, encodeDmaUnmap]]],
  [Command.DEVICE_GET_INFO, [[decodeDeviceInfo, encodeDeviceInfo]]],
  [Command.DEVICE_GET_REGION_INFO, [[decodeRegionInfo, encodeRegionInfo]]],
  [Command.DEVICE_GET_REGION_IO_FDS, [[decodeRegionIoFds, encodeRegionIoFds]]],
  [Command.DEVICE_GET_IRQ_INFO, [[decodeIrqInfo, encodeIrqInfo]]],
  [Command.DEVICE_SET_IRQS, [[decodeIrqSet, encodeIrqSet]]],
  [Command.REGION_READ, [[decodeRegionAccess, encodeRegionAccess]]],
  [Command.REGION_WRITE, [[decodeRegionAccess, encodeRegionAccess]]],
  [Command.DMA_READ, [[decodeDmaAccess, encodeDmaAccess]]],
  [Command.DMA_WRITE, [[decodeDmaAccess, encodeDmaAccess]]],
  [
    Command.REGION_WRITE_MULTI,
    [
      [decodeWriteMulti, encodeWriteMulti],
      [(bytes) => Number(decodeWriteMultiReply(bytes)), encodeWriteMultiReply],
    ],
  ],
  [Command.DEVICE_FEATURE, [[decodeDeviceFeature, encodeDeviceFeature]]],
  [Command.MIG_DATA_READ, [[decodeMigrationData, encodeMigrationData]]],
  [Command.MIG_DATA_WRITE, [[decodeMigrationData, encodeMigrationData]]],
]);

/** Messages of vfio-user: what is read out of them, on either side, and how a server that has such a device answers. */
export const makeTarget: MakeTarget = () => ({
  modules: ["/src/vfio-user/", "/src/vfio/"],
  seeds: () => [...recorded(), ...made()],
  mutations: BYTE_MUTATIONS,
  grown,
  async run(input) {
    const header = readOrRefused(() => decodeHeader(input), VfioError);
    if (header === undefined) return false;
    if (!isDeepStrictEqual(encodeHeader(header), Uint8Array.from(input.subarray(0, HEADER_SIZE)))) {
      throw new Finding("a header is written in another way than it was read");
    }
    const payload = Uint8Array.from(input.subarray(HEADER_SIZE));
    const codecs = CODECS.get(header.command) ?? [];
    const read = codecs.filter((codec) => readOrRefused(() => checkRoundTrip(codec, payload), VfioError));
    const replied = readOrRefused(() => reply(header.command, payload), VfioError);
    return replied !== undefined || read.length > 0;
  },
});

/** What has been read and written once must stay as it is. */
function checkRoundTrip([decode, encode]: Codec, payload: Uint8Array): true {
  const once = encode(decode(payload) as never);
  const again = encode(decode(once) as never);
  if (!isDeepStrictEqual(Buffer.from(again), Buffer.from(once))) {
    throw new Finding(`${decode.name}: what was written is read as something else`);
  }
  return true;
}

/** What there is of an attachment without a connection. */
const attachment = {
  device,
  maxMsgFds: 8,
  setIrqs: () => undefined,
  ioeventfds: () => [],
  mapDma: nothing,
  unmapDma: nothing,
  reset: nothing,
} as unknown as Attachment;

function* nothing(): Steps {}

function reply(command: number, payload: Uint8Array): Uint8Array {
  const long = begin(attachment, command, payload, []);
  return (long?.reply ?? answer(attachment, command, payload, [])).payload;
}

/** What QEMU sent and was answered. */
function recorded(): Uint8Array[] {
  const path = new URL("../../../data/vfio_user/qemu_11_1.json", import.meta.url);
  const texts = readFileSync(path, "utf8").match(/"[0-9a-f]{32,}"/g) ?? [];
  return texts.map((text) => Uint8Array.from(Buffer.from(text.slice(1, -1), "hex")));
}

/** One message of each kind that the server is attacked with, and replies of its own making. */
function made(): Uint8Array[] {
  const areas = [{ offset: 4096n, size: 4096n }];
  const info = encodeRegionInfo({
    argsz: 0,
    flags: 3,
    index: 0,
    size: 4096n,
    offset: 0n,
    capabilities: [
      { kind: "sparse-mmap", areas },
      { kind: "type", type: 0x80001014, subtype: 1 },
      { kind: "msix-mappable" },
      { kind: "nvlink2-ssatgt", tgt: 1n << 40n },
      { kind: "nvlink2-lnkspd", linkSpeed: 8 },
      { kind: "other", id: 77, version: 1, data: new Uint8Array(8) },
    ],
  });
  const sub = { offset: 0n, size: 4n, fdIndex: 0, type: 0, flags: 1, data: 5n };
  const fds = encodeRegionIoFds({ argsz: 56, flags: 0, index: 0, count: 1, subRegions: [sub] });
  const hostile = Array.from({ length: 200 }, (_, seed) => hostileMessage(new Random(seed)).bytes);
  return [
    message(Command.DEVICE_GET_REGION_INFO, info, { id: 1, flags: FLAG_TYPE_REPLY }),
    message(Command.DEVICE_GET_REGION_IO_FDS, fds, { id: 1, flags: FLAG_TYPE_REPLY }),
    ...hostile.filter(({ length }) => length < 4096),
  ];
}

/** A region's capabilities or several writes, as many as fit. */
function grown(random: Random, size: number): Uint8Array {
  if (random.once(2)) {
    const writes = { offset: 0n, region: 0, data: new Uint8Array(4) };
    const count = Math.min(4096, Math.ceil(size / 24));
    return message(Command.REGION_WRITE_MULTI, encodeWriteMulti(new Array(count).fill(writes)), { id: 1 });
  }
  const capabilities = new Array(Math.ceil(size / 16)).fill({ kind: "nvlink2-ssatgt", tgt: 1n });
  const info = { argsz: 0, flags: 3, index: 0, size: 4096n, offset: 0n, capabilities };
  return message(Command.DEVICE_GET_REGION_INFO, encodeRegionInfo(info), { id: 1, flags: FLAG_TYPE_REPLY });
}
