import { AssignedFunctions } from "../../src/cli/serve/assigned_functions.js";
import type { Hardware, OwnedFunction, ServedFunction } from "../../src/cli/serve/hardware.js";
import { FencedDevice } from "../../src/fence/fenced_device.js";
import { Fences } from "../../src/fence/fences.js";
import type { FenceEvent } from "../../src/fence/progress.js";
import type { Plan } from "../../src/isolation/plan.js";
import type { Assignment, Machine } from "../../src/machine/machine.js";
import type { PciAddress } from "../../src/pci/address.js";
import type { Steps, VfioDevice, Wait } from "../../src/vfio/index.js";
import type { Serving, VfioUserServer } from "../../src/vfio-user/index.js";
import { ExploredGpu } from "./explored_gpu.js";
import { type ExploredHardware, Killed } from "./explored_hardware.js";

/** What a client has of a device's socket: nothing, the wait for its turn, or the device. */
type Session = "none" | "waiting" | "open";

/** A device's socket. */
interface Endpoint {
  gpu: PciAddress;
  owner: string;
  device: VfioDevice;
  session: Session;
}

/** Work that goes on over several steps. */
export interface Operation {
  /** What it is, for people. */
  name: string;
  kind: "start" | "open" | "reset" | "leave" | "assign";
  /** The socket that it is about. */
  endpoint: Endpoint | undefined;
  steps: Steps<unknown>;
  wait: Wait | undefined;
  /** A digest of what it has done so far, which tells where in its code it is. */
  done: number;
  /** And of what it has read so far. */
  read: number;
  /** Resets of its GPU when it began. */
  resetsBefore: number;
  onEnd: (error: unknown) => void;
}

/** Told what ends, before anything follows from it. */
export type OnOperation = (operation: Operation, error: unknown) => void;

const CLIENT = { dma: undefined } as never;

/**
 * The server's own code for assignments, fences and devices, without sockets: what the sessions of clients would have it
 * do, in the order in which `Session` and `Endpoint` of src/vfio-user do it, each step when it is asked for.
 */
export class ExploredServer {
  readonly operations: Operation[] = [];
  readonly endpoints = new Map<PciAddress, Endpoint>();
  /** Devices that have not yet done what they do after a client. */
  readonly left = new Set<PciAddress>();
  fences: Fences | undefined;
  /** What the fences told during the present step. */
  events: FenceEvent[] = [];
  readonly #hardware: ExploredHardware;
  readonly #onOperation: OnOperation;
  readonly #functions: AssignedFunctions;
  #serving: Serving | undefined;

