import { connectUnix, type Fd, NativeMemory, POLLIN, pollOne, SocketMessenger } from "../../src/os/index.js";
import {
  Command,
  decodeHeader,
  encodeVersion,
  FLAG_NO_REPLY,
  HEADER_SIZE,
  type Header,
  putHeader,
} from "../../src/vfio-user/index.js";
import { MessageStream } from "../../src/vfio-user/message_stream.js";

export interface RawReply extends Header {
  payload: Uint8Array;
  fds: Fd[];
}

const PROPOSAL = encodeVersion({ major: 0, minor: 0, capabilities: { maxMsgFds: 16, writeMultiple: true } });

/** Shared by all clients of a thread, for tests that make thousands. */
let scratch: NativeMemory | undefined;

/** A client that sends whatever it is told to, however wrong. */
export class RawClient {
  readonly stream: MessageStream;
  readonly #messenger = new SocketMessenger();

  constructor(path: string, negotiate = true) {
    this.stream = new MessageStream(connectUnix(path), this.#messenger, 4 << 20, 16, true);
    if (negotiate) this.request(Command.VERSION, PROPOSAL);
  }

  /** Sends bytes as they are; descriptors go with the first. @returns bytes sent, -1 when the socket is full */
  sendBytes(bytes: Uint8Array, fds: readonly Fd[] = []): number {
    scratch ??= new NativeMemory(2 << 20);
    scratch.bytes.set(bytes);
    const { address } = scratch;
    const socket = this.stream.socket.number;
    if (fds.length === 0) return this.#messenger.send(socket, address, bytes.length);
    return this.#messenger.sendWithFds(
      socket,
      address,
      bytes.length,
      fds.map((fd) => fd.number),
    );
  }

  send(command: number, payload: Uint8Array, fds: readonly Fd[] = [], fields: Partial<Header> = {}): number {
    return this.sendBytes(message(command, payload, fields), fds);
  }

  post(command: number, payload: Uint8Array): void {
    this.send(command, payload, [], { flags: FLAG_NO_REPLY });
  }

  /** The next message from the server; undefined when the connection ended. */
  receive(timeout = 2000): RawReply | undefined {
    const end = performance.now() + timeout;
    while (!this.stream.next()) {
      let count: number;
      try {
        count = this.stream.receive();
      } catch {
        return undefined;
      }
      if (count === 0) return undefined;
      if (count > 0) continue;
      const left = end - performance.now();
      if (left <= 0) throw new Error("the server did not answer");
      pollOne(this.stream.socket, POLLIN, Math.ceil(left));
    }
    const { bytes, at } = this.stream;
    const header = decodeHeader(bytes.subarray(at, at + HEADER_SIZE));
    return { ...header, payload: this.stream.payload().slice(), fds: this.stream.takeFds() };
  }

  request(
    command: number,
    payload: Uint8Array,
    fds: readonly Fd[] = [],
    fields: Partial<Header> = {},
  ): RawReply | undefined {
    this.send(command, payload, fds, fields);
    return this.receive();
  }

  close(): void {
    this.stream.close();
  }
}

export function message(command: number, payload: Uint8Array, fields: Partial<Header> = {}): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  const { id = 1, size = bytes.length, flags = 0, error = 0 } = fields;
  putHeader(new DataView(bytes.buffer), id, command, size, flags, error);
  bytes.set(payload, HEADER_SIZE);
  return bytes;
}
