import { readdirSync } from "node:fs";
import { createEventfd, NativeMemory, SocketMessenger, socketPair, WOULD_BLOCK } from "../../../../src/os/index.js";
import { VfioError } from "../../../../src/vfio/index.js";
import { Command, HEADER_SIZE } from "../../../../src/vfio-user/index.js";
import { MessageStream } from "../../../../src/vfio-user/message_stream.js";
import { RegionMessages, smallReplies } from "../../../../src/vfio-user/region_messages.js";
import { MAX_MESSAGE, MAX_MSG_FDS } from "../../../../src/vfio-user/server_limits.js";
import { hostileMessage } from "../../hostile_message.js";
import { Random } from "../../random.js";
import { device } from "../bounded_device.js";
import { BYTE_MUTATIONS } from "../mutation.js";
import { Finding, type MakeTarget } from "../target.js";

/** A piece of the input: how many descriptors go along, whether the other end reads then, and its length. */
const PIECE_SIZE = 3;
const FDS = 0x1f;
const SOCKET = 0x20;
const READ = 0x40;

/**
 * Messages cut into pieces, with descriptors, sent through a socket pair: the stream has to give back the messages that
 * are in the bytes, refuse where they make no sense, and leave no descriptor open.
 */
export const makeTarget: MakeTarget = () => {
  const shared = {
    messenger: new SocketMessenger(),
    reply: new NativeMemory(MAX_MESSAGE),
    out: new NativeMemory(1 << 20),
  };
  const event = createEventfd();
  return {
    modules: ["/src/vfio-user/message_stream", "/src/vfio-user/region_messages", "/src/vfio-user/commands"],
    seeds,
    mutations: BYTE_MUTATIONS,
    grown,
    async run(input, use) {
      const before = use === "commands" ? openDescriptors() : 0;
      const connection = new Connection(shared, event.number, input.length);
      try {
        for (let at = 0; at + PIECE_SIZE <= input.length && !connection.refused; ) {
          const [flags = 0, high = 0, low = 0] = input.subarray(at, at + PIECE_SIZE);
          at += PIECE_SIZE;
          const bytes = input.subarray(at, at + ((high << 8) | low));
          at += bytes.length;
          connection.send(bytes, flags);
        }
        connection.read();
      } finally {
        connection.close();
      }
      const left = use === "commands" ? openDescriptors() - before : 0;
      if (left > 0) throw new Finding(`${left} descriptors are left open`);
      return !connection.refused;
    },
  };
};

interface Shared {
  messenger: SocketMessenger;
  /** Where replies are built, and where pieces are sent from. */
  reply: NativeMemory;
  out: NativeMemory;
}

class Connection {
  /** The stream said that what it received is no message. */
  refused = false;
  readonly #far: ReturnType<typeof socketPair>[0];
  readonly #stream: MessageStream;
  readonly #regions: RegionMessages;
  /** All bytes sent so far; up to `given` they have been seen in a message. */
  readonly #sent: Buffer;
  #length = 0;
  #given = 0;

  /** @param room bytes that will be sent at most */
  constructor(
    private readonly shared: Shared,
    private readonly event: number,
    room: number,
  ) {
    this.#sent = Buffer.alloc(room);
    const [near, far] = socketPair();
    this.#far = far;
    this.#stream = new MessageStream(near, shared.messenger, MAX_MESSAGE, MAX_MSG_FDS);
    this.#regions = new RegionMessages(device, this.#stream, shared.reply, smallReplies(shared.reply));
  }

  send(bytes: Uint8Array, flags: number): void {
    const { messenger, out } = this.shared;
    const fds = new Array<number>(flags & FDS).fill((flags & SOCKET) === 0 ? this.event : this.#far.number);
    out.bytes.set(bytes);
    for (let at = 0; at < bytes.length && !this.refused; ) {
      const [address, left] = [out.address + at, bytes.length - at];
      const count =
        fds.length === 0 || at > 0
          ? messenger.send(this.#far.number, address, left)
          : messenger.sendWithFds(this.#far.number, address, left, fds);
      if (count === WOULD_BLOCK) this.read();
      else {
        this.#sent.set(bytes.subarray(at, at + count), this.#length);
        this.#length += count;
        at += count;
      }
    }
    if ((flags & READ) !== 0) this.read();
  }

  /** Receives all that is there, as a session does. */
  read(): void {
    for (let more = !this.refused; more && !this.refused; ) {
      while (this.#next()) this.#message();
      more = !this.refused && this.#stream.receive() > 0;
    }
    if (!this.refused && this.#size() <= this.#length - this.#given)
      throw new Finding("a message was received and not given");
  }

  close(): void {
    this.#stream.close();
    this.#far.close();
  }

  /** Bytes of the message that the bytes sent begin with; infinite when its header is not all there. */
  #size(): number {
    const there = this.#length - this.#given;
    return there < HEADER_SIZE ? Number.POSITIVE_INFINITY : this.#sent.readUInt32LE(this.#given + 4);
  }

  #next(): boolean {
    try {
      return this.#stream.next();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      const size = this.#size();
      if (size >= HEADER_SIZE && size <= MAX_MESSAGE) throw new Finding(`refused, and it has ${size} bytes`);
      this.refused = true;
      return false;
    }
  }

  #message(): void {
    const { bytes, at, size } = this.#stream;
    const message = Buffer.from(bytes.subarray(at, at + size));
    if (size !== this.#size() || !message.equals(this.#sent.subarray(this.#given, this.#given + size))) {
      throw new Finding(`${size} bytes are given that are not those sent`);
    }
    this.#given += size;
    try {
      const command = message.readUInt16LE(2);
      if (command === Command.REGION_READ && !this.#stream.hasFds) this.#regions.read(1, false);
      else if (command === Command.REGION_WRITE && !this.#stream.hasFds) this.#regions.write(1, false);
      else if (command % 2 === 0) for (const fd of this.#stream.takeFds()) fd.close();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    }
  }
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function piece(bytes: Uint8Array, flags: number): Uint8Array {
  return Buffer.concat([Uint8Array.from([flags, bytes.length >> 8, bytes.length]), bytes]);
}

/** Hostile messages, whole and in pieces. */
function seeds(): Uint8Array[] {
  return Array.from({ length: 40 }, (_, seed) => {
    const random = new Random(seed);
    const count = 1 + random.below(4);
    const pieces = Array.from({ length: count }, () => cut(hostileMessage(random).bytes.subarray(0, 4096), random));
    return Buffer.concat(pieces.flat());
  });
}

function cut(bytes: Uint8Array, random: Random): Uint8Array[] {
  const at = random.once(2) ? bytes.length : random.below(bytes.length);
  const flags = () => (random.once(3) ? random.below(256) : random.once(2) ? READ : 0);
  return [bytes.subarray(0, at), bytes.subarray(at)]
    .filter(({ length }) => length > 0)
    .map((part) => piece(part, flags()));
}

/** One large message in small pieces, or many small ones, with descriptors here and there. */
function grown(random: Random, size: number): Uint8Array {
  const large = random.once(2);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + HEADER_SIZE <= size; at += large ? size : HEADER_SIZE) {
    bytes.writeUInt32LE(large ? size : HEADER_SIZE, at + 4);
  }
  const flags = random.once(2) ? READ | 1 : READ;
  const parts = Array.from({ length: Math.ceil(size / 64) }, (_, at) => bytes.subarray(64 * at, 64 * at + 64));
  return Buffer.concat(parts.map((part) => piece(part, flags)));
}
