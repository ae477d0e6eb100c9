import { strategyFor } from "../../src/fence/strategy.js";
import type { Assignment, Machine } from "../../src/machine/machine.js";
import { LINK_DISABLE, NV_PMC_ENABLE } from "../../src/machine/part.js";
import type { PciAddress } from "../../src/pci/address.js";
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from "../../src/vfio/constants.js";
import type { VfioDevice } from "../../src/vfio/device.js";
import { VfioError } from "../../src/vfio/error.js";
import { ExploredHardware, Killed } from "./explored_hardware.js";
import { ExploredServer, type Operation } from "./explored_server.js";
import type { Access, Deviation } from "./fault.js";
import { Judge } from "./judge.js";
import { type Action, isFault, type Step, type Touch } from "./step.js";

/** A machine, and the assignments that it may go over to; it begins with the first. */
export interface Scenario {
  name: string;
  machine: Machine;
  assignments: Assignment[][];
  /** Faults that a path may have. */
  faults: number;
  /** What clients do to their GPUs. */
  touches: readonly Touch[];
}

const COMMAND = 4;
const BAR0 = 0x10;

/** The server, its clients, the hardware and its surroundings, of which each step is chosen by somebody else. */
export class World {
  readonly hardware: ExploredHardware;
  readonly judge: Judge;
  /** What the steps so far have told, a list for each. */
  readonly told: string[][] = [];
  readonly steps: Step[] = [];
  faults = 0;
  #server: ExploredServer | undefined;
  /** What a server that is restarted finds on disk: a number of the scenario's assignments. */
  #ledger = 0;
  #lostAddresses = false;

