import { duplicateFd, type Fd, NativeMemory, type SocketMessenger, WOULD_BLOCK } from "../os/index.js";
import { VfioError } from "../vfio/index.js";
import { HEADER_MESSAGE_SIZE, HEADER_SIZE } from "./header.js";

/** Enough for every small message; a stream grows when a header announces more. */
const INITIAL_CAPACITY = 8192;
const S_IFMT = 0o170000n;
const S_IFSOCK = 0o140000n;

interface PendingFds {
  /** Index in the buffer of the last byte that was received with them. */
  at: number;
  fds: Fd[];
  /** Why the message they came with must be refused: more than are allowed, a socket (closed), or lost by the kernel. */
  damage?: "too many" | "socket" | "lost";
}

interface QueuedMessage {
  memory: NativeMemory;
  sent: number;
  fds: Fd[];
}

/**
 * Whole messages in and out of a non-blocking socket. Receiving never waits and keeps what is incomplete; sending never
 * waits and keeps what the peer does not take. In the steady state nothing is allocated: messages are read in place.
 */
export class MessageStream {
  #memory = new NativeMemory(INITIAL_CAPACITY);
  #start = 0;
  #end = 0;
  #size = 0;
  #pendingFds: PendingFds[] = [];
  #queue: QueuedMessage[] = [];
  #queuedBytes = 0;
  /** Called when the peer has not taken all of a message: {@link flush} is to be called when it can take more. */
  onQueued: () => void = () => {};

  /**
   * @param socket owned by the stream from now on
   * @param maxMessage the largest message accepted, in bytes
   * @param maxFds descriptors accepted with one message; further ones are closed
   * @param acceptsSockets whether sockets may be among them. A peer could send its own end of the connection, which
   * would not end with the peer while that is kept for the rest of a message.
   */
  constructor(
    readonly socket: Fd,
    readonly messenger: SocketMessenger,
    readonly maxMessage: number,
    readonly maxFds: number,
    readonly acceptsSockets = false,
  ) {}

  /** The buffer that holds the current message, at {@link at}. Changes when the buffer grows. */
  get view(): DataView {
    return this.#memory.view;
  }

  get bytes(): Uint8Array {
    return this.#memory.bytes;
  }

  /** Where the current message begins. */
  get at(): number {
    return this.#start;
  }

  /** Bytes of the current message, header included; 0 when there is none. */
  get size(): number {
    return this.#size;
  }

  /** The current message's payload, in place. */
  payload(): Uint8Array {
    return this.#memory.bytes.subarray(this.#start + HEADER_SIZE, this.#start + this.#size);
  }

  /** Whether descriptors came with the current message. */
  get hasFds(): boolean {
    return this.#pendingFds.length > 0 && this.#pendingFds.some(({ at }) => at < this.#start + this.#size);
  }

  /** Whether {@link next} has something to say: a complete message, or one that is refused. Ends the current one. */
  hasNext(): boolean {
    this.#drop();
    const there = this.#end - this.#start;
    if (there < HEADER_SIZE) return false;
    const size = this.#memory.view.getUint32(this.#start + HEADER_MESSAGE_SIZE, true);
    return size <= there || size > this.maxMessage;
  }

  /** Whether part of a message is there whose rest is missing. */
  get isPartial(): boolean {
    return this.#end > this.#start;
  }

  /**
   * Receives once, which ends the current message. No other complete one may be waiting.
   * @returns bytes received, 0 at the end of the stream, {@link WOULD_BLOCK} when nothing is there
   * @throws {OsError} when the connection is broken
   */
  receive(): number {
    this.#drop();
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
    } else if (this.#end === this.#memory.bytes.length) {
      this.#compact();
    }
    const room = this.#memory.bytes.length - this.#end;
    const count = this.messenger.receive(this.socket.number, this.#memory.address + this.#end, room);
    if (count > 0) this.#end += count;
    if (this.messenger.hasFds) this.#keepFds();
    return count;
  }

  /** Whether the last receive filled the buffer, so that more may be waiting. */
  get isFull(): boolean {
    return this.#end === this.#memory.bytes.length;
  }

