import { type Fd, NativeMemory, OsError, preadInto, pwriteFrom } from "../../src/os/index.js";
import { Command, commandName } from "../../src/vfio-user/header.js";
import type { Random } from "../fuzz/random.js";
import { pieceOf, type ServedPath, SimulatedClient } from "./client.js";
import { Finding } from "./finding.js";
import { MemoryTokens, type Session } from "./memory_tokens.js";
import type { SystemCalls } from "./system_calls.js";
import type { Trace } from "./trace.js";
import { firstMessage, type Listener, nextMessage } from "./wishes.js";
import type { World } from "./world.js";

const MOST_CLIENTS = 6;
const MOST_KEPT = 8;
/** Bytes of a kept file that are looked at. */
const LOOKED_AT = 4096;
/** More messages than a client ever has waiting. */
const ALL = 1000;

/** All clients of a machine, and the files of memory that they have been given, which they keep when they go. */
export class Crowd implements Listener {
  readonly #world: World;
  readonly #calls: SystemCalls;
  readonly #trace: Trace;
  readonly #tokens = new MemoryTokens();
  readonly #scratch = new NativeMemory(LOOKED_AT);
  #clients: SimulatedClient[] = [];
  #kept: { fd: Fd; session: Session }[] = [];
  #born = 0;

  constructor(world: World, calls: SystemCalls, trace: Trace) {
    this.#world = world;
    this.#calls = calls;
    this.#trace = trace;
  }

  get isGone(): boolean {
    return this.#clients.length === 0;
  }

  /** Every client that is served has sent what it was about to send, and has been answered. */
  get isContent(): boolean {
    return this.#clients.every((client) => !client.isSending && (client.due.length === 0 || client.isExcused));
  }

  /** What is owed to whom, in words. */
  get owed(): string {
    const waiting = this.#clients.filter(({ due }) => due.length > 0);
    return waiting
      .map(({ label, due }) => `; ${label} waits for ${commandName(due[0]?.message.command ?? 0)}`)
      .join("");
  }

  onOpen(client: SimulatedClient): void {
    const { address } = client.served;
    client.gone = this.#tokens.over();
    client.session = this.#tokens.begin(address, this.#world.ownerOf(address));
  }

  onMapping(client: SimulatedClient, fd: Fd): void {
    const { session } = client;
    if (session === undefined || this.#kept.length >= MOST_KEPT) fd.close();
    else this.#kept.push({ fd, session });
  }

  /** One client does something: comes, sends a piece, takes what has come, or goes, wherever it is just then. */
  act(random: Random): void {
    this.#calls.as("client", () => {
      const client = this.#clients[random.below(Math.max(this.#clients.length, 2))];
      if (client === undefined) this.#connect(random);
      else if (random.once(150)) this.#close(client, "goes away");
      else if (random.once(40) && this.#clients.length < MOST_CLIENTS) this.#connect(random);
      else if (random.once(3)) this.#receive(client, random.once(4) ? 1 : ALL);
      else this.#send(random, client);
    });
  }

  /** Clients take the answer to a reset, and being let in, at once. */
  takeAnswers(): void {
    this.#calls.as("client", () => {
      for (const client of [...this.#clients]) {
        if (client.awaits(Command.VERSION) || client.awaits(Command.DEVICE_RESET)) this.#receive(client, ALL);
      }
    });
  }

  /** Everybody takes what has come and sends what is begun. */
  settle(): void {
    this.#calls.as("client", () => {
      for (const client of [...this.#clients]) this.#receive(client, ALL);
      for (const client of this.#clients) client.finish();
    });
  }

  /** Everybody goes. */
  leave(): void {
    for (const client of [...this.#clients]) this.#close(client, "goes away");
  }

  /** The host of all clients is switched off. */
  vanish(): void {
    for (const client of this.#clients.splice(0)) client.close();
  }

  forgetFiles(): void {
    for (const { fd } of this.#kept.splice(0)) fd.close();
  }

  /** A file that was given to a client is read and written, whatever has become of the client. */
  useFile(random: Random): void {
    const kept = this.#kept[random.below(Math.max(1, this.#kept.length))];
    if (kept === undefined) return;
    this.#trace.add(`the file that client ${kept.session.number} was given is used`);
    const { bytes, address } = this.#scratch;
    const length = preadInto(kept.fd, address, LOOKED_AT, 0);
    this.#tokens.check(bytes.slice(0, length), kept.session);
    bytes.set(this.#tokens.bytes(kept.session, LOOKED_AT));
    pwriteFrom(kept.fd, address, LOOKED_AT, 0);
    if (!random.once(4)) return;
    kept.fd.close();
    this.#kept = this.#kept.filter((each) => each !== kept);
  }

  /**
   * A client comes for each of these, and asks to be let in.
   * @returns those that could connect
   */
  comeTo(served: readonly ServedPath[]): SimulatedClient[] {
    return this.#calls.as("client", () => {
      const comers = served.flatMap((path) => this.#connectTo(path) ?? []);
      for (const client of comers) {
        client.begin(firstMessage(client, this));
        client.finish();
      }
      return comers;
    });
  }

  #connect(random: Random): void {
    const { paths, worker } = this.#world;
    const isServing = worker?.server !== undefined;
    const open = paths.filter(({ address }) => !isServing || this.#world.ownerOf(address) !== "host");
    const likely = isServing && random.once(10) ? paths : open;
    const from = random.once(4) ? likely : likely.filter(({ kind }) => kind === "gpu");
    const served = from[random.below(Math.max(1, from.length))];
    if (served !== undefined && (isServing || random.once(5))) this.#connectTo(served);
  }

  #connectTo(served: ServedPath): SimulatedClient | undefined {
    const label = `client ${++this.#born} of ${served.name}`;
    try {
      const client = new SimulatedClient(served, label, this.#calls, this.#world.worker?.server);
      this.#clients.push(client);
      this.#trace.add(`${label} connects`);
      return client;
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      this.#trace.add(`${label} cannot connect: ${error.code}`);
      return undefined;
    }
  }

  #send(random: Random, client: SimulatedClient): void {
    if (!client.isSending) {
      if (!client.mayBegin) return;
      client.begin(nextMessage(random, client, this.#tokens, this));
    }
    const what = client.sending;
    const count = client.send(pieceOf(random));
    this.#trace.add(`${client.label} sends ${count ?? "no"} bytes of ${what}`);
    if (count === undefined) this.#receive(client, ALL);
  }

  #receive(client: SimulatedClient, most: number): void {
    const taken = client.receive(most);
    if (taken === undefined || taken > 0) this.#trace.add(`${client.label} takes ${taken ?? "the end"}`);
    if (taken !== undefined) return;
    if (!client.isExcused && !this.#mayEnd(client)) {
      throw new Finding(`the server ended the connection of ${client.label}, which was in order`);
    }
    this.#close(client, "finds that the server has gone");
  }

  #close(client: SimulatedClient, why: string): void {
    this.#trace.add(`${client.label} ${why}`);
    this.#calls.as("client", () => client.close());
    this.#clients = this.#clients.filter((each) => each !== client);
  }

  /** Servers end connections of those who take nothing, as it seems, when another comes, and all when they end. */
  #mayEnd({ server, wasSlow, held }: SimulatedClient): boolean {
    return server !== this.#world.worker?.server || wasSlow || held;
  }
}
