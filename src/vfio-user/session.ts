import { constants } from "node:os";
import {
  type EventSignaller,
  type Fd,
  type NativeMemory,
  OsError,
  POLLHUP,
  POLLIN,
  POLLOUT,
  type Poller,
  pollOne,
  type SocketMessenger,
  socketPair,
  WOULD_BLOCK,
} from "../os/index.js";
import { type Steps, type VfioDevice, VfioError, withinTime } from "../vfio/index.js";
import { Attachment } from "./attachment.js";
import { answer, begin, type Reply, refuseFds } from "./commands.js";
import { DmaRequests } from "./dma_requests.js";
import {
  Command,
  commandName,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  FLAG_TYPE_COMMAND,
  FLAG_TYPE_MASK,
  FLAG_TYPE_REPLY,
  HEADER_COMMAND,
  HEADER_FLAGS,
  HEADER_ID,
  HEADER_SIZE,
  putHeader,
} from "./header.js";
import { MessageStream } from "./message_stream.js";
import { RegionMessages } from "./region_messages.js";
import { MAX_DATA_XFER_SIZE, MAX_MESSAGE, MAX_MSG_FDS, negotiate, RESET_TIMEOUT } from "./server_limits.js";
import type { TaskRunner } from "./task_runner.js";
import {
  type Capabilities,
  DEFAULT_MAX_DATA_XFER_SIZE,
  DEFAULT_MAX_MSG_FDS,
  decodeVersion,
  encodeVersion,
  type Version,
} from "./version.js";

/** Messages, and 4 KiB pieces of data, that a client gets served before others have their turn. */
const TURN = 256;
/** How long a client may take to negotiate, in milliseconds. */
const NEGOTIATION_TIMEOUT = 5000;
/** How long a client may take none of the replies that wait for it before another may have the device, likewise. */
const STALL_TIMEOUT = 1000;

/** What all sessions of a server share. */
export interface SessionHost {
  readonly poller: Poller;
  readonly tasks: TaskRunner;
  readonly signaller: EventSignaller;
  readonly messenger: SocketMessenger;
  /** Replies are built here; it holds {@link MAX_MESSAGE} bytes. */
  readonly reply: NativeMemory;
  /** See {@link smallReplies}. */
  readonly replyData: readonly Uint8Array[];
  /** Has a session's {@link Session.turn} called again soon, after others had theirs. */
  again(session: Session): void;
  /** Notes that a session had something to do, and so may soon have more. */
  served(session: Session): void;
}

/** The device that a session is about, and who is told what happens. */
export interface SessionEndpoint {
  readonly device: VfioDevice;
  /** Work of the device goes on, perhaps an earlier client's: a reset, an end. Nobody is served until it is over. */
  readonly isBusy: boolean;
  /**
   * Does such work, whatever becomes of the client; `onEnd` is told what it threw. Then serves whoever is connected. A
   * server that stops cancels it.
   */
  work(steps: Steps, onEnd: (error?: unknown) => void): void;
  onOpen(): void;
  onClose(reason: string): void;
  onError(error: unknown): void;
}

/** One client's connection to one device. */
export class Session {
  readonly #host: SessionHost;
  readonly #device: VfioDevice;
  readonly #endpoint: SessionEndpoint;
  readonly #stream: MessageStream;
  #twin: MessageStream | undefined;
  #attachment: Attachment | undefined;
  #requests: DmaRequests | undefined;
  readonly #token: number;
  #twinToken = 0;
  #interest = POLLIN;
  #negotiated = false;
  #closed = false;
  /** When the client last took some of the replies that wait for it. */
  #stalledSince = 0;
  readonly #regions: RegionMessages;

