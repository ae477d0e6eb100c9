import {
  createEventfd,
  EventSignaller,
  type Fd,
  NativeMemory,
  POLLIN,
  Poller,
  SocketMessenger,
  signalEventfd,
} from "../os/index.js";
import type { VfioDevice } from "../vfio/index.js";
import { Endpoint, type Occupant, type ServerEvent } from "./endpoint.js";
import { smallReplies } from "./region_messages.js";
import { MAX_MESSAGE } from "./server_limits.js";
import type { Session, SessionHost } from "./session.js";
import { TaskRunner } from "./task_runner.js";

/** A device and the path of the Unix socket that it is served on (at most 107 bytes). */
export interface ServedDevice {
  socket: string;
  device: VfioDevice;
}

export interface ServerOptions {
  /**
   * Microseconds for which the server asks again and again for the next message before it sleeps. 50 or so makes a
   * round trip between two CPUs several times faster, and burns one of them.
   */
  spin?: number;
  /**
   * Id of a group whose members may connect besides this user: the sockets have mode 0660 and that group, else 0600.
   */
  group?: number | undefined;
  /** Told what happens. */
  onEvent?: (event: ServerEvent) => void;
  /** @internal Told the absolute paths of all sockets whenever they change. */
  onSockets?: (paths: string[]) => void;
}

/** While a client is served by spinning, the others are looked after every so many messages. */
const SPINS_PER_POLL = 16;

/**
 * Serves devices on this thread, which does nothing else in {@link run}: register accesses are answered in the order
 * of arrival, each client has its turn, and nobody waits for anybody's reset or DMA. To keep a thread for other things
 * see `startServer`.
 */
export class VfioUserServer implements SessionHost {
  /** Watches further descriptors, for devices that have some of their own. */
  readonly poller: Poller;
  /** @internal As what follows, for sessions. */
  readonly tasks = new TaskRunner();
  readonly signaller: EventSignaller;
  readonly messenger = new SocketMessenger();
  readonly reply = new NativeMemory(MAX_MESSAGE);
  readonly replyData = smallReplies(this.reply);
  readonly #endpoints: Endpoint[] = [];
  readonly #spin: number;
  readonly #group: number | undefined;
  readonly #stop: Fd;
  readonly #onEvent: (event: ServerEvent) => void;
  readonly #onSockets: (paths: string[]) => void;
  #again: Session[] = [];
  #recent: Session | undefined;
  #stopped = false;

  /**
   * Listens for every device.
   * @throws {OsError} EADDRINUSE, EPERM for a group that this process is not in, and the like; nothing is left behind
   * then
   */
  constructor(devices: readonly ServedDevice[], options: ServerOptions = {}) {
    this.#spin = (options.spin ?? 0) / 1000;
    this.#group = options.group;
    this.#onEvent = options.onEvent ?? (() => {});
    this.#onSockets = options.onSockets ?? (() => {});
    const made: { close(): void }[] = [];
    const make = <T extends { close(): void }>(what: () => T): T => {
      try {
        const one = what();
        made.push(one);
        return one;
      } catch (error) {
        for (const each of made) each.close();
        throw error;
      }
    };
    this.poller = make(() => new Poller());
    this.signaller = make(() => new EventSignaller());
    this.#stop = make(createEventfd);
    try {
      this.poller.add(this.#stop, POLLIN, { onReady: () => this.stop() });
      for (const { device, socket } of devices) this.add(device, socket);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Serves one more device. @throws {OsError} as the constructor */
  add(device: VfioDevice, socket: string): void {
    this.#endpoints.push(new Endpoint(this, device, socket, this.#onEvent, this.#group));
    this.#reportSockets();
  }

  /** Stops serving a device, disconnecting its client, if it is served. Work of the device is cancelled. */
  remove(device: VfioDevice): void {
    const index = this.#endpoints.findIndex((endpoint) => endpoint.device === device);
    if (index < 0) return;
    for (const endpoint of this.#endpoints.splice(index, 1)) endpoint.close();
    this.#reportSockets();
  }

  /** Whoever is connected to the device's socket, also while it negotiates; undefined when nobody is. */
  occupantOf(device: VfioDevice): Occupant | undefined {
    return this.#endpointOf(device)?.occupant;
  }

  /** Whether work of the device goes on: a reset, what it does before a client comes or after one went. */
  isBusy(device: VfioDevice): boolean {
    return this.#endpointOf(device)?.isBusy === true;
  }

  /** Number of an eventfd that stops {@link run} when it is signalled, from whatever thread. */
  get stopEventfd(): number {
    return this.#stop.number;
  }

  /** Serves until it is stopped. */
  run(): void {
    while (!this.#stopped) this.step(-1);
  }

  /** Has {@link run} return, from within or, by {@link stopEventfd}, from without. */
  stop(): void {
    this.#stopped = true;
    signalEventfd(this.#stop);
  }

  /** @internal */
  again(session: Session): void {
    if (!this.#again.includes(session)) this.#again.push(session);
  }

  /**
   * Waits for something to do, at most `timeout` milliseconds (-1: without a limit), and does it.
   */
  step(timeout: number): void {
    if (this.#recent !== undefined && this.#again.length === 0 && this.#spin > 0) this.#spinOn(this.#recent);
    this.poller.wait(this.#again.length > 0 ? 0 : this.#timeout(timeout));
    if (this.#again.length > 0) {
      const sessions = this.#again;
      this.#again = [];
      for (const session of sessions) session.turn();
    }
    if (!this.tasks.isIdle) this.tasks.run();
  }

  /** Disconnects everybody, removes the sockets and lets everything go. */
  close(): void {
    for (const endpoint of this.#endpoints.splice(0)) endpoint.close();
    this.poller.close();
    this.signaller.close();
    this.#stop.close();
  }

  /** @internal Remembers whom to spin on. */
  served(session: Session): void {
    this.#recent = session;
  }

  #endpointOf(device: VfioDevice): Endpoint | undefined {
    return this.#endpoints.find((endpoint) => endpoint.device === device);
  }

  #spinOn(session: Session): void {
    let until = performance.now() + this.#spin;
    for (let served = 0; served < SPINS_PER_POLL; ) {
      if (session.isClosed) {
        this.#recent = undefined;
        return;
      }
      if (session.spin()) {
        served++;
        if (!this.tasks.isIdle) return;
        until = performance.now() + this.#spin;
      } else if (performance.now() >= until) {
        this.#recent = undefined;
        return;
      }
    }
  }

  #reportSockets(): void {
    this.#onSockets(this.#endpoints.map(({ path }) => path));
  }

  #timeout(limit: number): number {
    // Fresh from spinning: only a look at the others.
    if (this.#recent !== undefined && this.#spin > 0) return 0;
    if (this.tasks.isIdle) return limit;
    const next = this.tasks.timeout();
    return limit < 0 ? next : Math.min(limit, next);
  }
}
