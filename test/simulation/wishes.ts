import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE } from "../../src/machine/part.js";
import type { Fd } from "../../src/os/index.js";
import { encodeIrqInfo, encodeIrqSet, encodeRegionInfo, type IrqSetData } from "../../src/vfio/index.js";
import { encodeDmaMap, encodeDmaUnmap } from "../../src/vfio-user/dma_message.js";
import { Command, FLAG_NO_REPLY, FLAG_TYPE_MASK, FLAG_TYPE_REPLY } from "../../src/vfio-user/header.js";
import {
  decodeRegionAccess,
  encodeRegionAccess,
  encodeWriteMulti,
  REGION_ACCESS_SIZE,
} from "../../src/vfio-user/region_access.js";
import { encodeVersion } from "../../src/vfio-user/version.js";
import { NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER } from "../../src/virtual/interrupt_registers.js";
import { BAR0_WINDOW_START, NV_PBUS_BAR0_WINDOW } from "../../src/virtual/memory_window.js";
import { PEER_BASE, PEER_LINK, PEER_WINDOW_START } from "../../src/virtual/peer_window.js";
import { NV_PTIMER_ALARM_0, NV_PTIMER_INTR_EN_0 } from "../../src/virtual/timer_registers.js";
import { type FdKind, hostileMessage } from "../fuzz/hostile_message.js";
import type { Random } from "../fuzz/random.js";
import { message } from "../vfio_user/raw_client.js";
import type { Outgoing, SimulatedClient } from "./client.js";
import { type MemoryTokens, TOKEN_SIZE } from "./memory_tokens.js";

const CONFIG = 7;
/** Memory that clients use: little, so that they come across what others have left. */
const USED = 4096;
const PRI_RING = [
  [0x12004c, 4],
  [0x122204, 2],
] as const;
const LINKS_OF_ANY_PART = 12;
const VERSION = encodeVersion({ major: 0, minor: 0, capabilities: { maxMsgFds: 16, writeMultiple: true } });
const ASK_REGION = encodeRegionInfo({ argsz: 32, flags: 0, index: 1, size: 0n, offset: 0n, capabilities: [] });
const PAGES = [0n, 0x1000n, 0x2000n, 0x3000n, 1n << 40n] as const;

/** What a client may wish to be told of. */
export interface Listener {
  /** The server has let the client in. */
  onOpen(client: SimulatedClient): void;
  /** The client was given a file of memory, which it keeps. */
  onMapping(client: SimulatedClient, fd: Fd): void;
}

/** A client's next message. */
export function nextMessage(
  random: Random,
  client: SimulatedClient,
  tokens: MemoryTokens,
  listener: Listener,
): Outgoing {
  if (random.once(60)) return hostile(random);
  if (client.session === undefined && !client.awaits(Command.VERSION)) {
    return firstMessage(client, listener);
  }
  if (client.session !== undefined && !client.decodes && !random.once(4)) return powerOn(client);
  return wish(random, client, tokens, listener);
}

/** The message with which a client asks to be let in. */
export function firstMessage(client: SimulatedClient, listener: Listener): Outgoing {
  return made(client, Command.VERSION, VERSION, { onReply: () => listener.onOpen(client) });
}

function made(client: SimulatedClient, command: number, payload: Uint8Array, more: Partial<Outgoing> = {}): Outgoing {
  const { wantsReply = true, fds = [] } = more;
  const bytes = message(command, payload, { id: client.nextId(), flags: wantsReply ? 0 : FLAG_NO_REPLY });
  return { command, bytes, isSound: true, ...more, wantsReply, fds };
}

/** The test server's device is another one, but what is wrong about a message is wrong here too. */
function hostile(random: Random): Outgoing {
  const { bytes, fds } = hostileMessage(random);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const flags = view.getUint32(8, true);
  const wantsReply = (flags & FLAG_TYPE_MASK) !== FLAG_TYPE_REPLY && (flags & FLAG_NO_REPLY) === 0;
  const harmless: FdKind[] = fds
    .slice(0, 20)
    .map((kind) => (kind === "guest" || kind === "shrinking" ? kind : "event"));
  return { bytes, fds: harmless, command: view.getUint16(2, true), isSound: false, wantsReply };
}

/** Gives BAR0 an address and has it decoded, as firmware does. */
function powerOn(client: SimulatedClient): Outgoing {
  const bar = { offset: 0x10n, region: CONFIG, data: word(0x5a000000) };
  const command = { offset: 4n, region: CONFIG, data: Uint8Array.of(6, 0) };
  client.decodes = true;
  return made(client, Command.REGION_WRITE_MULTI, encodeWriteMulti([bar, command]));
}

