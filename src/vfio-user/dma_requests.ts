import { NativeMemory } from "../os/index.js";
import { type Steps, VfioError } from "../vfio/index.js";
import { DMA_ACCESS_SIZE } from "./dma_message.js";
import {
  Command,
  FLAG_ERROR,
  FLAG_TYPE_COMMAND,
  HEADER_COMMAND,
  HEADER_ERROR,
  HEADER_FLAGS,
  HEADER_ID,
  HEADER_SIZE,
  putHeader,
} from "./header.js";
import type { MessageStream } from "./message_stream.js";

/** How long a client may take to answer, in milliseconds. */
export const DMA_REPLY_TIMEOUT = 5000;
const MAX_PENDING = 64;

interface Pending {
  readonly command: number;
  readonly address: bigint;
  readonly data: Uint8Array;
  outcome?: "done" | VfioError;
}

/** DMA_READ and DMA_WRITE from the server to its client, for memory that came without a descriptor. */
export class DmaRequests {
  readonly #pending = new Map<number, Pending>();
  #memory: NativeMemory | undefined;
  #nextId = 0;

  /**
   * @param stream the main socket, or the twin when there is one
   * @param maxTransfer bytes of data that the client accepts in one message
   */
  constructor(
    readonly stream: MessageStream,
    readonly maxTransfer: number,
  ) {}

  /** Reads into `data`, or writes it, in as many messages as needed. */
  *transfer(command: typeof Command.DMA_READ | typeof Command.DMA_WRITE, address: bigint, data: Uint8Array): Steps {
    for (let done = 0; done < data.length; done += this.maxTransfer) {
      yield* this.#request(command, address + BigInt(done), data.subarray(done, done + this.maxTransfer));
    }
  }

  *#request(command: number, address: bigint, data: Uint8Array): Steps {
    const deadline = performance.now() + DMA_REPLY_TIMEOUT;
    const isFree = () => this.stream.queuedBytes === 0 && this.#pending.size < MAX_PENDING;
    while (!isFree() && performance.now() < deadline) yield { deadline, done: isFree };
    if (!isFree()) throw new VfioError("ETIMEDOUT", "the client takes no more messages");
    const pending: Pending = { command, address, data };
    const id = this.#freeId();
    this.#pending.set(id, pending);
    try {
      this.#send(id, pending);
      const isOver = () => pending.outcome !== undefined;
      while (!isOver() && performance.now() < deadline) yield { deadline, done: isOver };
    } finally {
      this.#pending.delete(id);
    }
    if (pending.outcome === undefined) throw new VfioError("ETIMEDOUT", "the client did not answer a DMA message");
    if (pending.outcome !== "done") throw pending.outcome;
  }

  #freeId(): number {
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#pending.has(this.#nextId));
    return this.#nextId;
  }

  #send(id: number, { command, address, data }: Pending): void {
    this.#memory ??= new NativeMemory(HEADER_SIZE + DMA_ACCESS_SIZE + this.maxTransfer);
    const { view, bytes } = this.#memory;
    const sent = command === Command.DMA_WRITE ? data.length : 0;
    const size = HEADER_SIZE + DMA_ACCESS_SIZE + sent;
    putHeader(view, id, command, size, FLAG_TYPE_COMMAND);
    view.setBigUint64(HEADER_SIZE, address, true);
    view.setBigUint64(HEADER_SIZE + 8, BigInt(data.length), true);
    if (sent > 0) bytes.set(data, HEADER_SIZE + DMA_ACCESS_SIZE);
    this.stream.send(this.#memory, size);
  }

  /** Takes the stream's current message, a reply. One that nobody waits for any more is ignored. */
  onReply(stream: MessageStream): void {
    const { view, at } = stream;
    const pending = this.#pending.get(view.getUint16(at + HEADER_ID, true));
    if (pending === undefined || pending.outcome !== undefined || stream !== this.stream) return;
    pending.outcome = outcomeOf(stream, pending);
  }

  /** Fails the requests that touch a range which is being unmapped: their replies are not waited for. */
  cancelWithin(address: bigint, size: bigint): void {
    for (const pending of this.#pending.values()) {
      const overlaps = pending.address < address + size && address < pending.address + BigInt(pending.data.length);
      if (overlaps) pending.outcome ??= new VfioError("ECANCELED", "the client took the memory back");
    }
  }
}

function outcomeOf(stream: MessageStream, { command, address, data }: Pending): "done" | VfioError {
  const { view, at } = stream;
  if (view.getUint16(at + HEADER_COMMAND, true) !== command) {
    return new VfioError("EIO", "the client answered a DMA message with another command");
  }
  if ((view.getUint32(at + HEADER_FLAGS, true) & FLAG_ERROR) !== 0) {
    return new VfioError(
      "EIO",
      `the client refused a DMA message with errno ${view.getUint32(at + HEADER_ERROR, true)}`,
    );
  }
  const payload = stream.payload();
  // The count of DMA_WRITE's reply is 4 bytes in the specification and 8 in implementations.
  const sizes = command === Command.DMA_READ ? [DMA_ACCESS_SIZE + data.length] : [12, DMA_ACCESS_SIZE];
  if (!sizes.includes(payload.length)) {
    return new VfioError("EIO", `the client's DMA reply has ${payload.length} bytes`);
  }
  const replied = new DataView(payload.buffer, payload.byteOffset, payload.length);
  if (replied.getBigUint64(0, true) !== address || replied.getUint32(8, true) !== data.length) {
    return new VfioError("EIO", "the client's DMA reply is about another range");
  }
  if (command === Command.DMA_READ) data.set(payload.subarray(DMA_ACCESS_SIZE));
  return "done";
}