  constructor(readonly scenario: Scenario) {
    this.hardware = new ExploredHardware(scenario.machine);
    this.hardware.dead = true;
    this.judge = new Judge(this.hardware);
    this.hardware.watch = {
      changed: () => this.judge.look(this.#server?.fences),
      resetting: (gpu) => this.judge.resetting(this.#server?.fences, gpu),
    };
  }

  /** Whatever of this moment may matter later. */
  get fingerprint(): string {
    const server = this.#server;
    const { faults } = this;
    return JSON.stringify([faults, this.#ledger, this.hardware.fingerprint, server && fingerprintOf(server)]);
  }

  /** The assignments that the ledger has. */
  get assignments(): readonly Assignment[] {
    return this.scenario.assignments[this.#ledger] ?? [];
  }

  /** The server that runs has found a GPU without addresses. */
  get lostAddresses(): boolean {
    return this.#lostAddresses;
  }

  /** What the fence of a GPU says; undefined without a server. */
  stateOf(gpu: PciAddress): string | undefined {
    return this.#server?.fences?.of(gpu).state.kind;
  }

  /** Everything that may happen next, faults only as long as there may be more. */
  get actions(): Action[] {
    return [...this.#actionsNow(), ...this.#changes()];
  }

  /** Those of them that are of a kind. */
  actionsOf(kind: Action["kind"]): Action[] {
    // Whether assignments may change takes a plan for each to tell.
    const all = kind === "assign" ? this.#changes() : this.#actionsNow();
    return all.filter((action) => action.kind === kind);
  }

  #actionsNow(): Action[] {
    const server = this.#server;
    if (server === undefined) return [{ kind: "restart" }];
    const mayFail = this.faults < this.scenario.faults;
    const all = [...this.#hardwareActions(), ...this.#serverActions(server), ...this.#clientActions(server)];
    all.push(...this.#ownerActions());
    if (mayFail) all.push({ kind: "kill", bus: false }, { kind: "kill", bus: true });
    return all.filter((action) => mayFail || !isFault(action));
  }

  /** Takes a step. @returns the accesses that it made */
  take(step: Step): readonly Access[] {
    this.steps.push(step);
    if (isFault(step)) this.faults++;
    if (this.faults > 0) this.judge.calm = false;
    const { hardware } = this;
    hardware.accesses = [];
    hardware.deviation = step.deviation;
    try {
      this.#act(step);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    }
    hardware.deviation = undefined;
    if (hardware.dead && this.#server !== undefined) this.#kill(false);
    this.#afterwards();
    return hardware.accesses;
  }

  /** Faults that may be put into a step that made these accesses from the present state. */
  deviations(accesses: readonly Access[]): Deviation[] {
    if (this.faults >= this.scenario.faults) return [];
    const lastProof = new Map<PciAddress, number>();
    accesses.forEach(({ gpu, kind, offset }, at) => {
      if (kind === "register read" && this.#cutsLinks(gpu, offset)) lastProof.set(gpu, at);
    });
    return accesses.flatMap(({ gpu, kind }, at): Deviation[] => {
      if (kind === "config read") return [{ at, fault: "all ones" }];
      if (kind === "register read") {
        // What was read of a far end counts for the reset that follows: see mayResetOutside.
        const outside = at <= (lastProof.get(gpu) ?? -1) && this.#mayResetOutside(gpu);
        return [{ at, fault: "0xBADF" }, ...(outside ? [{ at, fault: "outside reset" as const }] : [])];
      }
      const lost = kind.endsWith("write") ? [{ at, fault: "lost" as const }] : [];
      return [{ at, fault: "kill" }, ...lost];
    });
  }

  #cutsLinks(gpu: PciAddress, offset: number): boolean {
    return strategyFor(this.hardware.vm.gpu(gpu).gpu.part)?.guarded.some((each) => each.offset === offset) === true;
  }

  #hardwareActions(): Action[] {
    return [...this.hardware.truth].flatMap(([gpu, { pending, ending }]): Action[] => {
      if (!pending || ending !== undefined) return [];
      return [
        { kind: "reset ends", gpu, fails: false },
        { kind: "reset ends", gpu, fails: true },
      ];
    });
  }

  #serverActions(server: ExploredServer): Action[] {
    return server.operations.flatMap((operation, index): Action[] => {
      const { name, kind } = operation;
      const ready: Action[] = server.isReady(operation) ? [{ kind: "go on", operation: index, name }] : [];
      const limited = kind === "open" || kind === "leave" || kind === "reset";
      return limited ? [...ready, { kind: "time out", operation: index, name }] : ready;
    });
  }

  #clientActions(server: ExploredServer): Action[] {
    return [...server.endpoints.values()].flatMap(({ gpu, session }): Action[] => {
      const busy = server.isBusy(gpu);
      if (session === "none") return busy ? [] : [{ kind: "connect", gpu }];
      const die: Action = { kind: "die", gpu };
      if (session === "waiting" || busy) return [die];
      const touches = this.scenario.touches.map((touch): Action => ({ kind: "touch", gpu, touch }));
      return [die, { kind: "ask reset", gpu }, ...touches];
    });
  }

  #ownerActions(): Action[] {
    const gpus = [...this.hardware.truth.keys()];
    const resets = gpus
      .filter((gpu) => this.#mayResetOutside(gpu))
      .map((gpu): Action => ({ kind: "outside reset", gpu }));
    const looks = gpus
      .filter((gpu) => this.hardware.of(gpu).resetOutside)
      .map((gpu): Action => ({ kind: "look", gpu }));
    return [...resets, ...looks];
  }

  #changes(): Action[] {
    const server = this.#server;
    if (server?.isServing !== true || server.operations.some(({ kind }) => kind === "assign")) return [];
    return this.scenario.assignments.flatMap((assignments, to): Action[] => {
      return to === this.#ledger || server.refusal(assignments) !== undefined ? [] : [{ kind: "assign", to }];
    });
  }

  /**
   * The one thing that nobody can help: two ends of a link reset at once, of which one by somebody else. So nobody else
   * resets a GPU while the fence at the far end of one of its links is not in force, or was reset by somebody else itself.
   */
  #mayResetOutside(gpu: PciAddress): boolean {
    const fences = this.#server?.fences;
    if (fences === undefined) return true;
    const virtual = this.hardware.vm.gpu(gpu);
    return virtual.gpu.links.every(({ far }) => {
      if (far.kind !== "gpu" || fences.of(far.gpu).plan.assignment === fences.of(gpu).plan.assignment) return true;
      return fences.of(far.gpu).state.kind === "in force" && !this.hardware.of(far.gpu).resetOutside;
    });
  }

  #act(step: Step): void {
    const server = this.#server;
    if (step.kind === "restart") {
      this.#start();
      return;
    }
    if (server === undefined) throw new Error(`no server for ${step.kind}`);
    switch (step.kind) {
      case "reset ends":
        this.hardware.of(step.gpu).ending = step.fails ? "failing" : "well";
        // Whoever waits for it goes on at once.
        for (const operation of server.operations.filter((each) => isWaiting(each))) server.goOn(operation);
        break;
      case "go on":
        server.goOn(operationAt(server, step.operation));
        break;
      case "time out":
        server.timeOut(operationAt(server, step.operation));
        break;
      case "outside reset":
        this.hardware.resetOutside(step.gpu);
        break;
      case "look":
        server.fences?.of(step.gpu).lookAfter();
        this.hardware.of(step.gpu).resetOutside = false;
        this.judge.look(server.fences);
        break;
      case "assign":
        this.#assign(server, step.to);
        break;
      case "kill":
        this.#kill(step.bus);
        break;
      default:
        this.#actOfClient(server, step);
    }
  }

  #actOfClient(server: ExploredServer, step: Extract<Step, { gpu: PciAddress }>): void {
    const endpoint = server.endpoints.get(step.gpu);
    if (endpoint === undefined) throw new Error(`no socket for ${step.gpu}`);
    if (step.kind === "connect") server.connect(endpoint);
    else if (step.kind === "ask reset") server.reset(endpoint);
    else if (step.kind === "die") server.disconnect(endpoint);
    else if (step.kind === "touch") {
      // A client may do to its own GPU what it likes; what fails then is its own doing.
      this.judge.calm = false;
      try {
        touch(endpoint.device, step.touch);
      } catch (error) {
        if (!(error instanceof VfioError)) throw error;
      }
    }
  }

  #start(): void {
    this.hardware.dead = false;
    this.#lostAddresses = [...this.hardware.truth.keys()].some(
      (gpu) => this.hardware.vm.gpu(gpu).readConfig(BAR0, 4) >>> 4 === 0,
    );
    const server = new ExploredServer(this.hardware, [...this.assignments], (operation, error) => {
      if (server.fences !== undefined) this.judge.ended(operation, error, server.fences);
    });
    this.#server = server;
    server.start();
  }

