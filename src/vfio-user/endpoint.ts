import { lstatSync, unlinkSync } from "node:fs";
import {
  acceptUnix,
  connectUnix,
  type Fd,
  listenUnix,
  OsError,
  type PeerCredentials,
  POLLIN,
  peerCredentials,
} from "../os/index.js";
import { type Steps, type VfioDevice, VfioError } from "../vfio/index.js";
import { Refusal } from "./refusal.js";
import { Session, type SessionEndpoint, type SessionHost } from "./session.js";

/** What happens to a served device, for logs. */
export type ServerEvent =
  | { kind: "connect"; socket: string; peer: PeerCredentials }
  | { kind: "disconnect"; socket: string; reason: string }
  | { kind: "refuse"; socket: string; peer: PeerCredentials }
  | { kind: "error"; socket: string; message: string };

const MAX_REFUSALS = 8;
const REFUSAL_TIMEOUT = 1000;
/** How long no connection is accepted after one could not be, in milliseconds. */
const ACCEPT_PAUSE = 100;

/** One device's socket: it listens, has at most one session, and turns others away. */
export class Endpoint implements SessionEndpoint {
  readonly #host: SessionHost;
  readonly #listener: Fd;
  readonly #token: number;
  readonly #inode: bigint;
  readonly #refusals = new Set<Refusal>();
  #session: Session | undefined;
  #peer: PeerCredentials | undefined;
  /** Pieces of work that go on: a reset, and the end of the client that asked for it. */
  #works = 0;

  /** @throws {OsError} EADDRINUSE when somebody listens there or something other than a socket is in the way */
  constructor(
    host: SessionHost,
    readonly device: VfioDevice,
    readonly socket: string,
    private readonly onEvent: (event: ServerEvent) => void,
  ) {
    this.#host = host;
    this.#listener = listenAt(socket);
    this.#inode = lstatSync(socket, { bigint: true }).ino;
    this.#token = host.poller.add(this.#listener, POLLIN, this);
  }

  get session(): Session | undefined {
    return this.#session;
  }

  onReady(): void {
    let socket: Fd | undefined;
    try {
      socket = acceptUnix(this.#listener);
    } catch (error) {
      this.#pauseAccepting(error);
      return;
    }
    if (socket === undefined) return;
    const peer = peerCredentials(socket);
    // A client that comes back at once may be seen before the end of its last connection.
    if (this.#session === undefined || !this.#session.isAlive()) {
      this.#peer = peer;
      this.#session = new Session(this.#host, this, socket);
    } else {
      this.#refuse(socket, peer);
    }
  }

  onOpen(): void {
    if (this.#peer !== undefined) this.onEvent({ kind: "connect", socket: this.socket, peer: this.#peer });
  }

  onClose(reason: string): void {
    this.#session = undefined;
    this.onEvent({ kind: "disconnect", socket: this.socket, reason });
  }

  onError(error: unknown): void {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.onEvent({ kind: "error", socket: this.socket, message: error instanceof VfioError ? error.message : message });
  }

  get isBusy(): boolean {
    return this.#works > 0;
  }

  work(steps: Steps, onEnd: (error?: unknown) => void): void {
    let begun = false;
    this.#works++;
    // The device's, not the session's: what has begun is finished, whatever becomes of the client.
    this.#host.tasks.start(this.device, steps, (error) => {
      this.#works--;
      onEnd(error);
      if (begun && !this.isBusy && this.#session !== undefined) this.#host.again(this.#session);
    });
    begun = true;
  }

  /** Ends everything and removes the socket file. */
  close(): void {
    this.#session?.close("the server stopped");
    this.#host.tasks.cancel(this.device);
    this.#host.tasks.cancel(this);
    for (const refusal of this.#refusals) refusal.end();
    this.#host.poller.remove(this.#listener, this.#token);
    this.#listener.close();
    removeSocket(this.socket, this.#inode);
  }

  /** Descriptors have run out, which may pass. Until then the waiting client would be reported again and again. */
  #pauseAccepting(error: unknown): void {
    this.onError(error);
    this.#host.poller.modify(this.#listener, this.#token, 0);
    this.#host.tasks.start(this, this.#acceptLater(), () => {});
  }

  *#acceptLater() {
    yield { deadline: performance.now() + ACCEPT_PAUSE };
    this.#host.poller.modify(this.#listener, this.#token, POLLIN);
  }

  #refuse(socket: Fd, peer: PeerCredentials): void {
    this.onEvent({ kind: "refuse", socket: this.socket, peer });
    if (this.#refusals.size >= MAX_REFUSALS) {
      socket.close();
      return;
    }
    const { messenger, poller, reply, tasks } = this.#host;
    const refusal = new Refusal(socket, messenger, poller, reply, () => {
      this.#refusals.delete(refusal);
      tasks.cancel(refusal);
    });
    this.#refusals.add(refusal);
    tasks.start(refusal, endLater(refusal), () => {});
  }
}

function* endLater(refusal: Refusal) {
  yield { deadline: performance.now() + REFUSAL_TIMEOUT };
  refusal.end();
}

/** Listens at a path, in place of a socket that a killed server has left there. */
function listenAt(path: string): Fd {
  let listener: Fd;
  try {
    listener = listenUnix(path);
  } catch (error) {
    if (!(error instanceof OsError) || error.code !== "EADDRINUSE" || !isLeftBehind(path)) throw error;
    unlinkSync(path);
    listener = listenUnix(path);
  }
  return listener;
}

function isLeftBehind(path: string): boolean {
  if (!lstatSync(path).isSocket()) return false;
  try {
    connectUnix(path).close();
    return false;
  } catch (error) {
    return error instanceof OsError && error.code === "ECONNREFUSED";
  }
}

/** Removes the socket file, unless another has taken its place. */
function removeSocket(path: string, inode: bigint): void {
  try {
    if (lstatSync(path, { bigint: true }).ino === inode) unlinkSync(path);
  } catch {
    // Somebody removed it already.
  }
}
