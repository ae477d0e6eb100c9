import type { Part } from "../machine.js";
import type { PortModel } from "./port_model.js";

/** A PCI bridge on the way to a GPU. Its parent is the bridge of the same domain whose secondary bus it sits on. */
export interface PortPlan {
  at: string;
  model: PortModel;
  /** Secondary and subordinate bus. */
  buses: readonly [number, number];
}

/** A GPU in its slot. */
export interface GpuPlan {
  /** Slot label, or the number nvidia-smi gives it. */
  name: string;
  at: string;
  /** Bus address of BAR0. */
  bar0: bigint;
  /** Bus address of BAR1; BAR3 follows right after it. */
  bar1: bigint;
}

/** One NPU bridge function. */
export interface BridgePlan {
  at: string;
  /** Slot label of its GPU. */
  gpu: string;
  linkIndex: number;
  groupId: number;
  brickId?: number;
  bars: readonly { index: 0 | 2; address: bigint; size: bigint }[];
  atsd?: bigint;
}

/** A socket's NPU. */
export interface NpuPlan {
  name: string;
  /** Revision of the bridge functions: 0 for NPU1, 1 for NPU2. */
  revision: 0 | 1;
  /** `ibm,nvlink-speed`; NPU1's firmware gives none. */
  speed?: number;
  bridges: readonly BridgePlan[];
}

/** The window through which the CPU sees a GPU's RAM. */
export interface WindowPlan {
  gpu: string;
  base: bigint;
}

/** What hangs on one CPU socket. */
export interface SocketPlan {
  numaNode: number;
  ports: readonly PortPlan[];
  gpus: readonly GpuPlan[];
  npu?: NpuPlan;
  windows?: readonly WindowPlan[];
}

/** Far ends by GPU name; entry i of a row is the far end of link i: a GPU's name or a bridge's address. */
export type LinkPlan = Readonly<Record<string, readonly string[]>>;

/** A board as a plan: what is where, and what is wired to what. */
export interface WiringPlan {
  name: string;
  description: string;
  platform: "powernv" | "pc";
  part: Exclude<Part, "unknown">;
  sockets: readonly SocketPlan[];
  links: LinkPlan;
  /**
   * What of the links is inferred: `pairing` where only the order within several links of one pair is, `numbers` where
   * every link number is.
   */
  assumedLinks: "pairing" | "numbers";
  /** What is assumed, in words. */
  assumed: string;
}
