import {
  connectUnix,
  createEventfd,
  createMemfd,
  type Fd,
  NativeMemory,
  OsError,
  SocketMessenger,
  WOULD_BLOCK,
} from "../../src/os/index.js";
import type { PciAddress } from "../../src/pci/address.js";
import { VfioError } from "../../src/vfio/index.js";
import {
  Command,
  commandName,
  decodeHeader,
  FLAG_ERROR,
  FLAG_TYPE_MASK,
  FLAG_TYPE_REPLY,
  HEADER_SIZE,
} from "../../src/vfio-user/header.js";
import { MessageStream } from "../../src/vfio-user/message_stream.js";
import type { FdKind } from "../fuzz/hostile_message.js";
import type { Random } from "../fuzz/random.js";
import { clock } from "./clock.js";
import { Finding } from "./finding.js";
import type { Session } from "./memory_tokens.js";
import type { Connected, SystemCalls } from "./system_calls.js";

const MAX_FROM_SERVER = 4 << 20;
const MAX_PIPELINED = 6;
/** A little less than servers wait for who takes nothing, in milliseconds. */
const SLOW = 900;

/** Whom a client connects to. */
export interface ServedPath {
  readonly path: string;
  readonly address: PciAddress;
  readonly kind: "gpu" | "bridge";
  /** For a person. */
  readonly name: string;
}

/** A message that is to be sent, or is being. */
export interface Outgoing {
  readonly bytes: Uint8Array;
  readonly fds: readonly FdKind[];
  readonly command: number;
  /** Whether it is as the protocol has it, so that what the server answers can be held against it. */
  readonly isSound: boolean;
  readonly wantsReply: boolean;
  /** Told of the reply, unless it says that the command failed. */
  readonly onReply?: (payload: Uint8Array, fds: Fd[]) => void;
}

interface Due {
  readonly id: number;
  readonly message: Outgoing;
  readonly since: number;
}

const messenger = { of: undefined as SocketMessenger | undefined };
let scratch: NativeMemory | undefined;

/**
 * A client that sends its messages byte by byte, if it comes to that, and knows which replies it is owed. It is a state only:
 * what it does next, somebody else decides.
 */
export class SimulatedClient implements Connected {
  broken = false;
  held = false;
  session: Session | undefined;
  /** Sessions that were over when its own began. */
  gone: ReadonlySet<number> = new Set();
  /** Whether its guest has given BAR0 an address and switched memory decoding on. */
  decodes = false;
  isClosed = false;
  /** When it last took what had come it had not for so long that a server may have given it up for another. */
  wasSlow = false;
  #tookAt = clock.now;
  readonly #stream: MessageStream;
  /** Everything it has sent was sound, so the server's every answer is known. */
  #trusted = true;
  #due: Due[] = [];
  #out: { message: Outgoing; at: number } | undefined;
  #nextId = 1;
  readonly #fds = new Map<FdKind, Fd>();

  /** @throws {OsError} when nobody listens */
  constructor(
    readonly served: ServedPath,
    readonly label: string,
    calls: SystemCalls,
    /** Whom it has connected to, whoever else there may be later. */
    readonly server: object | undefined,
  ) {
    messenger.of ??= new SocketMessenger();
    calls.connecting = this;
    this.#stream = new MessageStream(connectUnix(served.path), messenger.of, MAX_FROM_SERVER, 16, true);
  }

  get due(): readonly Due[] {
    return this.#due;
  }

  get isSending(): boolean {
    return this.#out !== undefined;
  }

  /** What it is sending, in words. */
  get sending(): string {
    const out = this.#out;
    return out === undefined
      ? "nothing"
      : `${out.message.isSound ? "" : "a hostile "}${commandName(out.message.command)}, ${out.message.bytes.length - out.at} left`;
  }

  get mayBegin(): boolean {
    return this.#out === undefined && this.#due.length < MAX_PIPELINED;
  }

  /** It waits for a reply to this. */
  awaits(command: number): boolean {
    return this.#due.some(({ message }) => message.command === command);
  }

  nextId(): number {
    this.#nextId = (this.#nextId + 1) & 0xffff;
    return this.#nextId;
  }

  begin(message: Outgoing): void {
    this.#out = { message, at: 0 };
  }

