import type { NativeMemory } from "../os/index.js";
import { type VfioDevice, VfioError } from "../vfio/index.js";
import { checkAccess } from "./commands.js";
import { Command, FLAG_TYPE_REPLY, HEADER_SIZE, putHeader } from "./header.js";
import type { MessageStream } from "./message_stream.js";
import { REGION_ACCESS_SIZE } from "./region_access.js";
import { MAX_DATA_XFER_SIZE } from "./server_limits.js";

/** Where register data begins in a message. */
const DATA = HEADER_SIZE + REGION_ACCESS_SIZE;
/** Counts up to which the same views are used again and again: registers. */
const SMALL = 8;

/** Views of a reply's data for each small count: the same objects for every access. */
export function smallReplies(reply: NativeMemory): readonly Uint8Array[] {
  return Array.from({ length: SMALL + 1 }, (_, count) => reply.bytes.subarray(DATA, DATA + count));
}

/** REGION_READ and REGION_WRITE, the messages that guests wait for: answered in place, allocating nothing. */
export class RegionMessages {
  readonly #device: VfioDevice;
  readonly #stream: MessageStream;
  readonly #reply: NativeMemory;
  readonly #replyData: readonly Uint8Array[];
  /** Views of small writes where they lie when a message is alone in the buffer. */
  readonly #writeData: (Uint8Array | undefined)[] = [];
  #writeBuffer: Uint8Array | undefined;

  /**
   * @param reply where replies are built
   * @param replyData its {@link smallReplies}
   */
  constructor(device: VfioDevice, stream: MessageStream, reply: NativeMemory, replyData: readonly Uint8Array[]) {
    this.#device = device;
    this.#stream = stream;
    this.#reply = reply;
    this.#replyData = replyData;
  }

  /** Answers the stream's current message, a REGION_READ. @throws {VfioError} EINVAL, or what the device throws */
  read(id: number, wantsReply: boolean): void {
    const { view, at, size } = this.#stream;
    if (size !== DATA) throw new VfioError("EINVAL", `REGION_READ of ${size} bytes`);
    const low = view.getUint32(at + HEADER_SIZE, true);
    const high = view.getUint32(at + HEADER_SIZE + 4, true);
    const region = view.getUint32(at + HEADER_SIZE + 8, true);
    const asked = view.getUint32(at + HEADER_SIZE + 12, true);
    if (asked > MAX_DATA_XFER_SIZE) throw new VfioError("EINVAL", `REGION_READ of ${asked} bytes of data`);
    const offset = high * 2 ** 32 + low;
    const count = checkAccess(this.#device, region, offset, asked, false);
    const reply = this.#reply;
    const data = this.#replyData[count] ?? reply.bytes.subarray(DATA, DATA + count);
    // The buffer held somebody else's reply, and a device may fill less than it should. A call of fill() would cost as
    // much as the rest of a register access.
    if (count <= SMALL) reply.view.setFloat64(DATA, 0);
    else data.fill(0);
    this.#device.read(region, offset, data);
    if (!wantsReply) return;
    putHeader(reply.view, id, Command.REGION_READ, DATA + count, FLAG_TYPE_REPLY);
    this.#putAccess(low, high, region, count);
    this.#stream.send(reply, DATA + count);
  }

  /** Answers the stream's current message, a REGION_WRITE. @throws {VfioError} EINVAL, or what the device throws */
  write(id: number, wantsReply: boolean): void {
    const { view, at, size } = this.#stream;
    if (size < DATA) throw new VfioError("EINVAL", `REGION_WRITE of ${size} bytes`);
    const low = view.getUint32(at + HEADER_SIZE, true);
    const high = view.getUint32(at + HEADER_SIZE + 4, true);
    const region = view.getUint32(at + HEADER_SIZE + 8, true);
    const sent = view.getUint32(at + HEADER_SIZE + 12, true);
    if (size !== DATA + sent) throw new VfioError("EINVAL", `REGION_WRITE of ${size} bytes for ${sent} of data`);
    if (sent > MAX_DATA_XFER_SIZE) throw new VfioError("EINVAL", `REGION_WRITE of ${sent} bytes of data`);
    const offset = high * 2 ** 32 + low;
    const count = checkAccess(this.#device, region, offset, sent, true);
    this.#device.write(region, offset, this.#written(at + DATA, count));
    if (!wantsReply) return;
    putHeader(this.#reply.view, id, Command.REGION_WRITE, DATA, FLAG_TYPE_REPLY);
    this.#putAccess(low, high, region, count);
    this.#stream.send(this.#reply, DATA);
  }

  #putAccess(low: number, high: number, region: number, count: number): void {
    const { view } = this.#reply;
    view.setUint32(HEADER_SIZE, low, true);
    view.setUint32(HEADER_SIZE + 4, high, true);
    view.setUint32(HEADER_SIZE + 8, region, true);
    view.setUint32(HEADER_SIZE + 12, count, true);
  }

  /** The data of a write, without allocating for the usual small one. */
  #written(at: number, count: number): Uint8Array {
    const { bytes } = this.#stream;
    if (at !== DATA || count > SMALL) return bytes.subarray(at, at + count);
    if (this.#writeBuffer !== bytes) {
      this.#writeBuffer = bytes;
      this.#writeData.length = 0;
    }
    const known = this.#writeData[count];
    if (known !== undefined) return known;
    const data = bytes.subarray(at, at + count);
    this.#writeData[count] = data;
    return data;
  }
}
