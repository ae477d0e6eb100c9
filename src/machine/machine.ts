import type { PciAddress } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";

/** Version of the {@link Machine} format as a capture file carries it. */
export const MACHINE_VERSION = 1;

/** Where a fact was read. `wiring` is a table of a known board, `firmware` what linkfence's own firmware pass derived. */
export type Origin =
  | "device-tree"
  | "firmware"
  | "sysfs"
  | "lspci"
  | "nvidia-smi"
  | "wiring"
  | "register"
  | "kernel-rules";

/** The chip generations whose links linkfence can tell apart; `unknown` is never guessed at. */
export type Part = "GP100" | "GV100" | "GA100" | "unknown";

/** What is at the other end of a link. A far link number is absent when only the far GPU is known. */
export type FarEnd =
  | { kind: "gpu"; gpu: PciAddress; link?: number }
  | { kind: "bridge"; bridge: PciAddress }
  | { kind: "switch"; switch: string }
  | { kind: "none" }
  | { kind: "unknown" };

/** A 32-bit register as it was read: offset in BAR0 and value. */
export interface RegisterValue {
  offset: number;
  value: number;
}

/** What proves a link's state: registers that were read, and when (ISO 8601) where that is known. */
export interface Evidence {
  registers: RegisterValue[];
  readAt?: string;
}

/**
 * One NVLink seen from one GPU. `state` is what this end says: `cut` only ever counts together with evidence
 * (see `link_state.ts`), so a file cannot claim isolation by saying so.
 */
export interface Link {
  /** The GPU's link number, from 0. */
  number: number;
  far: FarEnd;
  state: "up" | "down" | "cut" | "unknown";
  evidence?: Evidence;
  origin: Origin;
  /** The far end, or its link number, is inferred and was not read from this machine. */
  assumed?: boolean;
}

/** A GPU and its links. It is also one of the machine's functions, by the same address. */
export interface Gpu {
  address: PciAddress;
  /** Slot label where the platform has one (`GPU0`), else the address. Unique in a machine. */
  name: string;
  part: Part;
  /** Whether the part has NVLinks at all: a K80 has none, an unknown part may. */
  nvlink: "present" | "none" | "unknown";
  links: Link[];
  /** Its NPU bridge functions in the order of `ibm,npu`. */
  bridges: PciAddress[];
  origin: Origin;
}

/** An NPU bridge function: the CPU's end of a link. */
export interface Bridge {
  address: PciAddress;
  /** Its GPU, by `ibm,gpu`. */
  gpu?: PciAddress;
  /** `ibm,npu-link-index`: which of its NPU's six links this is. */
  linkIndex: number;
  /** Which NPU it belongs to: the node path or name, the same for all links of one NPU. */
  npu: string;
  slotLabel?: string;
  groupId?: number;
  brickId?: number;
  /** `ibm,nvlink-speed` code: 3, 8 or 9. */
  speed?: number;
  /** The ATSD register page of this link, when the NPU has one for its index. */
  atsd?: bigint;
  /** The bridge's own `ibm,device-tgt-addr`, where the source has one for each; else see {@link CoherentMemory.tgt}. */
  tgt?: bigint;
  origin: Origin;
}

/** A GPU's RAM as the CPU addresses it. */
export interface CoherentMemory {
  gpu: PciAddress;
  base: bigint;
  /** Size of the window in bytes; the RAM behind it is smaller. */
  size: bigint;
  /** Compressed address by which the GPU's DMA reaches it (`ibm,device-tgt-addr`). */
  tgt?: bigint;
  origin: Origin;
}

/** An IOMMU group as the kernel numbers it; members in the order they were attached where that is known. */
export interface IommuGroup {
  id: number;
  members: PciAddress[];
}

/** GPUs (and, by address, bridges) with one owner. */
export interface Assignment {
  name: string;
  members: PciAddress[];
}

/** What the running or described kernel contributes. */
export interface Kernel {
  /** As `uname -r` prints it. */
  release?: string;
  commandLine?: string;
}

/** Something a source could not read or does not say, and what would help. */
export interface Unknown {
  /** What is not known. */
  what: string;
  /** The functions it is about, if any. */
  functions: PciAddress[];
  /** What the user can do about it. */
  action?: string;
  /** Set where another source may answer it: the far ends of these GPUs' links. */
  about?: "far-ends";
}

/** Two sources that contradict each other about links. */
export interface Disagreement {
  gpus: [PciAddress, PciAddress];
  /** Both statements, in words. */
  reason: string;
}

/**
 * One machine: what crosses from a source to everything else. Plain data; with sizes as hexadecimal strings it is the
 * capture format.
 */
export interface Machine {
  name: string;
  /** Set for every machine that is not silicon. */
  virtual: boolean;
  platform: "powernv" | "pc" | "unknown";
  /** What it was made from, for a person: `device tree op920.wsp.dtb`. */
  source: string;
  kernel?: Kernel;
  functions: PciFunction[];
  /** The kernel's own IOMMU groups; absent when the source has none. */
  groups?: IommuGroup[];
  gpus: Gpu[];
  bridges: Bridge[];
  memory: CoherentMemory[];
  assignments?: Assignment[];
  unknown: Unknown[];
  disagreements?: Disagreement[];
}
