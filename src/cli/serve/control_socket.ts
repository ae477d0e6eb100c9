import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { listenUnix } from "../../os/index.js";
import { failureLine } from "../failure.js";
import { type ControlReply, type ControlRequest, linesOf, MAX_REQUEST, readRequest } from "./control_protocol.js";

/** Carries out a request; what it throws is the client's error line. */
export type RequestHandler = (request: ControlRequest, onProgress: (line: string) => void) => Promise<unknown>;

const MAX_CLIENTS = 16;
/** How long a client may neither send nor take anything, in milliseconds, unless it waits for us. */
const PATIENCE = 10_000;
/** Bytes of replies that a client may leave untaken before it gets no more progress lines. */
const MAX_UNTAKEN = 1 << 20;

/**
 * The socket over which `status`, `assign` and `release` talk to a running server. Only its owner can connect (mode
 * 0600): whoever may change an assignment decides who reaches which memory. Every client has its requests answered in
 * order, and none waits for another's.
 */
export class ControlSocket {
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  /**
   * Listens, in place of a socket that a killed server has left. The caller holds the directory's lock.
   * @throws {OsError} when it cannot
   */
  constructor(
    readonly path: string,
    private readonly handle: RequestHandler,
  ) {
    rmSync(path, { force: true });
    // Bound by ourselves: node:net makes a socket that anybody can connect to until its mode is changed.
    const listener = listenUnix(path);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#admit(socket));
    this.#server.on("error", () => undefined);
    this.#server.maxConnections = MAX_CLIENTS;
    this.#server.listen({ fd: listener.release() });
  }

  /** Ends all conversations and removes the socket. */
  close(): void {
    rmSync(this.path, { force: true });
    this.#server.close();
    for (const client of this.#clients) client.destroy();
  }

  #admit(socket: Socket): void {
    this.#clients.add(socket);
    socket.on("close", () => this.#clients.delete(socket));
    socket.on("error", () => undefined);
    socket.on("timeout", () => socket.destroy());
    this.#converse(socket).catch(() => socket.destroy());
  }

  async #converse(socket: Socket): Promise<void> {
    socket.setTimeout(PATIENCE);
    try {
      // Not destroyed by a line that is too long: its sender is told.
      const bytes = socket.iterator({ destroyOnReturn: false });
      for await (const line of linesOf(bytes, MAX_REQUEST)) await send(socket, await this.#answer(line, socket));
    } catch (error) {
      await send(socket, { error: failureLine(error) });
    }
    socket.destroySoon();
  }

  /** Never rejects. While the client waits for us it need neither send nor take anything. */
  async #answer(line: string, socket: Socket): Promise<ControlReply> {
    const onProgress = (progress: string) => {
      if (socket.writableLength < MAX_UNTAKEN) void send(socket, { progress });
    };
    socket.setTimeout(0);
    try {
      return { result: await this.handle(readRequest(line), onProgress) };
    } catch (error) {
      return { error: failureLine(error) };
    } finally {
      socket.setTimeout(PATIENCE);
    }
  }
}

/** Resolves when the client has taken it, or is gone. */
async function send(socket: Socket, reply: ControlReply): Promise<void> {
  if (!socket.writable) return;
  await new Promise<void>((resolve) => {
    socket.once("close", resolve);
    socket.write(`${JSON.stringify(reply)}\n`, () => {
      socket.off("close", resolve);
      resolve();
    });
  });
}