  /**
   * Sends up to so many bytes of its message. What goes along goes with the first.
   * @returns bytes sent, undefined when the connection has ended
   */
  send(most: number): number | undefined {
    const out = this.#out;
    if (out === undefined) return 0;
    const { message, at } = out;
    const some = message.bytes.subarray(at, at + most);
    scratch ??= new NativeMemory(1 << 21);
    scratch.bytes.set(some);
    const fds = at === 0 ? message.fds.flatMap((kind) => this.#fd(kind)) : [];
    let count: number;
    try {
      const socket = this.#stream.socket.number;
      const sender = this.#stream.messenger;
      count =
        fds.length === 0
          ? sender.send(socket, scratch.address, some.length)
          : sender.sendWithFds(socket, scratch.address, some.length, fds);
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      return undefined;
    }
    if (count === WOULD_BLOCK) return 0;
    if (!message.isSound) this.#trusted = false;
    out.at += count;
    if (out.at === message.bytes.length) this.#sent(message);
    return count;
  }

  /** Sends as much of its message as the server takes at this moment. */
  finish(): void {
    while (this.isSending && (this.send(1 << 21) ?? 0) > 0);
  }

  /**
   * Takes what has come.
   * @param most messages
   * @returns how many messages, undefined when the connection has ended
   * @throws Finding for a message that is not what is due
   */
  receive(most: number): number | undefined {
    this.wasSlow = clock.now - this.#tookAt > SLOW;
    this.#tookAt = clock.now;
    for (let taken = 0; ; ) {
      while (taken < most && this.#next()) {
        this.#take();
        taken++;
      }
      if (taken >= most) return taken;
      try {
        const count = this.#stream.receive();
        if (count === 0) return undefined;
        if (count === WOULD_BLOCK) return taken;
      } catch (error) {
        if (error instanceof OsError) return undefined;
        throw error;
      }
    }
  }

  /** Whether the server may end this connection at this moment, or leave out a reply, whatever was agreed. */
  get isExcused(): boolean {
    return this.broken || !this.#trusted || this.session === undefined;
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.session !== undefined) this.session.ended = true;
    this.#stream.close();
    for (const fd of this.#fds.values()) fd.close();
    this.#fds.clear();
  }

  #sent(message: Outgoing): void {
    this.#out = undefined;
    if (message.wantsReply) {
      const id = decodeHeader(message.bytes.subarray(0, HEADER_SIZE)).id;
      this.#due.push({ id, message, since: clock.now });
    }
  }

  #next(): boolean {
    try {
      return this.#stream.next();
    } catch (error) {
      if (error instanceof VfioError)
        throw new Finding(`${this.label}: the server's message makes no sense: ${error.message}`);
      throw error;
    }
  }

  #take(): void {
    const { bytes, at } = this.#stream;
    const header = decodeHeader(bytes.subarray(at, at + HEADER_SIZE));
    const fds = this.#stream.takeFds();
    const payload = this.#stream.payload();
    const what = `${this.label}: a reply to ${commandName(header.command)}, id ${header.id}`;
    const due = this.#due.shift();
    try {
      if (!this.#trusted) return;
      if ((header.flags & FLAG_TYPE_MASK) !== FLAG_TYPE_REPLY) throw new Finding(`${what} that is no reply`);
      if (due === undefined) throw new Finding(`${what}, which is not due`);
      if (due.id !== header.id || due.message.command !== header.command) {
        throw new Finding(`${what}, where ${commandName(due.message.command)}, id ${due.id}, was to be answered`);
      }
      const refused = (header.flags & FLAG_ERROR) !== 0;
      if (refused !== (header.error !== 0))
        throw new Finding(`${what} with flags ${header.flags} and error ${header.error}`);
      if (!refused) due.message.onReply?.(payload, fds);
      if (due.message.command === Command.VERSION && refused) this.#trusted = false;
    } finally {
      for (const fd of fds) if (fd.isOpen) fd.close();
    }
  }

  #fd(kind: FdKind): number[] {
    const known = this.#fds.get(kind);
    const fd =
      known ??
      (kind === "guest" || kind === "shrinking"
        ? createMemfd(kind, 1 << 21, kind === "guest" ? undefined : 0)
        : createEventfd());
    this.#fds.set(kind, fd);
    return [fd.number];
  }
}

/** How a client's next piece is cut off: often all of what is left, sometimes a byte. */
export function pieceOf(random: Random): number {
  return random.pick([1, 1 + random.below(15), 16, 1 + random.below(60), 1 << 21, 1 << 21, 1 << 21]);
}
