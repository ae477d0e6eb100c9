import { constants } from "node:os";
import type { NativeMemory } from "../os/index.js";
import { VfioError } from "../vfio/index.js";
import { DMA_ACCESS_SIZE, decodeDmaAccess } from "./dma_message.js";
import { Command, FLAG_ERROR, FLAG_NO_REPLY, FLAG_TYPE_REPLY, HEADER_SIZE, type Header, putHeader } from "./header.js";
import type { MessageStream } from "./message_stream.js";
import { MAX_DATA_XFER_SIZE } from "./server_limits.js";

/** A client's memory that the server reaches by messages. A `VfioError` thrown goes to the server as its errno. */
export interface SharedMemory {
  /** Fills `data` from an address. */
  read(address: bigint, data: Uint8Array): void;
  /** Writes `data` to an address. */
  write(address: bigint, data: Uint8Array): void;
}

/** Answers a stream's current message, a command from the server. `scratch` holds the largest message. */
export function answerDma(
  stream: MessageStream,
  header: Header,
  shared: SharedMemory | undefined,
  scratch: NativeMemory,
): void {
  let size = HEADER_SIZE;
  let error = 0;
  try {
    size += runDma(stream.payload(), header.command, shared, scratch);
  } catch (failure) {
    error = failure instanceof VfioError ? failure.errno : constants.errno.EIO;
  }
  if ((header.flags & FLAG_NO_REPLY) !== 0) return;
  const flags = error === 0 ? FLAG_TYPE_REPLY : FLAG_TYPE_REPLY | FLAG_ERROR;
  putHeader(scratch.view, header.id, header.command, error === 0 ? size : HEADER_SIZE, flags, error);
  stream.send(scratch, error === 0 ? size : HEADER_SIZE);
}

/** Does what is asked for and puts the reply's payload into `scratch`. @returns its length */
function runDma(payload: Uint8Array, command: number, shared: SharedMemory | undefined, scratch: NativeMemory): number {
  if (command !== Command.DMA_READ && command !== Command.DMA_WRITE)
    throw new VfioError("ENOTSUP", `command ${command}`);
  if (shared === undefined) throw new VfioError("EFAULT", "this client shares no memory by messages");
  const { address, count } = decodeDmaAccess(payload);
  const sent = payload.length - DMA_ACCESS_SIZE;
  const expected = command === Command.DMA_WRITE ? count : 0n;
  if (count > MAX_DATA_XFER_SIZE || BigInt(sent) !== expected) throw new VfioError("EINVAL", `DMA of ${count} bytes`);
  scratch.view.setBigUint64(HEADER_SIZE, address, true);
  scratch.view.setBigUint64(HEADER_SIZE + 8, count, true);
  if (command === Command.DMA_WRITE) {
    shared.write(address, payload.subarray(DMA_ACCESS_SIZE));
    return DMA_ACCESS_SIZE;
  }
  const start = HEADER_SIZE + DMA_ACCESS_SIZE;
  shared.read(address, scratch.bytes.subarray(start, start + Number(count)));
  return DMA_ACCESS_SIZE + Number(count);
}
