import { reasonOf } from "../../fence/error.js";
import { sideBySide } from "../../fence/side_by_side.js";
import { HOST, ownersOf } from "../../isolation/assignment.js";
import type { Plan } from "../../isolation/plan.js";
import { servingResets } from "../../isolation/serving_plan.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { runSteps, type Steps, waitUntil } from "../../vfio/index.js";
import type { Serving, VfioUserServer } from "../../vfio-user/index.js";
import { UsageError } from "../failure.js";
import { groupNumbers } from "./group_numbers.js";
import { type Hardware, type OwnedFunction, ownedFunctions, type ServedFunction } from "./hardware.js";
import type { IommuGroupStatus, Request, Seen, ServingData, ServingEvent, ServingStatus } from "./messages.js";
import { planToServe } from "./servable_plan.js";
import { gpuStatus, unfencedStatus } from "./serving_status.js";

/** How long an assignment waits for what devices do after their clients have gone, in milliseconds. */
const LEAVING_TIMEOUT = 60_000;

/** A machine's functions that are assigned: fenced, served, and given to others when assignments change. */
export class AssignedFunctions {
  readonly #data: ServingData;
  readonly #machine: Machine;
  readonly #hardware: Hardware;
  readonly #tell: (event: ServingEvent) => void;
  /** Counted when somebody asks first. */
  #groups: ReadonlyMap<PciAddress, IommuGroupStatus> | undefined;
  readonly #served = new Map<PciAddress, ServedFunction>();
  readonly #unserved = new Map<PciAddress, string>();
  #assignments: readonly Assignment[];
  #changing = false;

  /**
   * @param make the hardware of a plan; it touches none of it
   * @throws UsageError when the plan has problems; nothing was touched then
   */
  constructor(data: ServingData, make: (plan: Plan) => Hardware, tell: (event: ServingEvent) => void) {
    const { machine, assignments } = data;
    this.#data = data;
    this.#machine = machine;
    this.#assignments = assignments;
    this.#tell = tell;
    this.#hardware = make(planToServe(machine, assignments, data));
  }

  /** All at once, for nobody is attached. What fails is in the fences' states, and serves nobody. */
  *fenceAll(): Steps {
    const owned = this.#owned(this.#assignments);
    this.#hardware.follow(owned);
    yield* this.#hardware.begin(owned);
    yield* this.#hardware.fences.renewAll();
  }

