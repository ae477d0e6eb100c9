import { constants } from "node:os";
import { type Fd, type NativeMemory, POLLIN, type Poller, type SocketMessenger, WOULD_BLOCK } from "../os/index.js";
import { FLAG_ERROR, FLAG_TYPE_REPLY, HEADER_COMMAND, HEADER_ID, HEADER_SIZE, putHeader } from "./header.js";
import { MessageStream } from "./message_stream.js";

/** Enough for the VERSION message of anybody. */
const MAX_FIRST_MESSAGE = 8192;

/**
 * Tells a second client that the device is taken: its first message is answered with EBUSY. Without that answer a
 * client could only guess why its connection ended.
 */
export class Refusal {
  readonly #stream: MessageStream;
  readonly #poller: Poller;
  readonly #token: number;
  readonly #onEnd: () => void;
  #ended = false;

  /** @param socket owned by the refusal from now on */
  constructor(
    socket: Fd,
    messenger: SocketMessenger,
    poller: Poller,
    private readonly reply: NativeMemory,
    onEnd: () => void,
  ) {
    this.#stream = new MessageStream(socket, messenger, MAX_FIRST_MESSAGE, 0);
    this.#poller = poller;
    this.#onEnd = onEnd;
    this.#token = poller.add(socket, POLLIN, this);
  }

  onReady(): void {
    const stream = this.#stream;
    try {
      const count = stream.receive();
      if (count === WOULD_BLOCK || (count > 0 && !stream.next())) return;
      if (count > 0) {
        const id = stream.view.getUint16(stream.at + HEADER_ID, true);
        const command = stream.view.getUint16(stream.at + HEADER_COMMAND, true);
        putHeader(this.reply.view, id, command, HEADER_SIZE, FLAG_TYPE_REPLY | FLAG_ERROR, constants.errno.EBUSY);
        stream.send(this.reply, HEADER_SIZE);
      }
    } catch {
      // Whatever it was, it is not served.
    }
    this.end();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#poller.remove(this.#stream.socket, this.#token);
    this.#stream.close();
    this.#onEnd();
  }
}
