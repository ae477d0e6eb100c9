import {
  connectUnix,
  Fd,
  NativeMemory,
  OsError,
  POLLIN,
  POLLOUT,
  pollOne,
  SocketMessenger,
  WOULD_BLOCK,
} from "../os/index.js";
import {
  DEVICE_INFO_SIZE,
  type DeviceInfo,
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionInfo,
  IRQ_INFO_SIZE,
  type IrqInfo,
  type IrqSet,
  REGION_INFO_SIZE,
  type RegionInfo,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VfioError,
} from "../vfio/index.js";
import { answerDma, type SharedMemory } from "./client_dma.js";
import { DMA_MAP_SIZE, DMA_UNMAP_SIZE, encodeDmaMap, encodeDmaUnmap } from "./dma_message.js";
import {
  Command,
  commandName,
  decodeHeader,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  FLAG_TYPE_COMMAND,
  FLAG_TYPE_MASK,
  FLAG_TYPE_REPLY,
  HEADER_SIZE,
  type Header,
  putHeader,
} from "./header.js";
import { MessageStream } from "./message_stream.js";
import {
  decodeRegionAccess,
  decodeWriteMultiReply,
  encodeRegionAccess,
  encodeWriteMulti,
  REGION_ACCESS_SIZE,
  type RegionWrite,
} from "./region_access.js";
import { decodeRegionIoFds, encodeRegionIoFds, REGION_IO_FDS_SIZE, type RegionIoFds } from "./region_io_fds.js";
import { MAX_DATA_XFER_SIZE, MAX_MESSAGE } from "./server_limits.js";
import {
  type Capabilities,
  DEFAULT_MAX_DATA_XFER_SIZE,
  DEFAULT_MAX_MSG_FDS,
  decodeVersion,
  encodeVersion,
  VERSION_MAJOR,
  VERSION_MINOR,
} from "./version.js";

const MAX_MSG_FDS = 16;
/** Info structures larger than this are refused: no device has that many capabilities. */
const MAX_INFO = 1 << 16;

export interface ClientOptions {
  /** Milliseconds to wait for any reply; 5000 unless given. */
  timeout?: number;
  /** What to propose besides the usual; `twinSocket: { supported: true }` asks for a twin socket. */
  capabilities?: Capabilities;
  /** Serves the server's DMA_READ and DMA_WRITE. */
  memory?: SharedMemory;
}

/** A reply's payload, which is the caller's, and the descriptors that came along, which are too. */
export interface ClientReply {
  payload: Uint8Array;
  fds: Fd[];
}

/**
 * The client's side of vfio-user. Calls wait for their reply on this thread, and answer the server's DMA requests while
 * they wait. All of them throw {@link OsError} with the command's name and errno when the server refuses, and
 * `VfioError`: ETIMEDOUT when it does not answer, EPROTO when its answer makes no sense.
 */
export class VfioUserClient {
  /** What the server agreed to. */
  readonly capabilities: Capabilities;
  readonly #stream: MessageStream;
  readonly #twin: MessageStream | undefined;
  readonly #messenger = new SocketMessenger();
  readonly #memory = new NativeMemory(MAX_MESSAGE);
  readonly #shared: SharedMemory | undefined;
  readonly #timeout: number;
  #nextId = 0;

