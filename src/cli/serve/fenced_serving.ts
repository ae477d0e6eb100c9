import { lstatSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../../fence/error.js";
import type { Ledger, LedgerDriver } from "../../fence/ledger.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
// Not the index: this thread needs neither a server nor a client of its own.
import { type RunningServer, type StartOptions, startServer } from "../../vfio-user/running_server.js";
import { UsageError } from "../failure.js";
import { keepWiring } from "../live/kept_wiring.js";
import { progressLine } from "../progress_line.js";
import { changedAssignments, withoutAssignment } from "./assignment_change.js";
import { type ChangeRequest, type ControlRequest, controlPath } from "./control_protocol.js";
import { ControlSocket, type RequestHandler } from "./control_socket.js";
import { HostFunctions } from "./host_functions.js";
import { ledgerFor, ledgerOf, lockLedger, saveLedger, withoutDrivers } from "./ledger_file.js";
import { LockFile } from "./lock_file.js";
import type { LiveServingData, Request, Seen, ServingEvent, ServingStatus, VirtualServingData } from "./messages.js";
import { PrivateDirectory } from "./private_directory.js";
import type { Changer, ServerStatus, WorkerEvent } from "./server_status.js";
import { type PrintForm, type ServedJson, type StatusJson, servedJson, statusJson } from "./serving_json.js";
import type { SocketGroup } from "./socket_group.js";
import { socketPath } from "./socket_names.js";

/** What is served, and where. */
export interface ServingSettings {
  data: VirtualServingData | LiveServingData;
  stateDir: string;
  group: SocketGroup | undefined;
  /** What clients of the control socket are told to paste. */
  form: PrintForm;
  /** Take functions of this host although it uses them. */
  allowInUse?: boolean;
  /** Where the page is, if there is one: for the status. */
  url?: string;
}

/** Letting go of a function of this host resets it, which may take seconds, for each. */
const STOP_PATIENCE = 120_000;

export interface ServingOptions {
  onEvent?: (event: WorkerEvent) => void;
  /** Told when other assignments have come to be served. */
  onChange?: (status: ServerStatus, by: Changer) => void;
}

/** What a serving consists of besides itself. */
export interface ServingParts {
  startServer(options: StartOptions): Promise<Pick<RunningServer, "call" | "done" | "stop">>;
  /** Answers those who come to the control socket, until it is closed. */
  listen(path: string, handle: RequestHandler): { close(): void };
}

const PARTS: ServingParts = { startServer, listen: (path, handle) => new ControlSocket(path, handle) };

/**
 * A machine's assignments, fenced and served: two locked directories, the ledger, the worker with the devices, and the
 * control socket. What it has made is gone when it is closed.
 */
export class FencedServing {
  readonly #settings: ServingSettings;
  readonly #options: ServingOptions;
  readonly #parts: ServingParts;
  readonly #startedAt = new Date().toISOString();
  /** What is to be undone, the last first. */
  readonly #undo: (() => void)[] = [];
  readonly #watchers = new Set<(event: WorkerEvent) => void>();
  #server: Awaited<ReturnType<ServingParts["startServer"]>> | undefined;
  #ledger: Ledger;
  /** Drivers of this host whose functions are taken; undefined of a virtual machine. */
  readonly #host: HostFunctions | undefined;
  /** The end of the change under way: one at a time. */
  #change: Promise<unknown> = Promise.resolve();

  /**
   * Takes the directories and writes the ledger; touches no hardware.
   * @param parts others than a worker and a socket where all of it is to be on one thread
   * @throws UsageError when a directory cannot be had, another server uses it, or the ledger is another machine's; nothing
   *   is left behind then
   */
  static async prepare(
    settings: ServingSettings,
    options: ServingOptions = {},
    parts: ServingParts = PARTS,
  ): Promise<FencedServing> {
    const serving = new FencedServing(settings, options, parts);
    try {
      await serving.#save(settings.data.assignments);
      if (serving.#host !== undefined) await keepWiring(settings.stateDir, settings.data.machine);
    } catch (error) {
      serving.release();
      throw error;
    }
    return serving;
  }

  private constructor(settings: ServingSettings, options: ServingOptions, parts: ServingParts) {
    const { machine, socketDir } = settings.data;
    this.#settings = settings;
    this.#options = options;
    this.#parts = parts;
    this.#host = machine.virtual ? undefined : new HostFunctions(machine, settings.allowInUse === true);
    try {
      this.#take(socketDir, "--socket-dir", (use) => new LockFile(join(socketDir, "serve.lock"), use), settings.group);
      refuseInTheWay(machine, socketDir);
      this.#take(settings.stateDir, "--state-dir", (use) => lockLedger(settings.stateDir, use));
      this.#ledger = ledgerFor(machine, settings.stateDir);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Settled when the worker has ended, whyever. */
  get ended(): Promise<void> {
    return this.#server?.done ?? Promise.resolve();
  }

  /**
   * Fences everything, then serves it. Resolves when every socket can be connected to.
   * @throws what the worker throws; nothing is left behind then
   */
  async start(): Promise<ServerStatus> {
    const { data, group } = this.#settings;
    const module = data.machine.virtual ? "./virtual_serving" : "./live_serving";
    try {
      this.#host?.take(data.assignments, this.#ledger);
      this.#server = await this.#parts.startServer({
        module: new URL(`${module}${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url),
        data,
        group: group?.gid,
        ...(this.#host !== undefined && { stopPatience: STOP_PATIENCE }),
        onEvent: (event) => this.#tell(event),
        onNews: (news) => this.#tell(news as ServingEvent),
      });
      const control = this.#parts.listen(controlPath(data.socketDir), (request, onProgress) =>
        this.answer(request, onProgress),
      );
      this.#undo.push(() => control.close());
      return await this.status();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** What is fenced, served and attached at this moment. */
  async status(): Promise<ServerStatus> {
    const status = (await this.#call({ kind: "status" })) as ServingStatus;
    const { data, stateDir, url } = this.#settings;
    const where = { socketDir: data.socketDir, stateDir, ...(url !== undefined && { http: { url } }) };
    return { ...status, pid: process.pid, startedAt: this.#startedAt, ...where, ledger: this.#ledger };
  }

  /** What is different, at this moment, from how the machine was described. */
  async seen(): Promise<Seen> {
    return (await this.#call({ kind: "seen" })) as Seen;
  }

  /**
   * Carries out what was asked for on the control socket.
   * @param onProgress told of each step, a line each
   * @throws UsageError when it is refused; nothing has changed then
   */
  async answer(request: ControlRequest, onProgress: (line: string) => void): Promise<StatusJson | ServedJson> {
    if (request.command === "status") return statusJson(await this.status());
    const status = await this.change(request, { over: "control socket" }, onProgress);
    return servedJson(status, this.#settings.form);
  }

  /**
   * Changes assignments.
   * @param onProgress told of each step, a line each
   * @returns what is served then
   * @throws UsageError when it is refused; nothing has changed then
   */
  change(request: ChangeRequest, by: Changer, onProgress: (line: string) => void = () => {}): Promise<ServerStatus> {
    const { machine } = this.#settings.data;
    const change: Change =
      request.command === "assign"
        ? (current) => changedAssignments(machine, current, request.assign)
        : (current) => {
            this.#refuseOtherMachine(request.machine);
            return withoutAssignment(current, request.name);
          };
    return this.#inTurn(by, onProgress, change);
  }

  /**
   * Disconnects everybody, ends the worker, gives functions of this host back to their drivers, has those fenced that nobody
   * had, and leaves nothing but the ledger.
   */
  async close(): Promise<void> {
    const { assignments, drivers = [] } = this.#ledger;
    try {
      await this.#server?.stop();
      await this.#giveBack(
        drivers.map(({ address }) => address),
        { rest: true },
      );
      this.#host?.fenceAtRest(assignments, this.#settings.data, (of, message) => this.#notice(of, message));
    } finally {
      this.release();
    }
  }

  /** What cannot be given back stays in the ledger, for `release` and for the next server. */
  async #giveBack(addresses: readonly PciAddress[], { rest }: { rest: boolean }): Promise<void> {
    if (this.#host === undefined || addresses.length === 0) return;
    const tell = (of: PciAddress, message: string) => this.#notice(of, message);
    const given = this.#host.giveBack(addresses, this.#ledger, { rest, tell });
    this.#ledger = withoutDrivers(this.#ledger, given);
    await saveLedger(this.#settings.stateDir, this.#ledger);
  }

  #notice(of: PciAddress, message: string): void {
    this.#tell({ kind: "notice", of, message });
  }

  /** Lets go of everything but the worker, at once: for when the process ends. */
  release(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  #take(path: string, option: string, lockIt: (use: string) => LockFile, group?: SocketGroup): void {
    const directory = new PrivateDirectory(path, option, group);
    this.#undo.push(() => directory.removeIfMade());
    const lock = lockIt(`uses ${path} already; name another ${option}`);
    this.#undo.push(() => lock.release());
  }

  async #save(assignments: readonly Assignment[]): Promise<void> {
    const { data, stateDir } = this.#settings;
    const taken = this.#host?.drivers(assignments) ?? [];
    // Whoever has got a function back since is who has it.
    const rebound = taken.filter(({ driver }) => driver !== null && driver !== "vfio-pci");
    const old = withoutDrivers(
      this.#ledger,
      rebound.map(({ address }) => address),
    );
    const ledger = ledgerOf(data.machine, assignments, old, new Date().toISOString(), taken);
    await saveLedger(stateDir, ledger);
    this.#ledger = ledger;
  }

  /** One change at a time: each begins from what the last has left. */
  #inTurn(by: Changer, onProgress: (line: string) => void, change: Change): Promise<ServerStatus> {
    const turn = this.#change.then(() => this.#carryOut(by, onProgress, change));
    this.#change = turn.catch(() => {});
    return turn;
  }

  async #carryOut(by: Changer, onProgress: (line: string) => void, change: Change): Promise<ServerStatus> {
    const before = this.#ledger;
    const assignments = change(before.assignments.map(({ name, members }) => ({ name, members })));
    await this.#call({ kind: "check", assignments });
    this.#host?.refuseUnservable(assignments, before.assignments);
    await this.#save(assignments);
    const watch = (event: WorkerEvent) => {
      // What guests try meanwhile is no progress.
      if (event.kind === "fence" && event.event.step !== "guarded write") onProgress(progressLine(event.event));
    };
    this.#watchers.add(watch);
    const taken = this.#ledger.drivers?.filter(({ address }) => !isAmong(before.drivers, address)) ?? [];
    try {
      this.#host?.take(assignments, this.#ledger);
      await this.#call({ kind: "assign", assignments });
    } catch (error) {
      // Refused with nothing touched, so what was is still what is wanted.
      await this.#giveBack(
        taken.map(({ address }) => address),
        { rest: false },
      ).catch(() => {});
      const stuck = await saveLedger(this.#settings.stateDir, before).then(() => undefined, reasonOf);
      this.#ledger = before;
      if (stuck === undefined) throw error;
      throw new UsageError(`${reasonOf(error)}; and the ledger has the refused assignments now: ${stuck}`);
    } finally {
      this.#watchers.delete(watch);
    }
    await this.#giveBack(this.#host?.left(assignments, this.#ledger) ?? [], { rest: false });
    const status = await this.status();
    this.#options.onChange?.(status, by);
    return status;
  }

  #tell(event: WorkerEvent): void {
    this.#options.onEvent?.(event);
    for (const watch of this.#watchers) watch(event);
  }

  /** What the worker throws comes without its code, which does not cross between threads; its message is for people. */
  async #call(request: Request): Promise<unknown> {
    try {
      return await this.#server?.call(request);
    } catch (error) {
      throw new UsageError(reasonOf(error));
    }
  }

  #refuseOtherMachine(name: string | undefined): void {
    const { machine } = this.#settings.data;
    if (name !== undefined && name !== machine.name) {
      throw new UsageError(`the server there serves ${machine.name}, not ${name}`);
    }
  }
}

type Change = (current: Assignment[]) => Assignment[];

function isAmong(drivers: readonly LedgerDriver[] | undefined, address: PciAddress): boolean {
  return drivers?.some((each) => each.address === address) === true;
}

/** Sockets that a killed server has left are taken over; anything else is somebody's. */
function refuseInTheWay(machine: Machine, socketDir: string): void {
  const functions = machine.virtual ? [...machine.gpus, ...machine.bridges] : machine.functions;
  const paths = functions.map(({ address }) => socketPath(machine, socketDir, address));
  for (const path of [controlPath(socketDir), ...paths]) {
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === false) {
      throw new UsageError(`${path} is no socket and in the way; remove it, or name another --socket-dir`);
    }
  }
}