  /** As the command does: asked first, then the ledger, then the change; what is refused changes nothing. */
  #assign(server: ExploredServer, to: number): void {
    const assignments = this.scenario.assignments[to] ?? [];
    if (server.refusal(assignments) !== undefined) return;
    const before = this.#ledger;
    this.#ledger = to;
    server.assign(assignments, (error) => {
      if (error !== undefined && !this.hardware.dead) this.#ledger = before;
    });
  }

  #kill(bus: boolean): void {
    this.hardware.kill(bus);
    this.#server = undefined;
  }

  #afterwards(): void {
    const server = this.#server;
    const events = server?.events.splice(0) ?? [];
    for (const { gpu, step, detail } of events) this.judge.told(gpu, step, detail);
    this.told.push(
      events.map(({ gpu, step, detail }) => `${gpu}: ${step}${detail === undefined ? "" : `, ${detail}`}`),
    );
    this.judge.look(server?.fences);
    if (server === undefined || server.operations.length === 0) return;
    const pending = [...this.hardware.truth.values()].some((each) => each.pending);
    const ready = server.operations.some((operation) => server.isReady(operation));
    if (!pending && !ready) this.judge.find("everybody waits for somebody else");
  }
}

function isWaiting({ wait }: Operation): boolean {
  return wait?.deadline === Number.POSITIVE_INFINITY && wait.done?.() === true;
}

function operationAt(server: ExploredServer, index: number): Operation {
  const operation = server.operations[index];
  if (operation === undefined) throw new Error(`no operation ${index}`);
  return operation;
}

function touch(device: VfioDevice, what: Touch): void {
  const register = (offset: number, value: number) => {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value, true);
    device.write(VFIO_PCI_BAR0_REGION_INDEX, offset, data);
  };
  const decode = (on: boolean) => {
    device.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, new Uint8Array([on ? 6 : 0, 0]));
  };
  decode(true);
  if (what === "stops decoding") decode(false);
  else if (what === "stops the NVLink engine") register(NV_PMC_ENABLE, 0);
  else register(LINK_DISABLE, what === "clears the disable bits" ? 0 : 0xffffffff);
}

function fingerprintOf(server: ExploredServer): unknown[] {
  const fences = server.fences?.all.map(({ state, attached, plan }) => {
    const read = state.kind === "in force" ? [state.snapshot, state.evidence.registers, state.stillCut] : [];
    return [state.kind, attached, plan.assignment, plan.cutLinks, read];
  });
  // What was read before a wait is kept over it only by a change of assignments: its plan, which goes by registers.
  const operations = server.operations.map(({ name, kind, done, read }) => [name, done, kind === "assign" ? read : 0]);
  const endpoints = [...server.endpoints.values()].map(({ gpu, owner, session }) => [gpu, owner, session]);
  return [fences, operations, endpoints, [...server.left], server.isServing];
}
