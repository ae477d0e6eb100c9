import {
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionInfo,
  type IrqAction,
  type IrqSetData,
} from "../../src/vfio/index.js";
import {
  Command,
  encodeDeviceFeature,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeRegionAccess,
  encodeRegionIoFds,
  encodeVersion,
  encodeWriteMulti,
} from "../../src/vfio-user/index.js";
import { message } from "../vfio_user/raw_client.js";
import type { Random } from "./random.js";

/** Descriptors that a client may think of; what each is, `makeFds` in attack.ts says. */
export type FdKind = "event" | "guest" | "shrinking" | "readonly" | "socket" | "pipe" | "self";

/** Bytes to be sent, and what goes along. */
export interface HostileMessage {
  bytes: Uint8Array;
  fds: FdKind[];
}

const FD_KINDS = ["event", "guest", "shrinking", "readonly", "socket", "pipe", "self"] as const;
/** Sizes of the attacked device's regions. */
const REGION_SIZES = [2 << 20, 4096, 1 << 16, 16, 4096, 0, 0, 256, 0, 2 ** 37] as const;
const IRQ_COUNTS = [1, 4, 64] as const;
const ACTIONS = ["mask", "unmask", "trigger"] as const satisfies readonly IrqAction[];
/** Where the guest's memory is taken to be. */
const PAGES = [0n, 0x1000n, 0x2000n, 0x3000n, 0x4000n, 0x10_0000n, 1n << 40n, (1n << 64n) - 0x1000n] as const;

/** Values at which mistakes happen. */
function edge(random: Random): bigint {
  const bits = random.pick([0, 3, 4, 8, 12, 16, 20, 21, 31, 32, 37, 40, 52, 53, 63, 64]);
  return BigInt.asUintN(64, (1n << BigInt(bits)) + BigInt(random.below(5)) - 2n);
}

/** Mostly right: one of a few indexes, of which the last ones are not there. */
function index(random: Random, count: number): number {
  return random.once(8) ? Number(BigInt.asUintN(32, edge(random))) : random.below(count + 1);
}

function argsz(random: Random, fixed: number): number {
  return random.pick([fixed, fixed, fixed - 1, fixed + 40, 4096, 0xffffffff]);
}

/** An access within a region, up to one of its ends, or just beyond. */
function regionAccess(random: Random): { offset: bigint; region: number; count: number } {
  const region = random.below(REGION_SIZES.length);
  const size = REGION_SIZES[region] ?? 0;
  const count = random.pick([1, 2, 4, 4, 4, 8, 16, 64, 4096, random.once(20) ? 1 << 20 : 3]);
  const offset = random.pick([0, 0, size - count, size - count + 1, size, random.below(Math.max(1, size))]);
  return { offset: BigInt(Math.max(0, offset)), region, count };
}

function irqSet(random: Random): { payload: Uint8Array; fds: FdKind[] } {
  const which = random.below(IRQ_COUNTS.length);
  const most = IRQ_COUNTS[which] ?? 1;
  const count = random.once(5) ? 0 : 1 + random.below(Math.min(16, most));
  const start = random.below(most - Math.min(count, most) + 1);
  const kind = random.pick(["none", "bool", "eventfd", "eventfd"] as const);
  const values = Array.from({ length: count }, () => random.once(2));
  const data: IrqSetData = kind === "bool" ? { kind, values } : { kind };
  const payload = encodeIrqSet({ index: which, start, count, action: random.pick(ACTIONS), data });
  return { payload, fds: kind === "eventfd" && !random.once(4) ? new Array<FdKind>(count).fill("event") : [] };
}