  /** Touches nothing yet. */
  constructor(hardware: ExploredHardware, assignments: Assignment[], onOperation: OnOperation) {
    this.#hardware = hardware;
    this.#onOperation = onOperation;
    const { machine } = hardware;
    const data = { machine, assignments, socketDir: "/", includeHost: false, pageSize: 4096 };
    this.#functions = new AssignedFunctions(
      data,
      (plan) => this.#makeHardware(plan),
      () => {},
    );
  }

  /** Fences everything; then the sockets are there. */
  start(): void {
    this.#begin("the server starts", "start", undefined, this.#functions.fenceAll(), () => {
      this.#serving = this.#functions.serve();
      for (const served of this.#serving.devices as ServedFunction[]) this.#add(served.device, served);
    });
  }

  get isServing(): boolean {
    return this.#serving !== undefined;
  }

  isBusy(gpu: PciAddress): boolean {
    return this.operations.some(({ endpoint }) => endpoint?.gpu === gpu);
  }

  /** A client connects and asks for the device. */
  connect(endpoint: Endpoint): void {
    endpoint.session = "waiting";
    const { device, gpu } = endpoint;
    this.#begin(`${gpu}: reset before a client comes`, "open", endpoint, device.beforeOpen?.() ?? nothing(), () => {
      if (endpoint.session !== "waiting") return;
      device.open?.(CLIENT);
      endpoint.session = "open";
    });
  }

  /** The client asks for a reset. */
  reset(endpoint: Endpoint): void {
    const { device, gpu } = endpoint;
    this.#begin(`${gpu}: reset for its client`, "reset", endpoint, device.reset?.() ?? nothing(), () => {});
  }

  /** The client is gone. What was begun for it goes on. */
  disconnect(endpoint: Endpoint): void {
    const wasOpen = endpoint.session === "open";
    endpoint.session = "none";
    if (wasOpen)
      this.#begin(`${endpoint.gpu}: reset after its client`, "leave", endpoint, leave(endpoint.device), () => {});
  }

  /** What would be refused now: undefined when it would not. */
  refusal(assignments: Assignment[]): unknown {
    try {
      this.#serving?.onMessage?.({ kind: "check", assignments }, this.#asServer());
      return undefined;
    } catch (error) {
      return error;
    }
  }

  assign(assignments: Assignment[], onEnd: (error: unknown) => void): void {
    const steps = this.#serving?.onMessage?.({ kind: "assign", assignments }, this.#asServer()) as Steps<unknown>;
    this.#begin("the change of assignments", "assign", undefined, steps, () => onEnd(undefined), onEnd);
  }

  /** Whether what the operation waits for is there. */
  isReady({ wait }: Operation): boolean {
    return wait?.done?.() ?? true;
  }

  goOn(operation: Operation): void {
    const { done, read } = this.#hardware;
    this.#hardware.done = operation.done;
    this.#hardware.read = operation.read;
    try {
      const result = operation.steps.next();
      if (result.done !== true) operation.wait = result.value;
      else this.#end(operation, undefined);
    } catch (error) {
      this.#end(operation, error);
    }
    operation.done = this.#hardware.done + 1;
    operation.read = this.#hardware.read;
    this.#hardware.done = done;
    this.#hardware.read = read;
  }

  /** Its time is over: it is cancelled wherever it is. */
  timeOut(operation: Operation): void {
    try {
      operation.steps.return(undefined);
    } catch (error) {
      if (error instanceof Killed) throw error;
    }
    this.#end(operation, new Error("not done within its time"));
  }

  #begin(
    name: string,
    kind: Operation["kind"],
    endpoint: Endpoint | undefined,
    steps: Steps<unknown>,
    onDone: () => void,
    onFail: (error: unknown) => void = () => {},
  ): void {
    const onEnd = (error: unknown) => (error === undefined ? onDone() : onFail(error));
    const resetsBefore = endpoint === undefined ? 0 : this.#hardware.of(endpoint.gpu).resets;
    const operation: Operation = {
      name,
      kind,
      endpoint,
      steps,
      wait: undefined,
      done: 0,
      read: 0,
      resetsBefore,
      onEnd,
    };
    this.operations.push(operation);
    this.goOn(operation);
  }

  #end(operation: Operation, error: unknown): void {
    const index = this.operations.indexOf(operation);
    if (index >= 0) this.operations.splice(index, 1);
    let failure = error;
    try {
      operation.onEnd(error);
    } catch (thrown) {
      failure ??= thrown;
    }
    if (this.#hardware.dead) return;
    if (failure !== undefined && operation.kind === "open" && operation.endpoint !== undefined) {
      operation.endpoint.session = "none";
    }
    this.#onOperation(operation, failure);
  }

  #makeHardware(plan: Plan): Hardware {
    const hardware = this.#hardware;
    const ports = new Map(hardware.machine.gpus.map(({ address }) => [address, hardware.port(address)]));
    const port = (at: PciAddress) => {
      const found = ports.get(at);
      if (found === undefined) throw new Error(`no port for ${at}`);
      return found;
    };
    this.fences = new Fences(plan, port, { onEvent: (event) => this.events.push(event) });
    return {
      fences: this.fences,
      current: (machine: Machine) => machine,
      *begin() {},
      follow() {},
      *handOver() {},
      *clear() {},
      serve: (owned) => this.#serve(owned, port),
      pinnedBytes: () => 0n,
      close() {},
    };
  }

  #serve(owned: OwnedFunction, port: (at: PciAddress) => ReturnType<ExploredHardware["port"]>): ServedFunction {
    const { address, owner } = owned;
    const base = { ...owned, warnings: [], socket: address };
    const fence = owned.kind === "gpu" ? this.fences?.of(address) : undefined;
    if (fence === undefined) return { ...base, device: { regions: [], irqs: [] } as never };
    const truth = this.#hardware.of(address);
    if (fence.attached) this.left.add(address);
    else this.left.delete(address);
    const device = new ExploredGpu(port(address), {
      opened: () => {
        truth.open = true;
        truth.touchedBy = owner;
        this.left.add(address);
      },
      closed: () => {
        truth.open = false;
      },
      cleared: () => {
        if (!fence.attached) this.left.delete(address);
      },
    });
    return { ...base, device: new FencedDevice(device, fence, { pageSize: 4096 }) };
  }

  #add(device: VfioDevice, { kind, address, owner }: OwnedFunction): void {
    if (kind === "gpu") this.endpoints.set(address, { gpu: address, owner, device, session: "none" });
  }

  #remove(device: VfioDevice): void {
    for (const endpoint of this.endpoints.values()) {
      if (endpoint.device !== device) continue;
      this.endpoints.delete(endpoint.gpu);
      this.disconnect(endpoint);
      for (const operation of this.operations.filter((each) => each.endpoint === endpoint)) this.timeOut(operation);
    }
  }

  /** What assignments ask of a server. */
  #asServer(): VfioUserServer {
    const find = (device: VfioDevice) => [...this.endpoints.values()].find((each) => each.device === device);
    const server: Pick<VfioUserServer, "occupantOf" | "isBusy" | "add" | "remove"> = {
      occupantOf: (device) => {
        const taken = (find(device)?.session ?? "none") !== "none";
        return taken ? { peer: { pid: 1, uid: 0, gid: 0 }, since: 0 } : undefined;
      },
      isBusy: (device) => {
        const endpoint = find(device);
        return endpoint !== undefined && this.isBusy(endpoint.gpu);
      },
      add: (device, socket) => {
        if (!this.#hardware.truth.has(socket)) return;
        const owner = this.fences?.of(socket).plan.assignment ?? "";
        this.#add(device, { kind: "gpu", address: socket, owner });
      },
      remove: (device) => this.#remove(device),
    };
    return server as VfioUserServer;
  }
}

function* nothing(): Steps {}

/** As `Session` does when a client has gone: the device hears of it, and goes on in the server's next turn. */
function* leave(device: VfioDevice): Steps {
  device.close?.();
  yield { deadline: 0 };
  if (device.afterClose !== undefined) yield* device.afterClose();
}