  /**
   * Makes the next complete message current, instead of the one before.
   * @returns false when there is none yet
   * @throws {VfioError} EINVAL for a size below the header's, EMSGSIZE for one above the maximum: the stream is lost
   */
  next(): boolean {
    this.#drop();
    const there = this.#end - this.#start;
    if (there < HEADER_SIZE) return false;
    const size = this.#memory.view.getUint32(this.#start + HEADER_MESSAGE_SIZE, true);
    if (size < HEADER_SIZE) throw new VfioError("EINVAL", `message size ${size} is below the header's ${HEADER_SIZE}`);
    if (size > this.maxMessage) throw new VfioError("EMSGSIZE", `message size ${size} is above ${this.maxMessage}`);
    if (there < size) {
      if (size > this.#memory.bytes.length) this.#grow();
      return false;
    }
    this.#size = size;
    return true;
  }

  /**
   * The descriptors of the current message; the caller owns them.
   * @throws {VfioError} EINVAL when there were more than are allowed (all are closed), EMFILE when some were lost
   */
  takeFds(): Fd[] {
    if (this.#pendingFds.length === 0) return [];
    const end = this.#start + this.#size;
    const mine = this.#pendingFds.filter(({ at }) => at < end);
    this.#pendingFds = this.#pendingFds.filter(({ at }) => at >= end);
    const fds = mine.flatMap((pending) => pending.fds);
    const damage = mine.find((pending) => pending.damage !== undefined)?.damage;
    if (damage === undefined && fds.length <= this.maxFds) return fds;
    for (const fd of fds) fd.close();
    if (damage === "lost") throw new VfioError("EMFILE", "descriptors were lost: too many are open");
    if (damage === "socket") throw new VfioError("EINVAL", "a socket among the descriptors of a message");
    throw new VfioError("EINVAL", `more than ${this.maxFds} descriptors with one message`);
  }

  /** Bytes that wait for the peer to take them. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /**
   * Sends a message, or as much of it as goes, and queues a copy of the rest.
   * @param memory holds the message from its first byte on
   * @param fds go with the first byte; the caller keeps them
   * @throws {OsError} when the connection is broken
   */
  send(memory: NativeMemory, length: number, fds?: readonly number[]): void {
    let sent = 0;
    if (this.#queue.length === 0) {
      const socket = this.socket.number;
      sent =
        fds === undefined || fds.length === 0
          ? this.messenger.send(socket, memory.address, length)
          : this.messenger.sendWithFds(socket, memory.address, length, fds);
      if (sent === length) return;
      if (sent === WOULD_BLOCK) sent = 0;
    }
    const rest = new NativeMemory(length - sent);
    rest.bytes.set(memory.bytes.subarray(sent, length));
    const duplicates = sent === 0 ? (fds ?? []).map(duplicateFd) : [];
    this.#queue.push({ memory: rest, sent: 0, fds: duplicates });
    this.#queuedBytes += rest.bytes.length;
    this.onQueued();
  }

  /**
   * Sends what is queued.
   * @returns whether the queue is empty
   */
  flush(): boolean {
    for (let message = this.#queue[0]; message !== undefined; message = this.#queue[0]) {
      const { memory, sent, fds } = message;
      const left = memory.bytes.length - sent;
      const passed = sent === 0 ? fds.map((fd) => fd.number) : [];
      const address = memory.address + sent;
      const count =
        passed.length === 0
          ? this.messenger.send(this.socket.number, address, left)
          : this.messenger.sendWithFds(this.socket.number, address, left, passed);
      if (count === WOULD_BLOCK) return false;
      message.sent += count;
      this.#queuedBytes -= count;
      if (count < left) return false;
      this.#queue.shift();
      for (const fd of fds) fd.close();
    }
    return true;
  }

  /** Closes the socket and every descriptor that was not taken or not sent. */
  close(): void {
    for (const { fds } of [...this.#pendingFds, ...this.#queue]) for (const fd of fds) fd.close();
    this.#pendingFds = [];
    this.#queue = [];
    this.#queuedBytes = 0;
    this.socket.close();
  }

  #drop(): void {
    if (this.#size === 0) return;
    this.#start += this.#size;
    this.#size = 0;
    if (this.#pendingFds.length === 0) return;
    // Nobody took them, so they belonged to no command that takes any.
    for (const { fds } of this.#pendingFds.filter(({ at }) => at < this.#start)) for (const fd of fds) fd.close();
    this.#pendingFds = this.#pendingFds.filter(({ at }) => at >= this.#start);
  }

  /** Called only when no complete message waits, so that what is pending belongs to the incomplete one in front. */
  #keepFds(): void {
    const fds = this.messenger.takeFds();
    const pending: PendingFds = { at: this.#end - 1, fds };
    const waiting = this.#pendingFds.reduce((sum, { fds: kept }) => sum + kept.length, 0);
    const refused = this.#pendingFds.at(-1)?.damage !== undefined && this.#isInFront(pending.at);
    const hasSocket = !this.acceptsSockets && fds.some(isSocket);
    if (refused || hasSocket || waiting + fds.length > this.maxFds) {
      for (const fd of fds) fd.close();
      pending.fds = [];
      pending.damage = hasSocket ? "socket" : "too many";
    } else if (this.messenger.fdsTruncated) {
      pending.damage = "lost";
    }
    // A message that is refused already needs no second reason, and a peer that sends thousands gets no list of them.
    if (!refused) this.#pendingFds.push(pending);
  }

  #isInFront(at: number): boolean {
    if (at < this.#start + HEADER_SIZE) return true;
    return at < this.#start + this.#memory.view.getUint32(this.#start + HEADER_MESSAGE_SIZE, true);
  }

  #compact(): void {
    this.#memory.bytes.copyWithin(0, this.#start, this.#end);
    this.#moved(this.#start);
  }

  #grow(): void {
    // A little more, so that one message alone does not look like a full buffer.
    const larger = new NativeMemory(this.maxMessage + INITIAL_CAPACITY);
    larger.bytes.set(this.#memory.bytes.subarray(this.#start, this.#end));
    this.#memory = larger;
    this.#moved(this.#start);
  }

  #moved(by: number): void {
    for (const pending of this.#pendingFds) pending.at -= by;
    this.#end -= by;
    this.#start = 0;
  }
}

function isSocket(fd: Fd): boolean {
  return (fd.stat().mode & S_IFMT) === S_IFSOCK;
}