type Wish = (random: Random, client: SimulatedClient, tokens: MemoryTokens, listener: Listener) => Outgoing;

const WISHES: readonly (readonly [weight: number, wish: Wish])[] = [
  [8, (random, client, tokens) => writeMemory(random, client, tokens, memoryRegion(client), below(random))],
  [8, (random, client, tokens) => readMemory(random, client, tokens, memoryRegion(client), below(random))],
  [3, (random, client, tokens) => writeMemory(random, client, tokens, 0, BAR0_WINDOW_START + below(random))],
  [3, (random, client, tokens) => readMemory(random, client, tokens, 0, BAR0_WINDOW_START + below(random))],
  [6, (random, client, tokens) => writeMemory(random, client, tokens, 0, PEER_WINDOW_START + below(random))],
  [6, (random, client, tokens) => readMemory(random, client, tokens, 0, PEER_WINDOW_START + below(random))],
  [6, (random, client) => setRegister(random, client, PEER_LINK, random.below(LINKS_OF_ANY_PART))],
  [2, (random, client) => setRegister(random, client, random.pick([PEER_BASE, NV_PBUS_BAR0_WINDOW]), random.below(2))],
  [6, cuttingRegister],
  [
    3,
    (random, client) =>
      read(client, 0, random.pick([NV_PMC_BOOT_0, NV_PMC_ENABLE, LINK_DISABLE, random.below(1 << 22) << 2]), 4),
  ],
  [3, configAccess],
  [2, (random, client) => read(client, CONFIG, random.below(250), 1 + random.below(4))],
  [3, dmaMap],
  [2, dmaUnmap],
  [3, setIrqs],
  [2, alarm],
  [4, (_, client) => reset(client)],
  [
    3,
    (_, client, __, listener) =>
      made(client, Command.DEVICE_GET_REGION_INFO, asking(client), {
        onReply: (_payload, fds) => keep(client, fds, listener),
      }),
  ],
  [
    1,
    (random, client) =>
      made(
        client,
        Command.DEVICE_GET_IRQ_INFO,
        encodeIrqInfo({ argsz: 16, flags: 0, index: random.below(6), count: 0 }),
      ),
  ],
  [1, (_, client) => made(client, Command.DEVICE_FEATURE, new Uint8Array(8))],
];
const ALL = WISHES.flatMap(([weight, each]) => new Array<Wish>(weight).fill(each));

function wish(random: Random, client: SimulatedClient, tokens: MemoryTokens, listener: Listener): Outgoing {
  return (ALL[random.below(ALL.length)] as Wish)(random, client, tokens, listener);
}

function below(random: Random): number {
  return random.below(USED / TOKEN_SIZE) * TOKEN_SIZE;
}

/** A bridge may show its GPU's memory as BAR4. */
function memoryRegion({ served }: SimulatedClient): number {
  return served.kind === "gpu" ? 1 : 4;
}

function writeMemory(
  random: Random,
  client: SimulatedClient,
  tokens: MemoryTokens,
  region: number,
  offset: number,
): Outgoing {
  if (client.session === undefined) return read(client, region, offset, 4);
  return write(
    random,
    client,
    region,
    offset,
    tokens.bytes(client.session, random.pick([8, 8, 64, random.once(8) ? 65_536 - (offset % 65_536) : 128])),
  );
}

function readMemory(
  random: Random,
  client: SimulatedClient,
  tokens: MemoryTokens,
  region: number,
  offset: number,
): Outgoing {
  const count = random.pick([8, 64, USED]);
  const payload = encodeRegionAccess({ offset: BigInt(offset), region, count });
  const { session, gone } = client;
  const onReply = (data: Uint8Array) =>
    session && tokens.check(data.slice(REGION_ACCESS_SIZE), session, region === 1 ? gone : undefined);
  return made(client, Command.REGION_READ, payload, { onReply });
}

function read(client: SimulatedClient, region: number, offset: number, count: number): Outgoing {
  const onReply = (data: Uint8Array) => void decodeRegionAccess(data);
  return made(client, Command.REGION_READ, encodeRegionAccess({ offset: BigInt(offset), region, count }), { onReply });
}

function write(random: Random, client: SimulatedClient, region: number, offset: number, data: Uint8Array): Outgoing {
  const access = encodeRegionAccess({ offset: BigInt(offset), region, count: data.length });
  return made(client, Command.REGION_WRITE, concat(access, data), { wantsReply: !random.once(6) });
}