  /**
   * Connects and negotiates.
   * @throws {OsError} ENOENT or ECONNREFUSED when nobody serves there, EBUSY when another client is attached
   */
  constructor(path: string, options: ClientOptions = {}) {
    this.#timeout = options.timeout ?? 5000;
    this.#shared = options.memory;
    this.#stream = new MessageStream(connectUnix(path), this.#messenger, MAX_MESSAGE, MAX_MSG_FDS, true);
    try {
      const usual = { maxMsgFds: MAX_MSG_FDS, maxDataXferSize: MAX_DATA_XFER_SIZE, writeMultiple: true };
      const capabilities = { ...usual, ...options.capabilities };
      const proposal = encodeVersion({ major: VERSION_MAJOR, minor: VERSION_MINOR, capabilities });
      const { payload, fds } = this.request(Command.VERSION, proposal);
      const version = decodeVersion(payload);
      this.capabilities = version.capabilities;
      this.#twin = this.#openTwin(fds);
      if (version.major !== VERSION_MAJOR) throw new VfioError("EPROTO", `the server speaks ${version.major}`);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The main socket's descriptor, to wait for: the client keeps it. */
  get socket(): number {
    return this.#stream.socket.number;
  }

  /** Bytes of data that one access may have. */
  get maxTransfer(): number {
    return Math.min(this.capabilities.maxDataXferSize ?? DEFAULT_MAX_DATA_XFER_SIZE, MAX_DATA_XFER_SIZE);
  }

  close(): void {
    this.#twin?.close();
    this.#stream.close();
  }

  deviceInfo(): DeviceInfo {
    const request = encodeDeviceInfo({ argsz: DEVICE_INFO_SIZE, flags: 0, numRegions: 0, numIrqs: 0 });
    return decodeDeviceInfo(this.#plain(Command.DEVICE_GET_INFO, request));
  }

  /** A region's info, asked for again with more room when it does not fit; with it the descriptor to map, if any. */
  regionInfo(index: number): { info: RegionInfo; fd?: Fd } {
    let argsz = REGION_INFO_SIZE;
    for (let attempt = 0; attempt < 4; attempt++) {
      const { payload, fds } = this.request(Command.DEVICE_GET_REGION_INFO, regionInfoRequest(argsz, index));
      const info = decodeOrClose(payload, fds, decodeRegionInfo);
      if (info.argsz <= argsz) {
        const [fd, ...others] = fds;
        for (const other of others) other.close();
        return fd === undefined ? { info } : { info, fd };
      }
      for (const fd of fds) fd.close();
      if (info.argsz > MAX_INFO) break;
      argsz = info.argsz;
    }
    throw new VfioError("EPROTO", `region ${index}: the server's info does not fit whatever room it gets`);
  }

  /** A region's doorbells; the descriptors are the caller's. */
  regionIoFds(index: number): { info: RegionIoFds; fds: Fd[] } {
    let argsz = REGION_IO_FDS_SIZE;
    for (let attempt = 0; attempt < 4; attempt++) {
      const request = encodeRegionIoFds({ argsz, flags: 0, index, count: 0, subRegions: [] });
      const { payload, fds } = this.request(Command.DEVICE_GET_REGION_IO_FDS, request);
      const info = decodeOrClose(payload, fds, decodeRegionIoFds);
      if (info.argsz <= argsz) return { info, fds };
      for (const fd of fds) fd.close();
      if (info.argsz > MAX_INFO) break;
      argsz = info.argsz;
    }
    throw new VfioError("EPROTO", `region ${index}: the server's io fds do not fit whatever room they get`);
  }

  irqInfo(index: number): IrqInfo {
    const request = encodeIrqInfo({ argsz: IRQ_INFO_SIZE, flags: 0, index, count: 0 });
    return decodeIrqInfo(this.#plain(Command.DEVICE_GET_IRQ_INFO, request));
  }

  /** Sets interrupts; of eventfds as many per message as the server takes. The descriptors stay the caller's. */
  setIrqs(set: IrqSet, fds: readonly Fd[] = []): void {
    const most = Math.max(1, this.capabilities.maxMsgFds ?? DEFAULT_MAX_MSG_FDS);
    if (fds.length <= most) {
      this.#plain(Command.DEVICE_SET_IRQS, encodeIrqSet(set), fds);
      return;
    }
    for (let at = 0; at < fds.length; at += most) {
      const some = fds.slice(at, at + most);
      const part = { ...set, start: set.start + at, count: some.length };
      this.#plain(Command.DEVICE_SET_IRQS, encodeIrqSet(part), some);
    }
  }

  /**
   * Reads a region, in as many messages as needed.
   * @returns what came, which is less than `count` where a region ends that cuts accesses off
   */
  read(region: number, offset: number | bigint, count: number): Uint8Array {
    const data = new Uint8Array(count);
    const done = this.#inPieces(count, (at, length) => {
      const access = { offset: BigInt(offset) + BigInt(at), region, count: length };
      const reply = this.#plain(Command.REGION_READ, encodeRegionAccess(access));
      const came = decodeRegionAccess(reply).count;
      if (came > length || reply.length !== REGION_ACCESS_SIZE + came) {
        throw new VfioError("EPROTO", `REGION_READ of ${length} bytes was answered with ${reply.length}`);
      }
      data.set(reply.subarray(REGION_ACCESS_SIZE), at);
      return came;
    });
    return done < count ? data.slice(0, done) : data;
  }

  /**
   * Writes a region, in as many messages as needed. Posted writes have no reply, so nothing tells when they fail.
   * @returns bytes written, fewer than there are where a region ends that cuts accesses off
   */
  write(region: number, offset: number | bigint, data: Uint8Array, posted = false): number {
    return this.#inPieces(data.length, (at, length) => {
      const fixed = encodeRegionAccess({ offset: BigInt(offset) + BigInt(at), region, count: length });
      const payload = new Uint8Array(fixed.length + length);
      payload.set(fixed);
      payload.set(data.subarray(at, at + length), fixed.length);
      if (posted) {
        this.post(Command.REGION_WRITE, payload);
        return length;
      }
      const written = decodeRegionAccess(this.#plain(Command.REGION_WRITE, payload)).count;
      if (written > length) throw new VfioError("EPROTO", `of ${length} bytes REGION_WRITE wrote ${written}`);
      return written;
    });
  }

  /**
   * Accesses a region piece by piece until one comes out short.
   * @param access returns how many of the bytes it did
   * @returns how many all did
   */
  #inPieces(count: number, access: (at: number, length: number) => number): number {
    for (let done = 0; done < count; ) {
      const length = Math.min(count - done, this.maxTransfer);
      let did = 0;
      try {
        did = access(done, length);
      } catch (error) {
        // The region may end between two pieces.
        if (done === 0 || !(error instanceof OsError && error.code === "EINVAL")) throw error;
      }
      done += did;
      if (did < length) return done;
    }
    return count;
  }