  serve(): Serving {
    for (const owned of this.#owned(this.#assignments)) this.#make(owned);
    return {
      devices: [...this.#served.values()],
      onServer: (server) => this.#hardware.onServer?.(server, (address, why) => this.#takeAway(address, why, server)),
      onMessage: (message, server) => this.#answer(message as Request, server),
      close: () => this.close(),
    };
  }

  close(): void {
    this.#hardware.close();
  }

  #answer(request: Request, server: VfioUserServer): unknown {
    switch (request.kind) {
      case "status":
        return this.#status(server);
      case "seen":
        return seenOf(this.#seen());
      case "check":
        this.#check(request.assignments, server);
        return undefined;
      case "assign":
        return this.#assign(request.assignments, server);
    }
  }

  /** @throws UsageError when these assignments cannot be gone over to at this moment */
  #check(assignments: readonly Assignment[], server: VfioUserServer): Plan {
    if (this.#changing) throw new UsageError("assignments are being changed already; ask again when that is over");
    const plan = this.#plan(assignments);
    refuseAttached(this.#leaving(assignments), server);
    return plan;
  }

  *#assign(assignments: readonly Assignment[], server: VfioUserServer): Steps<ServingStatus> {
    this.#check(assignments, server);
    this.#changing = true;
    try {
      // Planning and fencing each take a millisecond or two, in which nobody else is served.
      yield { deadline: 0 };
      const leaving = this.#leaving(assignments);
      const plan = yield* this.#planWhenQuiet(assignments, leaving, server);
      refuseAttached(leaving, server);
      yield* this.#change(assignments, plan, leaving, server);
      return this.#status(server);
    } finally {
      this.#changing = false;
    }
  }

  /** Which links wait for a reset is known only of GPUs that are not just being reset, so nobody may be at work. */
  *#planWhenQuiet(
    assignments: readonly Assignment[],
    leaving: readonly ServedFunction[],
    server: VfioUserServer,
  ): Steps<Plan> {
    const end = performance.now() + LEAVING_TIMEOUT;
    const isQuiet = () => !leaving.some(({ device }) => server.isBusy(device));
    for (;;) {
      if (!(yield* waitUntil(isQuiet, end - performance.now()))) {
        throw new UsageError("a device is still at work after its last client; nothing was changed, ask again later");
      }
      const plan = this.#plan(assignments);
      yield { deadline: 0 };
      if (isQuiet()) return plan;
    }
  }

  /** From here on there is no way back, and what fails is not served. */
  *#change(
    assignments: readonly Assignment[],
    plan: Plan,
    leaving: readonly ServedFunction[],
    server: VfioUserServer,
  ): Steps {
    this.#hardware.fences.replan(plan);
    this.#assignments = assignments;
    this.#unserved.clear();
    for (const each of leaving) this.#remove(each, server);
    const owned = this.#owned(assignments);
    this.#hardware.follow(owned);
    const joining = owned.filter(({ address }) => !this.#served.has(address));
    const others = new Set([...leaving, ...joining].flatMap(({ kind, address }) => (kind === "gpu" ? [] : [address])));
    const moved = new Set([...leaving, ...joining].flatMap(({ kind, address }) => (kind === "gpu" ? [address] : [])));
    const resets = servingResets(plan, moved);
    yield* sideBySide([
      ...[...new Set([...moved, ...resets])].map((address) => this.#handOver(address, moved, resets)),
      ...[...others].map((address) => this.#handOverOther(address)),
    ]);
    for (const each of joining) this.#add(each, server);
  }

  #plan(assignments: readonly Assignment[]): Plan {
    const leaving = this.#leaving(assignments).flatMap(({ kind, address }) => (kind === "gpu" ? [address] : []));
    return planToServe(this.#seen(), assignments, { ...this.#data, leaving });
  }

  #owned(assignments: readonly Assignment[]): OwnedFunction[] {
    return ownedFunctions(this.#machine, assignments, { others: !this.#machine.virtual });
  }

  /** The machine with what its registers say now. Which links it has is not up to them. */
  #seen(): Machine {
    const seen = this.#hardware.fences.seen(this.#hardware.current(this.#machine));
    const listed = new Map(
      this.#machine.gpus.map(({ address, links }) => [address, new Set(links.map((link) => link.number))]),
    );
    const gpus = seen.gpus.map((gpu) => {
      return { ...gpu, links: gpu.links.filter(({ number }) => listed.get(gpu.address)?.has(number)) };
    });
    return { ...seen, gpus };
  }

  /** The functions that their owners have no longer by these assignments. */
  #leaving(assignments: readonly Assignment[]): ServedFunction[] {
    const owners = new Map(this.#owned(assignments).map(({ address, owner }) => [address, owner]));
    return [...this.#served.values()].filter(({ address, owner }) => owners.get(address) !== owner);
  }

  /** The reset first: it ends what the last owner left running, which might go on to write into cleared memory. */
  *#handOver(address: PciAddress, moved: ReadonlySet<PciAddress>, resets: readonly PciAddress[]): Steps {
    if (resets.includes(address)) yield* this.#renew(address);
    if (moved.has(address)) yield* this.#clear(address);
  }

  /** What has no fence, and so no far ends that would have to be cut. */
  *#handOverOther(address: PciAddress): Steps {
    try {
      yield* this.#hardware.handOver(address);
    } catch (error) {
      this.#unserved.set(address, `not served: ${reasonOf(error)}`);
    }
  }

  *#clear(address: PciAddress): Steps {
    const gpu = this.#machine.gpus.find((each) => each.address === address);
    try {
      yield* this.#hardware.clear(address);
    } catch (error) {
      for (const each of [address, ...(gpu?.bridges ?? [])]) {
        this.#unserved.set(each, `not served: the memory could not be cleared: ${reasonOf(error)}`);
      }
    }
  }

