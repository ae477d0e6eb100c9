import { openSync } from "node:fs";
import {
  createEventfd,
  createMemfd,
  Fd,
  libc,
  NativeMemory,
  POLLIN,
  POLLOUT,
  pollOne,
  SocketMessenger,
  socketPair,
  truncate,
} from "../../src/os/index.js";
import {
  Command,
  decodeHeader,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  FLAG_TYPE_COMMAND,
  FLAG_TYPE_MASK,
  FLAG_TYPE_REPLY,
  HEADER_SIZE,
} from "../../src/vfio-user/index.js";
import { MAX_MESSAGE } from "../../src/vfio-user/server_limits.js";
import { message, RawClient, type RawReply } from "../vfio_user/raw_client.js";
import { type FdKind, type HostileMessage, hostileMessage } from "./hostile_message.js";
import type { Random } from "./random.js";

/** How long a server may take, in milliseconds: resets take 200 of them. */
const PATIENCE = 3000;

/** A request whose reply is due. */
interface Due {
  id: number;
  command: number;
}

/** What the server did wrong. */
export class Finding extends Error {
  override name = "Finding";
}

/**
 * One client's attack. As long as every message was sent whole it knows which replies are due, and in what order; a
 * connection that the server ends then is as wrong as a reply that does not come.
 */
export class Attack {
  readonly #client: RawClient;
  readonly #random: Random;
  readonly #fds: Record<FdKind, Fd>;
  readonly #others: Fd[] = [];
  readonly #messenger = new SocketMessenger();
  readonly #memory = new NativeMemory(1 << 16);
  #twin: Fd | undefined;
  #due: Due[] = [];
  /** What is sent and due is known. */
  #trusted = true;
  #negotiated = false;
  #over = false;
  /** A message is on its way: answers on the same socket have to come after it. */
  #sending = false;
  #answers: Uint8Array[] = [];
  sent = 0;