  /** @param socket owned by the session from now on */
  constructor(host: SessionHost, endpoint: SessionEndpoint, socket: Fd) {
    this.#host = host;
    this.#device = endpoint.device;
    this.#endpoint = endpoint;
    this.#stream = new MessageStream(socket, host.messenger, MAX_MESSAGE, MAX_MSG_FDS);
    this.#regions = new RegionMessages(endpoint.device, this.#stream, host.reply, host.replyData);
    this.#token = host.poller.add(socket, POLLIN, this);
    this.#stream.onQueued = () => {
      this.#stalledSince = performance.now();
      this.#updateInterest();
    };
    host.tasks.start(this, this.#expectNegotiation(), () => {});
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  onReady(events: number): void {
    // While the device is busy nothing is received, so the end of the stream would be reported again and again.
    if (this.#endpoint.isBusy && (events & POLLHUP) !== 0) this.close("the client disconnected");
    this.turn();
  }

  /**
   * Whether the client still holds its end. One that does not is served what it sent before, and closed. So is one that
   * takes no replies: one that sent its own end of the connection, unread so far, is gone without leaving.
   */
  isAlive(): boolean {
    this.turn();
    const stalled = this.#stream.queuedBytes > 0 && performance.now() - this.#stalledSince > STALL_TIMEOUT;
    if (stalled) this.close("the client took no replies");
    if (!this.#closed && (pollOne(this.#stream.socket, 0, 0) & POLLHUP) !== 0) this.close("the client disconnected");
    return !this.#closed;
  }

  /** Serves what has come, up to this session's share. */
  turn(): void {
    if (this.#closed) return;
    try {
      if (this.#stream.queuedBytes > 0 && !this.#stream.flush()) return;
      this.#serve();
      this.#updateInterest();
      this.#host.served(this);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** Serves once without waiting. @returns whether anything had come */
  spin(): boolean {
    if (this.#closed || this.#isBlocked() || this.#stream.hasNext()) return false;
    try {
      const received = this.#receive();
      if (!received) return false;
      this.#serve(true);
      this.#updateInterest();
    } catch (error) {
      this.#giveUp(error);
    }
    return true;
  }

  /** Ends the session: the client's memory and interrupts are let go, the device keeps its state. */
  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.tasks.cancel(this);
    if (this.#attachment !== undefined) this.#endpoint.work(this.#leave(this.#attachment), () => {});
    this.#host.poller.remove(this.#stream.socket, this.#token);
    if (this.#twin !== undefined) {
      this.#host.poller.remove(this.#twin.socket, this.#twinToken);
      this.#twin.close();
    }
    this.#stream.close();
    this.#endpoint.onClose(reason);
  }

  #serve(received = false): void {
    const stream = this.#stream;
    let left = TURN;
    let more = received || this.#receiveUnlessWaiting();
    while (more) {
      while (!this.#isBlocked() && stream.next()) {
        left -= 1 + (stream.size >>> 12);
        this.#dispatch();
        if (this.#closed) return;
        if (left <= 0) {
          this.#host.again(this);
          return;
        }
      }
      // The rest of a message has mostly come in the meantime: receiving gave the client room to send, and with one CPU
      // between them a turn to do so. Asking at once saves a wait for each of a large message's pieces.
      more = !this.#isBlocked() && (stream.isPartial || stream.isFull) && this.#receive();
    }
  }

  /** Receives, unless complete messages of an earlier turn are still there. */
  #receiveUnlessWaiting(): boolean {
    if (this.#isBlocked()) return false;
    return this.#stream.hasNext() || this.#receive();
  }

  #receive(): boolean {
    const count = this.#stream.receive();
    if (count === 0) throw new VfioError("ECANCELED", "the client disconnected");
    return count !== WOULD_BLOCK;
  }

  /** Commands are answered in order: none while the device is busy or the client has not taken the last reply. */
  #isBlocked(): boolean {
    return this.#endpoint.isBusy || this.#stream.queuedBytes > 0;
  }

  #updateInterest(): void {
    if (this.#closed) return;
    const interest = this.#stream.queuedBytes > 0 ? POLLOUT : this.#endpoint.isBusy ? 0 : POLLIN;
    if (interest === this.#interest) return;
    this.#interest = interest;
    this.#host.poller.modify(this.#stream.socket, this.#token, interest);
  }

  #dispatch(): void {
    const { view, at } = this.#stream;
    const id = view.getUint16(at + HEADER_ID, true);
    const command = view.getUint16(at + HEADER_COMMAND, true);
    const flags = view.getUint32(at + HEADER_FLAGS, true);
    if ((flags & FLAG_TYPE_MASK) === FLAG_TYPE_REPLY) {
      this.#requests?.onReply(this.#stream);
      return;
    }
    try {
      if ((flags & FLAG_TYPE_MASK) !== FLAG_TYPE_COMMAND) throw new VfioError("EINVAL", `message flags ${flags}`);
      this.#run(id, command, (flags & FLAG_NO_REPLY) === 0);
    } catch (error) {
      this.#fail(id, command, flags, error);
    }
  }

  #run(id: number, command: number, wantsReply: boolean): void {
    const stream = this.#stream;
    const attachment = this.#attachment;
    if (!this.#negotiated || attachment === undefined) {
      this.#negotiate(id, command, wantsReply);
    } else if (command === Command.REGION_READ && !stream.hasFds) {
      this.#regions.read(id, wantsReply);
    } else if (command === Command.REGION_WRITE && !stream.hasFds) {
      this.#regions.write(id, wantsReply);
    } else {
      const payload = stream.payload();
      const fds = stream.takeFds();
      const long = begin(attachment, command, payload, fds);
      if (long !== undefined) {
        this.#finish(id, command, wantsReply, long.steps, () => {
          if (wantsReply) this.#send(id, command, long.reply);
        });
      } else {
        const reply = answer(attachment, command, payload, fds);
        if (wantsReply) this.#send(id, command, reply);
      }
    }
  }

  #fail(id: number, command: number, flags: number, error: unknown): void {
    // A broken connection is no answer to a command.
    if (error instanceof OsError && (error.code === "EPIPE" || error.code === "ECONNRESET")) throw error;
    const known = error instanceof VfioError || error instanceof OsError;
    if (!known) this.#endpoint.onError(error);
    if ((flags & FLAG_NO_REPLY) === 0) {
      putHeader(
        this.#host.reply.view,
        id,
        command,
        HEADER_SIZE,
        FLAG_TYPE_REPLY | FLAG_ERROR,
        known ? error.errno : constants.errno.EIO,
      );
      this.#stream.send(this.#host.reply, HEADER_SIZE);
    }
    if (!this.#negotiated) this.close(reasonOf(error));
  }

  #send(id: number, command: number, { payload, fds }: Reply): void {
    const { reply } = this.#host;
    const size = HEADER_SIZE + payload.length;
    putHeader(reply.view, id, command, size, FLAG_TYPE_REPLY);
    reply.bytes.set(payload, HEADER_SIZE);
    this.#stream.send(reply, size, fds);
  }

  /** A client that wants no reply gets no twin socket either, for that comes with the reply. */
  #negotiate(id: number, command: number, wantsReply: boolean): void {
    const stream = this.#stream;
    refuseFds(command, stream.takeFds());
    if (command !== Command.VERSION) throw new VfioError("EINVAL", `${commandName(command)} before VERSION`);
    const { major, minor, capabilities } = decodeVersion(stream.payload());
    const agreed = negotiate(major, minor, capabilities);
    this.#host.tasks.cancel(this);
    const before = this.#device.beforeOpen?.();
    const open = () => this.#open(id, wantsReply, agreed, capabilities);
    if (before === undefined) open();
    else this.#finish(id, command, wantsReply, withinTime(before, RESET_TIMEOUT), open);
  }

  /** Lets the client in that has proposed `capabilities`, and tells it what was agreed. */
  #open(id: number, wantsReply: boolean, agreed: Version, capabilities: Capabilities): void {
    const pair = wantsReply && agreed.capabilities.twinSocket?.supported ? socketPair() : undefined;
    try {
      if (pair !== undefined) this.#watchTwin(pair[0]);
      const maxTransfer = Math.min(capabilities.maxDataXferSize ?? DEFAULT_MAX_DATA_XFER_SIZE, MAX_DATA_XFER_SIZE);
      this.#requests = new DmaRequests(this.#twin ?? this.#stream, maxTransfer);
      const { poller, tasks, signaller } = this.#host;
      const onError = (error: unknown) => this.#endpoint.onError(error);
      const maxMsgFds = capabilities.maxMsgFds ?? DEFAULT_MAX_MSG_FDS;
      this.#attachment = new Attachment(this.#device, this.#requests, poller, tasks, signaller, onError, maxMsgFds);
      this.#attachment.open();
      const fds = pair === undefined ? [] : [pair[1].number];
      if (wantsReply) this.#send(id, Command.VERSION, { payload: encodeVersion(agreed), fds });
    } finally {
      pair?.[1].close();
    }
    this.#negotiated = true;
    this.#endpoint.onOpen();
  }