  /** When it fails the fence's state says so, and nobody gets to the GPU. */
  *#renew(address: PciAddress): Steps {
    const fence = this.#hardware.fences.of(address);
    try {
      yield* fence.renew();
      fence.attached = false;
    } catch {
      // Told by the fence already.
    }
  }

  #make(owned: OwnedFunction): ServedFunction {
    const served = this.#hardware.serve(owned);
    this.#served.set(owned.address, served);
    return served;
  }

  #add(owned: OwnedFunction, server: VfioUserServer): void {
    if (this.#unserved.has(owned.address)) return;
    try {
      const { device, socket } = this.#make(owned);
      server.add(device, socket);
    } catch (error) {
      this.#unserved.set(owned.address, `not served: ${reasonOf(error)}`);
      this.#served.delete(owned.address);
    }
  }

  #remove(gone: ServedFunction, server: VfioUserServer): void {
    server.remove(gone.device);
    this.#served.delete(gone.address);
  }

  /** The host takes a function away, whoever uses it. */
  #takeAway(address: PciAddress, why: string, server: VfioUserServer): void {
    const served = this.#served.get(address);
    if (served === undefined) return;
    this.#remove(served, server);
    this.#unserved.set(address, `not served: ${why}`);
    const gpu = this.#machine.gpus.find((each) => each.address === address);
    this.#tell({ kind: "removed", of: gpu?.name ?? address, address });
  }

  #status(server: VfioUserServer): ServingStatus {
    const hardware = this.#hardware;
    const { fences, tier } = hardware;
    this.#groups ??= groupNumbers(this.#machine, this.#data.isolateNvlink);
    const sources = {
      server,
      served: this.#served,
      groups: this.#groups,
      unserved: this.#unserved,
      fenceOf: (address: PciAddress) => fences.of(address),
      accessTo: (address: PciAddress, region: number) => hardware.accessTo?.(address, region),
    };
    const ownerOf = ownersOf(this.#machine, this.#assignments);
    const known = new Set(this.#machine.bridges.map(({ address }) => address));
    const owned = this.#owned(this.#assignments);
    const servable = new Set(owned.map(({ address }) => address));
    return {
      machine: this.#machine.name,
      virtual: this.#machine.virtual,
      assignments: this.#assignments.map(({ name, members }) => {
        const notServed = members.filter((member) => !servable.has(member));
        return { name, members, notServed, pinnedBytes: String(hardware.pinnedBytes(name)) };
      }),
      functions: [
        ...this.#machine.gpus.flatMap((gpu) => [
          gpuStatus(sources, gpu),
          ...gpu.bridges
            .filter((address) => known.has(address) && ownerOf(address) !== HOST)
            .map((address) => unfencedStatus(sources, { address, kind: "bridge", owner: ownerOf(address) })),
        ]),
        ...owned.filter(({ kind }) => kind === "other").map((other) => unfencedStatus(sources, other)),
      ],
      ...(tier !== undefined && { tier }),
    };
  }
}

function seenOf({ gpus, functions }: Machine): Seen {
  const drivers = new Map(functions.map(({ address, driver }) => [address, driver]));
  const driven = gpus.flatMap(({ address }): [PciAddress, string][] => {
    const driver = drivers.get(address);
    return driver === undefined ? [] : [[address, driver]];
  });
  return { gpus, drivers: Object.fromEntries(driven) };
}

/** Fences all of them, then has them served. @throws what keeps one from being had; everything is let go then */
export async function fenceAndServe(functions: AssignedFunctions): Promise<Serving> {
  try {
    await runSteps(functions.fenceAll());
    return functions.serve();
  } catch (error) {
    functions.close();
    throw error;
  }
}

/** @throws UsageError when a client has one of the functions */
function refuseAttached(functions: readonly ServedFunction[], server: VfioUserServer): void {
  for (const { device, socket } of functions) {
    const occupant = server.occupantOf(device);
    if (occupant === undefined) continue;
    throw new UsageError(
      `process ${occupant.peer.pid} is connected to ${socket}, which would change its owner; end it first`,
    );
  }
}
