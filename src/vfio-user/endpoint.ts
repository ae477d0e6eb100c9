import { acceptUnix, type Fd, type PeerCredentials, POLLIN, peerCredentials } from "../os/index.js";
import { type Steps, type VfioDevice, VfioError } from "../vfio/index.js";
import { Listener } from "./listener.js";
import { Refusal } from "./refusal.js";
import { Session, type SessionEndpoint, type SessionHost } from "./session.js";

/** What happens to a served device, for logs. */
export type ServerEvent =
  | { kind: "connect"; socket: string; peer: PeerCredentials }
  | { kind: "disconnect"; socket: string; reason: string }
  | { kind: "refuse"; socket: string; peer: PeerCredentials }
  | { kind: "error"; socket: string; message: string };

/** Who is connected to a device's socket. */
export interface Occupant {
  peer: PeerCredentials;
  /** When it connected, in milliseconds as `Date.now()` gives them. */
  since: number;
}

const MAX_REFUSALS = 8;
const REFUSAL_TIMEOUT = 1000;
/** How long no connection is accepted after one could not be, in milliseconds. */
const ACCEPT_PAUSE = 100;

/** One device's socket: it listens, has at most one session, and turns others away. */
export class Endpoint implements SessionEndpoint {
  readonly #host: SessionHost;
  readonly #listener: Listener;
  readonly #token: number;
  readonly #refusals = new Set<Refusal>();
  #session: Session | undefined;
  #occupant: Occupant | undefined;
  /** Pieces of work that go on: what a client has begun, and its end. */
  #works = 0;

  /** @throws {OsError} as {@link Listener} */
  constructor(
    host: SessionHost,
    readonly device: VfioDevice,
    readonly socket: string,
    private readonly onEvent: (event: ServerEvent) => void,
    group?: number,
  ) {
    this.#host = host;
    this.#listener = new Listener(socket, group);
    this.#token = host.poller.add(this.#listener.fd, POLLIN, this);
  }

  /** The socket's absolute path. */
  get path(): string {
    return this.#listener.path;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  /** Whoever is connected, also while it negotiates. */
  get occupant(): Occupant | undefined {
    return this.#session === undefined ? undefined : this.#occupant;
  }

  onReady(): void {
    let socket: Fd | undefined;
    try {
      socket = acceptUnix(this.#listener.fd);
    } catch (error) {
      this.#pauseAccepting(error);
      return;
    }
    if (socket === undefined) return;
    const peer = peerCredentials(socket);
    // A client that comes back at once may be seen before the end of its last connection.
    if (this.#session === undefined || !this.#session.isAlive()) {
      this.#occupant = { peer, since: Date.now() };
      this.#session = new Session(this.#host, this, socket);
    } else {
      this.#refuse(socket, peer);
    }
  }

  onOpen(): void {
    const peer = this.#occupant?.peer;
    if (peer !== undefined) this.onEvent({ kind: "connect", socket: this.socket, peer });
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
    this.#host.poller.remove(this.#listener.fd, this.#token);
    this.#listener.close();
  }

  /** Descriptors have run out, which may pass. Until then the waiting client would be reported again and again. */
  #pauseAccepting(error: unknown): void {
    this.onError(error);
    this.#host.poller.modify(this.#listener.fd, this.#token, 0);
    this.#host.tasks.start(this, this.#acceptLater(), () => {});
  }

  *#acceptLater() {
    yield { deadline: performance.now() + ACCEPT_PAUSE };
    this.#host.poller.modify(this.#listener.fd, this.#token, POLLIN);
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