  #watchTwin(socket: Fd): void {
    const twin = new MessageStream(socket, this.#host.messenger, MAX_MESSAGE, 0);
    this.#twin = twin;
    this.#twinToken = this.#host.poller.add(socket, POLLIN, { onReady: () => this.#onTwinReady(twin) });
    twin.onQueued = () => this.#host.poller.modify(socket, this.#twinToken, POLLIN | POLLOUT);
  }

  #onTwinReady(twin: MessageStream): void {
    try {
      if (twin.queuedBytes > 0 && twin.flush()) this.#host.poller.modify(twin.socket, this.#twinToken, POLLIN);
      if (twin.receive() === 0) throw new VfioError("ECANCELED", "the client closed the twin socket");
      while (twin.next()) {
        const flags = twin.view.getUint32(twin.at + HEADER_FLAGS, true);
        if ((flags & FLAG_TYPE_MASK) !== FLAG_TYPE_REPLY) throw new VfioError("EINVAL", "a command on the twin socket");
        this.#requests?.onReply(twin);
      }
    } catch (error) {
      this.close(reasonOf(error));
    }
  }

  /** Does a command's steps; when they have ended `answer` does the rest, unless the client is gone. */
  #finish(id: number, command: number, wantsReply: boolean, steps: Steps, answer: () => void): void {
    this.#endpoint.work(steps, (error) => {
      if (this.#closed) return;
      try {
        if (error !== undefined) throw error;
        answer();
      } catch (failure) {
        this.#failLate(id, command, wantsReply, failure);
      }
    });
  }

  /** As {@link #fail}, where nobody is left to catch what that throws. */
  #failLate(id: number, command: number, wantsReply: boolean, error: unknown): void {
    try {
      this.#fail(id, command, wantsReply ? 0 : FLAG_NO_REPLY, error);
    } catch (failure) {
      this.close(reasonOf(failure));
    }
  }

  /** The client is gone, and what its device does after that. */
  *#leave(attachment: Attachment): Steps {
    const { isOpen } = attachment;
    yield* attachment.close();
    if (!isOpen || this.#device.afterClose === undefined) return;
    // Begun by the loop: a server that stops cancels this work before it can begin what it would leave half done.
    yield { deadline: 0 };
    try {
      yield* withinTime(this.#device.afterClose(), RESET_TIMEOUT);
    } catch (error) {
      this.#endpoint.onError(error);
    }
  }

  /** The stream cannot be trusted any further, or is broken. */
  #giveUp(error: unknown): void {
    const { view, at } = this.#stream;
    if (error instanceof VfioError && (error.code === "EMSGSIZE" || error.code === "EINVAL")) {
      const { reply } = this.#host;
      const id = view.getUint16(at + HEADER_ID, true);
      const command = view.getUint16(at + HEADER_COMMAND, true);
      putHeader(reply.view, id, command, HEADER_SIZE, FLAG_TYPE_REPLY | FLAG_ERROR, error.errno);
      try {
        this.#stream.send(reply, HEADER_SIZE);
      } catch {
        // Gone already.
      }
    }
    this.close(reasonOf(error));
  }

  *#expectNegotiation(): Steps {
    // While the device is busy the client is not heard.
    while (this.#endpoint.isBusy) {
      yield { deadline: Number.POSITIVE_INFINITY, done: () => !this.#endpoint.isBusy };
    }
    yield { deadline: performance.now() + NEGOTIATION_TIMEOUT };
    this.close("the client did not negotiate");
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