/** The payload of a command as it should be, and the descriptors that belong to it. */
function validPayload(random: Random, command: number): { payload: Uint8Array; fds: FdKind[] } {
  const plain = (payload: Uint8Array) => ({ payload, fds: [] });
  switch (command) {
    case Command.VERSION:
      return plain(encodeVersion({ major: 0, minor: 0, capabilities: { maxMsgFds: 16 } }));
    case Command.DMA_MAP: {
      const size = random.pick([0x1000n, 0x1000n, 0x2000n, 100n, 1n, 1n << 20n, edge(random)]);
      const offset = random.pick([0n, 0n, 0x1000n, 12n, edge(random)]);
      const address = random.pick(PAGES) + (random.once(5) ? 7n : 0n);
      const fds: FdKind[] = random.once(3) ? [] : [random.pick(["guest", "guest", "shrinking", "readonly"])];
      const flags = random.pick([3, 3, 3, 1, 2, 0]);
      return { payload: encodeDmaMap({ argsz: 32, flags, offset, address: BigInt.asUintN(64, address), size }), fds };
    }
    case Command.DMA_UNMAP: {
      if (random.once(6)) return plain(encodeDmaUnmap({ argsz: 24, flags: 2, address: 0n, size: 0n }));
      const size = random.pick([0x1000n, 0x1000n, 0x2000n, 1n << 41n]);
      return plain(encodeDmaUnmap({ argsz: 24, flags: 0, address: random.pick(PAGES), size }));
    }
    case Command.DEVICE_GET_INFO:
      return plain(encodeDeviceInfo({ argsz: argsz(random, 16), flags: 0, numRegions: 0, numIrqs: 0 }));
    case Command.DEVICE_GET_REGION_INFO: {
      const fields = { flags: 0, index: index(random, 10), size: 0n, offset: 0n, capabilities: [] };
      const payload = encodeRegionInfo({ ...fields, argsz: 32 });
      new DataView(payload.buffer).setUint32(0, argsz(random, 32), true);
      return plain(payload);
    }
    case Command.DEVICE_GET_REGION_IO_FDS: {
      const payload = encodeRegionIoFds({ argsz: 16, flags: 0, index: index(random, 10), count: 0, subRegions: [] });
      new DataView(payload.buffer).setUint32(0, argsz(random, 16), true);
      return plain(payload);
    }
    case Command.DEVICE_GET_IRQ_INFO:
      return plain(encodeIrqInfo({ argsz: argsz(random, 16), flags: 0, index: index(random, 5), count: 0 }));
    case Command.DEVICE_SET_IRQS:
      return irqSet(random);
    case Command.REGION_READ:
      return plain(encodeRegionAccess(regionAccess(random)));
    case Command.REGION_WRITE: {
      const access = regionAccess(random);
      return plain(concat(encodeRegionAccess(access), new Uint8Array(access.count).fill(random.u32())));
    }
    case Command.REGION_WRITE_MULTI: {
      const write = () => ({ ...regionAccess(random), data: random.bytes(1 + random.below(8)) });
      return plain(encodeWriteMulti(Array.from({ length: random.below(5) }, write)));
    }
    case Command.DEVICE_FEATURE:
      return plain(encodeDeviceFeature({ argsz: 8, flags: random.u32(), data: random.bytes(random.below(20)) }));
    case Command.DEVICE_RESET:
      return plain(new Uint8Array(0));
    default:
      return plain(random.bytes(random.below(40)));
  }
}

const COMMANDS = [1, 2, 2, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 12, 15, 16, 17, 18] as const;

/** Changes one thing about a message. */
const MUTATIONS: ((random: Random, message: HostileMessage) => void)[] = [
  // A length, count, index, offset or flag of the payload, which are 4 or 8 bytes each and aligned.
  ...new Array<(random: Random, message: HostileMessage) => void>(4).fill((random, { bytes }) => {
    const words = (bytes.length >>> 2) - 4;
    if (words < 1) return;
    const at = 16 + 4 * random.below(Math.min(words, 12));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (random.once(2) && at + 8 <= bytes.length) view.setBigUint64(at, edge(random), true);
    else view.setUint32(at, Number(BigInt.asUintN(32, edge(random))), true);
  }),
  // The end is missing, or too much is there; the header says so.
  (random, message) => resize(message, message.bytes.subarray(0, 16 + random.below(message.bytes.length - 15))),
  (random, message) => resize(message, concat(message.bytes, random.bytes(1 + random.below(40)))),
  // Any bits.
  (random, { bytes }) => {
    const at = random.once(2) ? random.below(16) : random.below(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
  },
  // The header says something else than is there.
  (random, { bytes }) => {
    const size = random.pick([0, 15, 16, bytes.length - 1, bytes.length + 1, (1 << 20) + 32, (1 << 20) + 33]);
    new DataView(bytes.buffer).setUint32(4, random.once(4) ? random.u32() : size, true);
  },
  // Message type, No_reply, Error and unknown flags.
  (random, { bytes }) => {
    const flags = random.pick([0x10, 0x10, 0x10, 1, 0x21, 2, 0xf, 0x30, 0xffffffff]);
    new DataView(bytes.buffer).setUint32(8, flags, true);
  },
  // Another command with this payload.
  (random, { bytes }) => {
    new DataView(bytes.buffer).setUint16(2, random.once(3) ? random.u32() : random.pick(COMMANDS), true);
  },
  // Descriptors missing, of another kind, or too many.
  (random, message) => {
    const count = random.pick([0, 0, 1, 1, 2, 16, 17, 100, 253]);
    message.fds = Array.from({ length: count }, () => random.pick(FD_KINDS));
  },
  (random, message) => {
    if (message.fds.length > 0) message.fds[random.below(message.fds.length)] = random.pick(FD_KINDS);
  },
];

function concat(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function resize(message: HostileMessage, bytes: Uint8Array): void {
  message.bytes = bytes.slice();
  new DataView(message.bytes.buffer).setUint32(4, message.bytes.length, true);
}

/** A message that is right, or was before up to three things about it were changed. Resets are rare: they take time. */
export function hostileMessage(random: Random): HostileMessage {
  const command = random.once(100)
    ? Command.DEVICE_RESET
    : random.once(40)
      ? random.below(65536)
      : random.pick(COMMANDS);
  const { payload, fds } = validPayload(random, command);
  const made = { bytes: message(command, payload, { id: random.below(65536) }), fds };
  for (let left = random.pick([0, 0, 1, 1, 1, 2, 3]); left > 0; left--) {
    MUTATIONS[random.below(MUTATIONS.length)]?.(random, made);
  }
  return made;
}
