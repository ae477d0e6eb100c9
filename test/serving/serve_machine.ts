import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Request, ServingEvent, ServingStatus, VirtualServingData } from "../../src/cli/serve/messages.js";
import { parseAssignments } from "../../src/isolation/assignment.js";
import type { Machine } from "../../src/machine/machine.js";
import { type RunningServer, type ServerEvent, startServer, VfioUserClient } from "../../src/vfio-user/index.js";
import { Guest } from "./guest.js";

/** A machine that is served in a directory of its own. */
export class ServedMachine {
  readonly events: (ServerEvent | ServingEvent)[] = [];
  readonly #clients: { close(): void }[] = [];
  #server: RunningServer | undefined;

  private constructor(
    readonly machine: Machine,
    readonly directory: string,
  ) {}

  /** @throws what the worker throws; the directory is gone then */
  static async start(
    machine: Machine,
    assign: string[],
    options: Partial<VirtualServingData> = {},
  ): Promise<ServedMachine> {
    const served = new ServedMachine(machine, mkdtempSync(join(tmpdir(), "linkfence-serving-")));
    const data: VirtualServingData = {
      machine,
      assignments: parseAssignments(machine, assign),
      socketDir: served.directory,
      gpuMemory: 2 ** 24,
      ramAsBar: false,
      resetClearsMemory: false,
      includeHost: false,
      pageSize: 4096,
      ...options,
    };
    try {
      served.#server = await startServer({
        module: new URL("../../src/cli/serve/virtual_serving.js", import.meta.url),
        data,
        onEvent: (event) => served.events.push(event),
        onNews: (news) => served.events.push(news as ServingEvent),
      });
      return served;
    } catch (error) {
      await served.stop();
      throw error;
    }
  }

  call(request: Request): Promise<unknown> {
    return this.#server?.call(request) ?? Promise.reject(new Error("not started"));
  }

  async status(): Promise<ServingStatus> {
    return (await this.call({ kind: "status" })) as ServingStatus;
  }

  async assign(...assign: string[]): Promise<ServingStatus> {
    return (await this.call({
      kind: "assign",
      assignments: parseAssignments(this.machine, assign),
    })) as ServingStatus;
  }

  get sockets(): readonly string[] {
    return this.#server?.sockets ?? [];
  }

  /** The socket of a GPU by its name, or of a bridge by its address. */
  socket(name: string): string {
    const path = this.sockets.find((each) => each.includes(`/${name}-`) || each.endsWith(`-${name}.sock`));
    if (path === undefined) throw new Error(`${name} is not served: ${this.sockets.join(" ")}`);
    return path;
  }

  guest(name: string): Guest {
    const guest = new Guest(this.socket(name));
    this.#clients.push(guest);
    return guest;
  }

  client(name: string): VfioUserClient {
    const client = new VfioUserClient(this.socket(name));
    this.#clients.push(client);
    return client;
  }

  /** Ends all guests and clients. */
  dismiss(): void {
    for (const client of this.#clients.splice(0)) client.close();
  }

  async stopServing(): Promise<void> {
    await this.#server?.stop();
  }

  async stop(): Promise<void> {
    this.dismiss();
    await this.stopServing();
    rmSync(this.directory, { recursive: true });
  }
}

/** Serves a machine while `use` runs. */
export async function withServed(
  machine: Machine,
  assign: string[],
  use: (served: ServedMachine) => Promise<void> | void,
  options: Partial<VirtualServingData> = {},
): Promise<void> {
  const served = await ServedMachine.start(machine, assign, options);
  try {
    await use(served);
  } finally {
    await served.stop();
  }
}
