import { encodeDeviceInfo, encodeIrqInfo, encodeRegionInfo, VfioError } from "../../src/vfio/index.js";
import {
  Command,
  encodeDeviceFeature,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeRegionAccess,
  encodeVersion,
  encodeWriteMulti,
} from "../../src/vfio-user/index.js";
import { message } from "../vfio_user/raw_client.js";
import type { Random } from "./random.js";

const MAX_U64 = (1n << 64n) - 1n;

/** Sizes and offsets at which mistakes happen. */
function u64(random: Random): bigint {
  const near = random.pick([
    0n,
    1n << 12n,
    1n << 16n,
    1n << 20n,
    1n << 21n,
    1n << 32n,
    1n << 37n,
    1n << 53n,
    1n << 63n,
    1n << 64n,
  ]);
  const value = near + BigInt(random.below(9)) - 4n;
  return value < 0n ? 0n : value > MAX_U64 ? MAX_U64 : value;
}

function u32(random: Random): number {
  return Number(BigInt.asUintN(32, u64(random)));
}

function small(random: Random): number {
  return random.once(6) ? u32(random) : random.below(12);
}

/** The payload of a command, more or less as it should be. */
function payloadOf(random: Random, command: number): Uint8Array {
  const argsz = random.once(4) ? u32(random) : random.pick([16, 20, 24, 32, 56, 96, 200]);
  switch (command) {
    case Command.VERSION:
      return encodeVersion({
        major: random.below(2),
        minor: random.below(3),
        capabilities: { maxMsgFds: small(random) },
      });
    case Command.DMA_MAP: {
      const size = random.once(3) ? u64(random) : 4096n;
      return encodeDmaMap({
        argsz: 32,
        flags: random.below(5),
        offset: random.once(2) ? 0n : u64(random),
        address: u64(random),
        size,
      });
    }
    case Command.DMA_UNMAP:
      return encodeDmaUnmap({
        argsz: 24,
        flags: random.pick([0, 0, 1, 2, 3]),
        address: u64(random),
        size: u64(random),
      });
    case Command.DEVICE_GET_INFO:
      return encodeDeviceInfo({ argsz, flags: 0, numRegions: 0, numIrqs: 0 });
    case Command.DEVICE_GET_REGION_INFO: {
      const info = encodeRegionInfo({ argsz, flags: 0, index: small(random), size: 0n, offset: 0n, capabilities: [] });
      new DataView(info.buffer).setUint32(0, argsz, true);
      return info;
    }
    case Command.DEVICE_GET_REGION_IO_FDS:
      return new Uint8Array(new Uint32Array([argsz, 0, small(random), random.once(4) ? u32(random) : 0]).buffer);
    case Command.DEVICE_GET_IRQ_INFO:
      return encodeIrqInfo({ argsz, flags: 0, index: small(random), count: 0 });
    case Command.DEVICE_SET_IRQS: {
      const flags = random.once(4) ? u32(random) : random.pick([1, 2, 4]) | random.pick([8, 16, 32]);
      const words = new Uint32Array([
        random.once(4) ? u32(random) : 20 + random.below(8),
        flags,
        small(random),
        small(random),
        small(random),
      ]);
      return new Uint8Array([...new Uint8Array(words.buffer), ...random.bytes(random.below(8))]);
    }
    case Command.REGION_READ:
    case Command.REGION_WRITE: {
      const count = random.once(4) ? u32(random) : random.pick([1, 2, 4, 8, 64, 4096, 65536]);
      const access = encodeRegionAccess({ offset: random.once(2) ? u64(random) : 0n, region: small(random), count });
      const length =
        command === Command.REGION_READ ? 0 : random.once(5) ? random.below(100) : Math.min(count, 1 << 17);
      return new Uint8Array([...access, ...random.bytes(length)]);
    }
    case Command.REGION_WRITE_MULTI: {
      const write = () => ({ offset: u64(random), region: small(random), data: random.bytes(1 + random.below(8)) });
      const payload = encodeWriteMulti(Array.from({ length: random.below(5) }, write));
      if (random.once(4)) new DataView(payload.buffer).setBigUint64(0, u64(random), true);
      return payload;
    }
    case Command.DEVICE_FEATURE:
      return encodeDeviceFeature({ argsz, flags: u32(random), data: random.bytes(random.below(20)) });
    default:
      return random.bytes(random.below(40));
  }
}

const COMMANDS = [1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 12, 15, 16, 17, 18] as const;

/** A message that a client should not send, or that is just about right. Resets are rare: they take their time. */
export function hostileMessage(random: Random): Uint8Array {
  const command = random.once(100)
    ? Command.DEVICE_RESET
    : random.once(30)
      ? random.below(65536)
      : random.pick([...COMMANDS]);
  let payload: Uint8Array;
  try {
    payload = command === Command.DEVICE_RESET ? new Uint8Array(0) : payloadOf(random, command);
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    payload = random.bytes(8);
  }
  if (random.once(10)) payload = payload.subarray(0, random.below(payload.length + 1));
  if (random.once(15)) payload = new Uint8Array([...payload, ...random.bytes(random.below(20))]);
  const flags = random.once(8) ? random.pick([0x10, 0x10, 1, 0x21, 2, 0xf, 0xffffffff]) : 0;
  const bytes = message(command, payload, { id: random.below(4), flags });
  if (random.once(60)) new DataView(bytes.buffer).setUint32(4, u32(random), true);
  if (random.once(20)) bytes[random.below(bytes.length)] = random.u32();
  return bytes;
}