  /** @param random decides how DMA messages are answered */
  constructor(path: string, random: Random) {
    this.#client = new RawClient(path, false);
    this.#random = random;
    const [near, far] = socketPair();
    this.#others.push(far);
    this.#fds = {
      event: createEventfd(),
      guest: createMemfd("guest", 1 << 21),
      shrinking: createMemfd("shrinking", 1 << 20, 0),
      readonly: new Fd(openSync("/proc/self/exe", "r")),
      socket: near,
      pipe: new Fd(openSync("/dev/null", "r+")),
      self: this.#client.stream.socket,
    };
  }

  /** Whether there is any point in going on. */
  get isOver(): boolean {
    return this.#over;
  }

  negotiate(twin: boolean): void {
    const wanted = twin ? ',"twin_socket":{"supported":true}' : "";
    const text = Buffer.from(`{"capabilities":{"max_msg_fds":16,"write_multiple":true${wanted}}}\0`);
    this.#send(message(Command.VERSION, Uint8Array.from([0, 0, 0, 0, ...text]), { id: 7 }), []);
    const reply = this.#receive(PATIENCE);
    if (reply === "closed" || reply === "nothing" || reply.error !== 0) throw new Finding("VERSION was not answered");
    this.#twin = reply.fds[0];
    this.#due = [];
    this.#negotiated = true;
  }

  /** Sends a hostile message, or does something else that a client should not do. */
  step(random: Random): void {
    const what = random.below(30);
    if (what === 0) truncate(this.#fds.shrinking, random.pick([0, 1, 4096, 1 << 20]));
    else if (what === 1) this.#write(this.#twin, random.bytes(1 + random.below(60)));
    else if (what === 2) this.#cut(random);
    else if (what === 3) this.#fill(this.#fds.event);
    else this.#sendHostile(hostileMessage(random), random);
    if (!random.once(3)) this.drain();
  }

  /** Takes what has come, and answers the server's DMA messages. */
  drain(): void {
    for (let count = 0; count < 100 && !this.#over; count++) {
      const reply = this.#receive(0);
      if (reply === "closed" || reply === "nothing") break;
      this.#judge(reply);
    }
    this.#answerTwin();
  }

  /** Waits for everything that is due. */
  settle(): void {
    const end = performance.now() + PATIENCE;
    while (!this.#over && this.#trusted && this.#due.length > 0) {
      const reply = this.#receive(20);
      if (reply === "closed") break;
      if (reply !== "nothing") this.#judge(reply);
      if (performance.now() > end) throw new Finding(`no reply to command ${this.#due[0]?.command} in ${PATIENCE} ms`);
    }
  }

  close(): void {
    this.#twin?.close();
    this.#client.close();
    for (const fd of [...Object.values(this.#fds), ...this.#others]) fd.close();
  }

  #sendHostile({ bytes, fds: kinds }: HostileMessage, random: Random): void {
    const fds = kinds.map((kind) => this.#fds[kind]);
    const header = decodeHeader(bytes.subarray(0, HEADER_SIZE));
    const type = header.flags & FLAG_TYPE_MASK;
    if (header.size !== bytes.length || header.size > MAX_MESSAGE) this.#trusted = false;
    if (type !== FLAG_TYPE_REPLY && (header.flags & FLAG_NO_REPLY) === 0) this.#due.push(header);
    // Without a reply nobody knows whether negotiation succeeded.
    if (!this.#negotiated && (header.flags & FLAG_NO_REPLY) !== 0) this.#trusted = false;
    const pieces = random.once(6) ? 1 + random.below(5) : 1;
    const carrier = random.below(pieces);
    this.#sending = true;
    for (let at = 0, piece = 0; at < bytes.length && !this.#over; piece++) {
      const last = piece >= pieces - 1;
      const length = last ? bytes.length - at : 1 + random.below(bytes.length - at);
      this.#send(bytes.subarray(at, at + length), piece === carrier ? fds : []);
      at += length;
    }
    this.#sendAnswers();
    this.sent++;
  }

  #sendAnswers(): void {
    this.#sending = true;
    for (let answer = this.#answers.shift(); answer !== undefined; answer = this.#answers.shift())
      this.#send(answer, []);
    this.#sending = false;
  }

  /** A message that ends too early; what follows is taken for its rest. */
  #cut(random: Random): void {
    const { bytes, fds } = hostileMessage(random);
    this.#trusted = false;
    const sent = bytes.subarray(0, 1 + random.below(bytes.length));
    this.#send(
      sent,
      fds.map((kind) => this.#fds[kind]),
    );
    this.sent++;
  }

  /** Sends all of it, taking replies while the server takes nothing more. */
  #send(bytes: Uint8Array, fds: readonly Fd[]): void {
    const end = performance.now() + PATIENCE;
    for (let at = 0; at < bytes.length; ) {
      let count: number;
      try {
        count = this.#client.sendBytes(bytes.subarray(at), at === 0 ? fds : []);
      } catch {
        this.#closed();
        return;
      }
      if (count >= 0) at += count;
      else {
        this.drain();
        if (this.#over) return;
        pollOne(this.#client.stream.socket, POLLIN | POLLOUT, 20);
        if (performance.now() > end) throw new Finding(`nothing was received or sent for ${PATIENCE} ms`);
      }
    }
  }

  #receive(timeout: number): RawReply | "closed" | "nothing" {
    const { stream } = this.#client;
    if (!stream.hasNext() && (pollOne(stream.socket, POLLIN, timeout) & POLLIN) === 0) return "nothing";
    let reply: RawReply | undefined;
    try {
      reply = this.#client.receive(2);
    } catch (error) {
      if (error instanceof Error && error.message === "the server did not answer") return "nothing";
      throw new Finding(`a message from the server makes no sense: ${error}`);
    }
    if (reply === undefined) {
      this.#closed();
      return "closed";
    }
    return reply;
  }

  #closed(): void {
    this.#over = true;
    // A twin socket that is abused ends the connection too.
    if (this.#negotiated && this.#trusted) throw new Finding("the server ended a connection that was in order");
  }

  #judge(reply: RawReply): void {
    for (const fd of reply.fds) {
      this.#shrink(fd);
      fd.close();
    }
    if ((reply.flags & FLAG_TYPE_MASK) === FLAG_TYPE_COMMAND) {
      const answer = this.#answer(reply);
      if (answer !== undefined) this.#answers.push(answer);
      if (!this.#sending) this.#sendAnswers();
      return;
    }
    if (!this.#trusted) return;
    const due = this.#due.shift();
    const what = `a reply to command ${reply.command}, id ${reply.id}`;
    if (due === undefined) throw new Finding(`${what}, which is not due`);
    if (due.id !== reply.id || due.command !== reply.command) {
      throw new Finding(`${what} where command ${due.command}, id ${due.id} was to be answered`);
    }
    const refused = (reply.flags & FLAG_ERROR) !== 0;
    if (refused !== (reply.error !== 0) || (refused && reply.payload.length > 0))
      throw new Finding(`${what} is garbled`);
    // Devices here fail with EPERM: EIO can only be the server's own mistake.
    if (reply.error === 5) throw new Finding(`${what} says EIO`);
  }

  /** Shrinking memory that the server has mapped would kill it. */
  #shrink(fd: Fd): void {
    try {
      truncate(fd, 0);
    } catch {
      return;
    }
    throw new Finding("memory of the server's can be shrunk");
  }

  #answerTwin(): void {
    if (this.#twin === undefined || this.#over) return;
    const { bytes, address, view } = this.#memory;
    let count = 0;
    try {
      count = this.#messenger.receive(this.#twin.number, address, bytes.length);
    } catch {
      // The server closed it, with the connection.
    }
    if (count < HEADER_SIZE + 16) return;
    const command = { ...decodeHeader(bytes.subarray(0, HEADER_SIZE)), payload: bytes.slice(16, 32), fds: [] };
    if (view.getUint32(4, true) > count) return;
    const answer = this.#answer(command);
    if (answer !== undefined) this.#write(this.#twin, answer, true);
  }

  /** DMA messages are answered as they should be, with an error, with nonsense, or not at all. */
  #answer({ id, command, payload }: RawReply): Uint8Array | undefined {
    const random = this.#random;
    if (payload.length < 16 || random.once(4)) return undefined;
    const count = new DataView(payload.buffer, payload.byteOffset).getUint32(8, true);
    if (random.once(5))
      return message(command, new Uint8Array(0), { id, flags: FLAG_TYPE_REPLY | FLAG_ERROR, error: 5 });
    if (random.once(5)) return message(command, random.bytes(random.below(40)), { id, flags: FLAG_TYPE_REPLY });
    const data = command === Command.DMA_READ ? new Uint8Array(count) : new Uint8Array(0);
    return message(command, new Uint8Array([...payload.subarray(0, 16), ...data]), { id, flags: FLAG_TYPE_REPLY });
  }

  /** Writes to the twin socket, on which only answers are in order. */
  #write(fd: Fd | undefined, bytes: Uint8Array, inOrder = false): void {
    if (fd === undefined) return;
    const some = bytes.subarray(0, this.#memory.bytes.length);
    this.#memory.bytes.set(some);
    if (!inOrder || some.length < bytes.length) this.#trusted = false;
    try {
      if (this.#messenger.send(fd.number, this.#memory.address, some.length) < some.length) this.#trusted = false;
    } catch {
      // Closed.
    }
  }

  /** Fills an event counter, so that the next signal would wait, were it to wait. */
  #fill(fd: Fd): void {
    this.#memory.view.setBigUint64(0, (1n << 64n) - 2n, true);
    libc().write(fd.number, this.#memory.address, 8);
  }
}