  /** Several small writes in one message. */
  writeMulti(writes: readonly RegionWrite[]): void {
    const done = decodeWriteMultiReply(this.#plain(Command.REGION_WRITE_MULTI, encodeWriteMulti(writes)));
    if (done !== BigInt(writes.length)) throw new VfioError("EPROTO", `${done} of ${writes.length} writes were done`);
  }

  /** Shares memory: by a file, or, without one, by {@link ClientOptions.memory}. */
  dmaMap(
    address: bigint,
    size: bigint,
    file?: { fd: Fd; offset: bigint },
    access: "read" | "read-write" = "read-write",
  ): void {
    const flags = access === "read" ? VFIO_DMA_MAP_FLAG_READ : VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    const map = { argsz: DMA_MAP_SIZE, flags, offset: file?.offset ?? 0n, address, size };
    this.#plain(Command.DMA_MAP, encodeDmaMap(map), file === undefined ? [] : [file.fd]);
  }

  dmaUnmap(address: bigint, size: bigint): void {
    this.#plain(Command.DMA_UNMAP, encodeDmaUnmap({ argsz: DMA_UNMAP_SIZE, flags: 0, address, size }));
  }

  dmaUnmapAll(): void {
    const all = { argsz: DMA_UNMAP_SIZE, flags: VFIO_DMA_UNMAP_FLAG_ALL, address: 0n, size: 0n };
    this.#plain(Command.DMA_UNMAP, encodeDmaUnmap(all));
  }

  reset(): void {
    this.#plain(Command.DEVICE_RESET, new Uint8Array(0));
  }

  /** Answers the server's DMA requests for some milliseconds, or until `done` says that it is enough. */
  serve(milliseconds: number, done: () => boolean = () => false): void {
    const end = performance.now() + milliseconds;
    const stream = this.#twin ?? this.#stream;
    for (;;) {
      this.#answerAll(stream);
      const left = end - performance.now();
      if (done() || left < 0) return;
      if (!this.#receive(stream)) pollOne(stream.socket, interestIn(stream), Math.min(Math.ceil(left), 10));
    }
  }

  /**
   * Sends any command and waits for its reply.
   * @param fds stay the caller's
   */
  request(command: number, payload: Uint8Array, fds: readonly Fd[] = []): ClientReply {
    const id = this.#send(command, payload, FLAG_TYPE_COMMAND, fds);
    const end = performance.now() + this.#timeout;
    for (;;) {
      const header = this.#nextReply(this.#stream);
      if (header === undefined) this.#await(end, command);
      else if (header.id === id) return this.#reply(command, header);
    }
  }

  /** Sends a command that wants no reply. */
  post(command: number, payload: Uint8Array): void {
    this.#send(command, payload, FLAG_NO_REPLY);
  }

  #plain(command: number, payload: Uint8Array, fds: readonly Fd[] = []): Uint8Array {
    const reply = this.request(command, payload, fds);
    for (const fd of reply.fds) fd.close();
    return reply.payload;
  }

  #send(command: number, payload: Uint8Array, flags: number, fds: readonly Fd[] = []): number {
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    const size = HEADER_SIZE + payload.length;
    if (size > MAX_MESSAGE) throw new VfioError("EMSGSIZE", `${commandName(command)} of ${size} bytes`);
    putHeader(this.#memory.view, id, command, size, flags);
    this.#memory.bytes.set(payload, HEADER_SIZE);
    const numbers = fds.map((fd) => fd.number);
    this.#stream.send(this.#memory, size, numbers);
    const end = performance.now() + this.#timeout;
    while (!this.#stream.flush()) {
      if (performance.now() > end) throw new VfioError("ETIMEDOUT", `the server does not take ${commandName(command)}`);
      // It may itself be waiting for what it sends to be taken.
      if (!this.#receive(this.#stream)) pollOne(this.#stream.socket, interestIn(this.#stream), 10);
      // Receiving may have sent the last of it, and the reply to that is the caller's.
      if (this.#stream.queuedBytes === 0) break;
      this.#answerAll(this.#stream);
    }
    return id;
  }

  /** Waits for a piece of a message on either socket. */
  #await(end: number, command: number): void {
    // First of all: a server that sends without end must not keep the caller for ever.
    const left = end - performance.now();
    if (left <= 0) throw new VfioError("ETIMEDOUT", `no reply to ${commandName(command)} in ${this.#timeout} ms`);
    if (this.#twin !== undefined && this.#receive(this.#twin)) this.#answerAll(this.#twin);
    if (this.#receive(this.#stream)) return;
    // With a twin both are looked at in turn.
    pollOne(this.#stream.socket, interestIn(this.#stream), this.#twin === undefined ? Math.ceil(left) : 1);
  }

  /** Sends what is queued, and receives a piece. @returns whether there is something to look at */
  #receive(stream: MessageStream): boolean {
    if (stream.queuedBytes > 0) stream.flush();
    if (isBehind(stream)) return false;
    if (stream.hasNext()) return true;
    const count = stream.receive();
    if (count === 0) throw new VfioError("ECANCELED", "the server closed the connection");
    return count !== WOULD_BLOCK;
  }

  /** Answers the server's commands up to the next reply, which becomes the current message; undefined when none is there. */
  #nextReply(stream: MessageStream): Header | undefined {
    while (!isBehind(stream) && stream.next()) {
      const header = decodeHeader(stream.bytes.subarray(stream.at, stream.at + HEADER_SIZE));
      if ((header.flags & FLAG_TYPE_MASK) === FLAG_TYPE_REPLY) return header;
      answerDma(stream, header, this.#shared, this.#memory);
    }
    return undefined;
  }

  /** Answers the server's commands; replies that nobody waits for are passed over. */
  #answerAll(stream: MessageStream): void {
    while (this.#nextReply(stream) !== undefined);
  }

  #reply(command: number, header: Header): ClientReply {
    const fds = this.#stream.takeFds();
    if ((header.flags & FLAG_ERROR) === 0 && header.command === command) {
      return { payload: this.#stream.payload().slice(), fds };
    }
    for (const fd of fds) fd.close();
    if (header.command !== command) throw new VfioError("EPROTO", `${commandName(command)} got another's reply`);
    throw new OsError(commandName(command), header.error);
  }

  #openTwin(fds: Fd[]): MessageStream | undefined {
    const twin = this.capabilities.twinSocket;
    const chosen = twin?.supported ? fds[twin.fdIndex ?? -1] : undefined;
    for (const fd of fds) if (fd !== chosen) fd.close();
    if (!twin?.supported) return undefined;
    if (chosen === undefined) throw new VfioError("EPROTO", "the server names a twin socket that it did not send");
    return new MessageStream(new Fd(chosen.release()), this.#messenger, MAX_MESSAGE, 0);
  }
}

/** Whether the server leaves so many answers lying that it gets no more for now: memory is bounded. */
function isBehind(stream: MessageStream): boolean {
  return stream.queuedBytes > MAX_MESSAGE;
}

/** What a stream waits for. */
function interestIn(stream: MessageStream): number {
  return (isBehind(stream) ? 0 : POLLIN) | (stream.queuedBytes > 0 ? POLLOUT : 0);
}

function regionInfoRequest(argsz: number, index: number): Uint8Array {
  const request = encodeRegionInfo({ argsz: 0, flags: 0, index, size: 0n, offset: 0n, capabilities: [] });
  new DataView(request.buffer).setUint32(0, argsz, true);
  return request;
}

function decodeOrClose<T>(payload: Uint8Array, fds: readonly Fd[], decode: (bytes: Uint8Array) => T): T {
  try {
    return decode(payload);
  } catch (error) {
    for (const fd of fds) fd.close();
    throw error;
  }
}