function setRegister(random: Random, client: SimulatedClient, offset: number, value: number): Outgoing {
  return write(random, client, 0, offset, word(value));
}

/** The registers that cut links, and those without which they cannot be reached: alone, in part, and with their neighbours. */
function cuttingRegister(random: Random, client: SimulatedClient): Outgoing {
  const ga100 = ga100LinkRegisters(random.below(LINKS_OF_ANY_PART));
  const offset = random.pick([
    LINK_DISABLE,
    LINK_DISABLE,
    NV_PMC_ENABLE,
    NV_PMC_ENABLE,
    ga100.block,
    ga100.lock,
    0x12004c,
    0x122204,
  ]);
  const value = random.pick([0, 0xffffffff, 1, 0x42000120, 0x3f0000, random.u32(), 0xbadf1100]);
  if (random.once(4)) return write(random, client, 0, offset - random.below(8), random.bytes(1 + random.below(16)));
  if (random.once(4)) {
    const ring = PRI_RING.map(([at, of]) => ({ offset: BigInt(at), region: 0, data: word(of) }));
    return made(
      client,
      Command.REGION_WRITE_MULTI,
      encodeWriteMulti([...ring, { offset: BigInt(offset), region: 0, data: word(value) }]),
    );
  }
  return setRegister(random, client, offset, value);
}

function configAccess(random: Random, client: SimulatedClient): Outgoing {
  client.decodes = false;
  const offset = random.pick([4, 4, 4, 0x10, 0x14, 0x6a, random.below(256)]);
  return write(
    random,
    client,
    CONFIG,
    offset,
    random.pick([Uint8Array.of(0, 0), Uint8Array.of(6, 0), random.bytes(4), word(0xffffffff)]),
  );
}

function dmaMap(random: Random, client: SimulatedClient): Outgoing {
  const size = random.pick([0x1000n, 0x1000n, 0x2000n, 0x10_0000n]);
  const fds: FdKind[] = random.once(3) ? [] : ["guest"];
  const payload = encodeDmaMap({
    argsz: 32,
    flags: random.pick([3, 3, 1]),
    offset: random.pick([0n, 0x1000n]),
    address: random.pick(PAGES),
    size,
  });
  return made(client, Command.DMA_MAP, payload, { fds });
}

function dmaUnmap(random: Random, client: SimulatedClient): Outgoing {
  const all = random.once(4);
  const payload = all
    ? encodeDmaUnmap({ argsz: 24, flags: 2, address: 0n, size: 0n })
    : encodeDmaUnmap({
        argsz: 24,
        flags: 0,
        address: random.pick(PAGES),
        size: random.pick([0x1000n, 0x2000n, 1n << 41n]),
      });
  return made(client, Command.DMA_UNMAP, payload);
}

function setIrqs(random: Random, client: SimulatedClient): Outgoing {
  const index = random.below(3);
  const action = random.pick(["trigger", "trigger", "mask", "unmask"] as const);
  const data = random.pick<IrqSetData>([{ kind: "eventfd" }, { kind: "none" }, { kind: "bool", values: [true] }]);
  const fds: FdKind[] = data.kind === "eventfd" ? ["event"] : [];
  return made(client, Command.DEVICE_SET_IRQS, encodeIrqSet({ index, start: 0, count: 1, action, data }), { fds });
}

function alarm(random: Random, client: SimulatedClient): Outgoing {
  const values = [
    [NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER],
    [NV_PTIMER_INTR_EN_0, 1],
    [NV_PTIMER_ALARM_0, random.u32()],
  ] as const;
  return made(
    client,
    Command.REGION_WRITE_MULTI,
    encodeWriteMulti(values.map(([at, value]) => ({ offset: BigInt(at), region: 0, data: word(value) }))),
  );
}

function reset(client: SimulatedClient): Outgoing {
  client.decodes = false;
  return made(client, Command.DEVICE_RESET, new Uint8Array(0));
}

function asking({ served }: SimulatedClient): Uint8Array {
  const payload = ASK_REGION.slice();
  const view = new DataView(payload.buffer);
  view.setUint32(0, 4096, true);
  view.setUint32(8, served.kind === "gpu" ? 1 : 4, true);
  return payload;
}

function keep(client: SimulatedClient, fds: Fd[], listener: Listener): void {
  const [fd] = fds.splice(0, 1);
  if (fd !== undefined) listener.onMapping(client, fd);
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value >>> 0).buffer);
}

function concat(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
