import type { FenceEvent } from "../../fence/progress.js";
import type { LinkSnapshot } from "../../fence/verify.js";
import type { Assignment, Gpu, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";

/** What a worker that serves is started with, whatever it serves. */
export interface ServingData {
  machine: Machine;
  assignments: Assignment[];
  /** Where the sockets are made; it exists. */
  socketDir: string;
  /** Touch GPUs of the host although a driver has them. */
  includeHost: boolean;
  /** As in `IsolationOptions`. */
  isolateNvlink?: boolean;
  /** The host's, in bytes. */
  pageSize: number;
}

/** For a virtual machine. */
export interface VirtualServingData extends ServingData {
  /** Bytes of memory of each GPU, a power of two. */
  gpuMemory: number;
  /** Show each GPU's memory as BAR4 of its first bridge too. */
  ramAsBar: boolean;
  /** A reset clears the GPU's memory. */
  resetClearsMemory: boolean;
}

/** For functions of this host, which vfio-pci has. */
export interface LiveServingData extends ServingData {
  /** BARs are mapped by vfio-pci's device descriptor, which whoever runs the VM could do more with. */
  trustVmm: boolean;
}

/** What the main thread asks the worker. What is thrown says in one line what is wrong. */
export type Request =
  /** Has a {@link ServingStatus}, at once. */
  | { kind: "status" }
  /** Has a {@link Seen}, at once. */
  | { kind: "seen" }
  /** Throws what `assign` would refuse at this moment, and touches nothing. */
  | { kind: "check"; assignments: Assignment[] }
  /**
   * Goes over to these assignments, all that there are to be: first everything is fenced for them, then the sockets
   * change. GPUs and bridges whose owner stays keep their sockets, their clients and their memory; the others begin with
   * cleared memory. Has a {@link ServingStatus} when it is over, which may take seconds. Throws when it is refused, with
   * nothing touched: the plan has problems, a client has a function whose owner changes, or another change is under way.
   * A GPU whose fence then fails is no reason to throw: it answers EIO to everything, and the status says why.
   */
  | { kind: "assign"; assignments: Assignment[] };

/** What the worker tells by itself, besides its `ServerEvent`s. */
export type ServingEvent =
  /** `at`: when it happened, in milliseconds by a clock that never goes back, and that says nothing but how long it took. */
  | { kind: "fence"; event: FenceEvent; at?: number }
  /** A client reached what the virtual GPU does not model: each register once. */
  | { kind: "unmodelled"; what: string }
  /** Something that whoever runs this host should know; `of` is a GPU's name, an address, or an assignment's name. */
  | { kind: "notice"; of: string; message: string }
  /** The host takes a function away: it is served no longer. */
  | { kind: "removed"; of: string; address: PciAddress };

/** What is different of a machine, at one moment, from how it was described. */
export interface Seen {
  /** All of them, with what their registers say. */
  gpus: Gpu[];
  /** The drivers of this host that have GPUs, by the GPU's address; what nobody has, or the server, is not in it. */
  drivers: Record<PciAddress, string>;
}

/** What a function is: a GPU with a fence, an NPU bridge of one, or any other, which has no links. */
export type FunctionKind = "gpu" | "bridge" | "other";

/** Who is connected to a socket. */
export interface ClientStatus {
  pid: number;
  uid: number;
  gid: number;
  /** Since when, ISO 8601. */
  since: string;
}

/** One GPU's fence. */
export interface FenceStatus {
  state: "unfenced" | "renewing" | "in force" | "failed";
  /** Since when it has been in force without interruption, ISO 8601; null when it is not. */
  since: string | null;
  expected: { disableMask: number | null; cut: number[] };
  /** As read just now; all null unless it is in force. */
  actual: LinkSnapshot;
  /** Links that are to be up and come up with the GPU's next reset only, ascending. */
  stillCut: number[];
  /** Why it has failed. */
  reason: string | null;
}

/** The numbers of a function's IOMMU group by the kernel's rules. */
export interface IommuGroupStatus {
  /** As the machine is: the kernel's own number where it has formed groups. */
  id: number;
  /** With the kernel's `isolate_nvlink`; the same as {@link id} where that changes nothing. */
  isolated: number;
}

/** One region as a client gets it. */
export interface RegionStatus {
  /** VFIO index. */
  index: number;
  /** Bytes. */
  size: number;
  /** Whether a client may map some of it. */
  mappable: boolean;
  /** Of a function of this host: by what a client maps it, or that its accesses are carried out one by one. */
  access?: "device fd" | "dma-buf" | "sysfs file" | "trapped";
}

/** One function: those that are served, and the GPUs of the host. */
export interface FunctionStatus {
  address: PciAddress;
  /** The GPU's name; of others their address, for a bridge's slot label is the GPU's. */
  name: string;
  kind: FunctionKind;
  /** The owner: an assignment's name, or `host`. */
  assignment: string;
  /** Absolute path; null when it is not served. */
  socket: string | null;
  client: ClientStatus | null;
  /** Empty when it is not served. */
  regions: RegionStatus[];
  /** null for a function that the kernel puts into no group. */
  iommuGroup: IommuGroupStatus | null;
  /** What the device goes without, and why it is not served, one line each. */
  warnings: string[];
  /** GPUs only. */
  fence?: FenceStatus;
}

/** One assignment as it is served. */
export interface AssignmentStatus {
  name: string;
  members: PciAddress[];
  /**
   * Members that nobody serves, though their isolation is planned for: of a virtual machine, what is neither a GPU nor an
   * NPU bridge of one.
   */
  notServed: PciAddress[];
  /** Bytes of its clients' memory that its functions reach by DMA, each counted once; decimal. */
  pinnedBytes: string;
}

/** Everything that is served and fenced. */
export interface ServingStatus {
  machine: string;
  virtual: boolean;
  assignments: AssignmentStatus[];
  /** GPUs in the order of the machine, each followed by its bridges; then the others that are served. */
  functions: FunctionStatus[];
  /** How BARs of functions of this host get to clients; absent of a virtual machine. */
  tier?: "mediated" | "trust-vmm";
}
