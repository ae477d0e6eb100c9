import { FencedDevice } from "../../fence/fenced_device.js";
import { Fences } from "../../fence/fences.js";
import type { FenceEvent } from "../../fence/progress.js";
import { sideBySide } from "../../fence/side_by_side.js";
import { readBinding } from "../../host/driver_binding.js";
import { KernelContainer } from "../../host/vfio/kernel_container.js";
import type { KernelDevice } from "../../host/vfio/kernel_device.js";
import type { KernelNotice } from "../../host/vfio/kernel_notices.js";
import { HOST } from "../../isolation/assignment.js";
import type { Plan } from "../../isolation/plan.js";
import type { Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { Container, ContainerMember } from "../../vfio/container.js";
import {
  type DmaRange,
  pause,
  runToEnd,
  type Steps,
  VFIO_PCI_BAR0_REGION_INDEX,
  type VfioDevice,
} from "../../vfio/index.js";
import { ResetBetweenClients } from "../../vfio/reset_between_clients.js";
import type { VfioUserServer } from "../../vfio-user/index.js";
import type { Hardware, OwnedFunction, ServedFunction } from "./hardware.js";
import { LiveFunction, type OwnersContainer } from "./live_function.js";
import type { LiveServingData, RegionStatus, ServingEvent } from "./messages.js";
import { socketPath } from "./socket_names.js";

/** How often fences are looked after, in milliseconds: so long a reset by somebody else may leave links open at one end. */
const LOOK_INTERVAL = 20;
/** GPUs without a client only every so many times: a look has to switch their memory decoding on, and nobody is there. */
const LOOKS_PER_IDLE_LOOK = 10;

/** How long a client may take to share memory with a descriptor, in milliseconds. */
const SHARING_PATIENCE = 1000;

/** One owner's address space: the kernel's, and who has mapped what in it. */
interface OwnerSpace extends OwnersContainer {
  members: Container;
}

/** Functions of this host, which vfio-pci has. */
export class LiveHardware implements Hardware {
  readonly fences: Fences;
  readonly tier: "mediated" | "trust-vmm";
  readonly #data: LiveServingData;
  readonly #tell: (event: ServingEvent) => void;
  readonly #functions = new Map<PciAddress, LiveFunction>();
  readonly #spaces = new Map<string, OwnerSpace>();
  readonly #gpus: ReadonlyMap<PciAddress, string>;
  /** What is served of a function that is served. */
  readonly #served = new Map<PciAddress, VfioDevice>();
  #server: VfioUserServer | undefined;
  #onRemoval: (address: PciAddress) => void = () => {};

  constructor(plan: Plan, data: LiveServingData, tell: (event: ServingEvent) => void) {
    this.#data = data;
    this.#tell = tell;
    this.tier = data.trustVmm ? "trust-vmm" : "mediated";
    this.#gpus = new Map(data.machine.gpus.map(({ address, name }) => [address, name]));
    this.fences = new Fences(plan, (address) => this.#function(address).port, {
      onEvent: (event) => tell({ kind: "fence", event }),
    });
  }

  /** Drivers come and go. What is open here has none that would be in the way. */
  current(machine: Machine): Machine {
    const functions = machine.functions.map((fn) => {
      if (!this.#gpus.has(fn.address)) return fn;
      const { driver: _, ...rest } = fn;
      const driver = this.#functions.get(fn.address)?.device === undefined ? driverOf(fn.address) : null;
      return driver === null ? rest : { ...rest, driver };
    });
    return { ...machine, functions };
  }

  *begin(owned: readonly OwnedFunction[]): Steps {
    yield* sideBySide(owned.map(({ address }) => this.#function(address).move()));
  }

  follow(owned: readonly OwnedFunction[]): void {
    for (const each of this.#functions.values()) each.wanted = HOST;
    for (const { address, owner } of owned) this.#function(address).wanted = owner;
  }

  *handOver(address: PciAddress): Steps {
    yield* this.#function(address).move();
  }

  /** Nobody but the GPU's own driver can clear its memory. */
  *clear(): Steps {}

  serve(owned: OwnedFunction): ServedFunction {
    const { address, kind, owner } = owned;
    const live = this.#function(address);
    const { device } = live;
    if (device === undefined) throw new Error("it is not open");
    const inner = kind === "gpu" ? this.#fenced(device, address) : new ResetBetweenClients(device, () => live.reset());
    this.#served.set(address, inner);
    const member = new ContainerMember(inner, this.#spaceOf(owner).members);
    return {
      ...owned,
      device: member,
      warnings: [],
      socket: socketPath(this.#data.machine, this.#data.socketDir, address),
    };
  }

  pinnedBytes(owner: string): bigint {
    return this.#spaces.get(owner)?.members.pinnedBytes ?? 0n;
  }

  accessTo(address: PciAddress, region: number): RegionStatus["access"] {
    return this.#functions.get(address)?.device?.regions[region]?.mappedBy;
  }

  onServer(server: VfioUserServer, remove: (address: PciAddress, why: string) => void): void {
    this.#server = server;
    for (const { device } of this.#functions.values()) if (device !== undefined) this.#watch(device);
    this.#onRemoval = (address) => {
      remove(address, "this host has taken it away");
      server.tasks.start(this, this.#function(address).shut(), () => {});
    };
    server.tasks.start(this, this.#lookAfterFences(), () => {});
  }

  /** Closed side by side, for the kernel resets each. */
  close(): void {
    try {
      runToEnd(sideBySide([...this.#functions.values()].map((each) => each.shut())));
    } finally {
      for (const { container } of this.#spaces.values()) container.close();
    }
  }

  /** A function can be reset by whoever is root here, without asking. */
  *#lookAfterFences(): Steps {
    for (let look = 0; ; look++) {
      yield* pause(LOOK_INTERVAL);
      for (const fence of this.fences.all) {
        const isOpen = this.#functions.get(fence.plan.address)?.device !== undefined;
        if (isOpen && (fence.attached || look % LOOKS_PER_IDLE_LOOK === 0)) fence.lookAfter();
      }
    }
  }

  #function(address: PciAddress): LiveFunction {
    const known = this.#functions.get(address);
    if (known !== undefined) return known;
    const made = new LiveFunction(address, (owner) => this.#spaceOf(owner));
    this.#functions.set(address, made);
    return made;
  }

  #spaceOf(owner: string): OwnerSpace {
    const known = this.#spaces.get(owner);
    if (known !== undefined) return known;
    const container = new KernelContainer({
      policy: this.#data.trustVmm ? "trust-vmm" : "separate",
      pageSize: this.#data.pageSize,
      // Whoever has the file of a GPU's BAR0 can map the registers that cut links.
      neverSeparate: (address) => (this.#gpus.has(address) ? [VFIO_PCI_BAR0_REGION_INDEX] : []),
      onNotice: ({ address }, notice) => this.#onNotice(address, notice),
      onShortage: (message) => this.#notice(owner, message),
    });
    const members: Container = new Container(container, (member, range) => this.#onUnreachable(members, member, range));
    const space = { container, members, onOpen: (device: KernelDevice) => this.#watch(device) };
    this.#spaces.set(owner, space);
    return space;
  }

  /** Told once for each client: of a real device's DMA nobody here could do any part. */
  #onUnreachable(members: Container, member: object, { address, size }: DmaRange): void {
    const of = [...this.#served].find(([, device]) => device === member)?.[0] ?? "";
    const range = `0x${address.toString(16)} + 0x${size.toString(16)}`;
    this.#notice(of, `does not reach memory of its client that came without a descriptor: ${range}, and perhaps more`);
    this.#server?.tasks.start(this, this.#adviseSharing(members, of), () => {});
  }

  *#adviseSharing(members: Container, of: PciAddress): Steps {
    yield* pause(SHARING_PATIENCE);
    if (members.fileRangeCount > 0) return;
    this.#notice(of, "reaches no memory at all: start its VM with shared memory (QEMU: memory-backend-memfd,share=on)");
  }

  #watch(device: KernelDevice): void {
    if (this.#server !== undefined) device.watchWith(this.#server.poller);
  }

  #onNotice(address: PciAddress, notice: KernelNotice): void {
    if (notice === "removal requested") this.#onRemoval(address);
    else this.#notice(address, "has reported an error that is not correctable");
  }

  #notice(address: PciAddress, message: string): void {
    this.#tell({ kind: "notice", of: this.#gpus.get(address) ?? address, message });
  }

  #fenced(device: VfioDevice, address: PciAddress): VfioDevice {
    const onEvent = (event: FenceEvent) => this.#tell({ kind: "fence", event });
    return new FencedDevice(device, this.fences.of(address), { pageSize: this.#data.pageSize, onEvent });
  }
}

/** Null when it has none, or is gone. */
function driverOf(address: PciAddress): string | null {
  try {
    return readBinding(address).driver;
  } catch {
    return null;
  }
}
