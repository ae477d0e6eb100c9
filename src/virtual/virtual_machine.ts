import type { Link, Machine } from "../machine/machine.js";
import { type PciAddress, splitAddress } from "../pci/address.js";
import { pause, type Steps } from "../vfio/steps.js";
import { append } from "./append.js";
import type { ConfigSize } from "./config_image.js";
import { VirtualError } from "./error.js";
import { endKey, type Pairing, pairLinks } from "./far_ends.js";
import type { VideoMemory } from "./video_memory.js";
import { VirtualBridge } from "./virtual_bridge.js";
import { VirtualGpu } from "./virtual_gpu.js";

/**
 * Who writes the reset bit of the port above a GPU. Firmware puts the NPU's links into reset before it lets the write
 * through (skiboot hw/npu2.c, the filter on the bridge control register); a raw write at the port does not.
 */
export type ResetPath = "firmware" | "port";

/** How long a reset holds the bus, in milliseconds: the least that a port must (PCIe base specification 6.6.1: 1 ms). */
export const RESET_HOLD_MS = 2;
/** How long after it config space must not be accessed yet, in milliseconds (PCIe base specification 6.6.1). */
export const CONFIG_READY_MS = 100;

export interface VirtualMachineOptions {
  /** A reset clears the GPU's memory. Without it the memory keeps what it holds, as it may on a card. */
  resetClearsMemory?: boolean;
}

/** What a fence needs of a virtual GPU: register and config access, and the resets of the platform around it. */
export interface VirtualPort {
  readConfig(offset: number, size: ConfigSize): number;
  writeConfig(offset: number, size: ConfigSize, value: number): void;
  readBar0(offset: number): number;
  writeBar0(offset: number, value: number): void;
  secondaryBusReset(): Steps;
  holdNpuLinks?(): void;
  releaseNpuLinks?(): void;
  linksUp(): number[];
}

/** A machine whose GPUs, NPU bridges and links behave as hardware does, made from the description of any machine. */
export class VirtualMachine {
  /** Hardware management interrupts so far: one for each NPU link that a reset took down unprepared. */
  hmis = 0;
  readonly #gpus = new Map<PciAddress, VirtualGpu>();
  readonly #bridges = new Map<PciAddress, VirtualBridge>();
  readonly #bridgesOf = new Map<PciAddress, VirtualBridge[]>();
  readonly #gpusOnBus = new Map<string, VirtualGpu[]>();
  readonly #pairing: Pairing;
  readonly #resetClearsMemory: boolean;

  constructor(
    readonly machine: Machine,
    options: VirtualMachineOptions = {},
  ) {
    this.#resetClearsMemory = options.resetClearsMemory ?? false;
    const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
    for (const gpu of machine.gpus) {
      const virtual = new VirtualGpu(gpu, functions.get(gpu.address), {
        linkUp: (link) => this.linkUp(gpu.address, link),
        memory: (link) => this.peerAccess(gpu.address, link),
      });
      this.#gpus.set(gpu.address, virtual);
      append(this.#gpusOnBus, busOf(gpu.address), virtual);
    }
    for (const bridge of machine.bridges) {
      const virtual = new VirtualBridge(bridge, functions.get(bridge.address));
      this.#bridges.set(bridge.address, virtual);
      if (bridge.gpu !== undefined) append(this.#bridgesOf, bridge.gpu, virtual);
    }
    this.#pairing = pairLinks(machine);
  }

  /** @throws VirtualError when the machine has no GPU there. */
  gpu(address: PciAddress): VirtualGpu {
    const gpu = this.#gpus.get(address);
    if (gpu === undefined) throw new VirtualError(`no GPU at ${address} in ${this.machine.name}`);
    return gpu;
  }

  /** @throws VirtualError when the machine has no NPU bridge there. */
  bridge(address: PciAddress): VirtualBridge {
    const bridge = this.#bridges.get(address);
    if (bridge === undefined) throw new VirtualError(`no NPU bridge at ${address} in ${this.machine.name}`);
    return bridge;
  }

  /** Whether link n of the GPU is trained: both ends enabled, by their registers and their drivers. */
  linkUp(address: PciAddress, link: number): boolean {
    const gpu = this.gpu(address);
    const wired = gpu.gpu.links.find((each) => each.number === link);
    return wired !== undefined && this.#isUp(gpu, wired);
  }

  /** The GPU's links that are trained, ascending. */
  linksUp(address: PciAddress): number[] {
    const gpu = this.gpu(address);
    const up = gpu.gpu.links.filter((link) => this.#isUp(gpu, link));
    return up.map((link) => link.number).sort((a, b) => a - b);
  }

  /** The memory that the GPU reaches over link n: the far GPU's while the link is up, undefined when there is none. */
  peerAccess(address: PciAddress, link: number): VideoMemory | undefined {
    const far = this.gpu(address).gpu.links.find((each) => each.number === link)?.far;
    if (far?.kind !== "gpu" || !this.linkUp(address, link)) return undefined;
    return this.#gpus.get(far.gpu)?.memory;
  }

  /** Puts the CPU's ends of the GPU's links into reset, so that the GPU may be reset. */
  holdNpuLinks(address: PciAddress): void {
    for (const bridge of this.#bridgesOf.get(address) ?? []) bridge.inReset = true;
  }

  /** Lets the CPU's ends of the GPU's links train again. */
  releaseNpuLinks(address: PciAddress): void {
    for (const bridge of this.#bridgesOf.get(address) ?? []) bridge.inReset = false;
  }

  /**
   * Secondary bus reset at the port above the GPU, in no time. It hits every function of that bus; an NPU bridge whose
   * link is not in reset by then freezes, with an interrupt counted in {@link hmis}.
   */
  secondaryBusReset(address: PciAddress, through: ResetPath): void {
    for (const gpu of this.#onBusOf(address)) {
      this.#reset(gpu, through, () => gpu.secondaryBusReset());
      if (this.#resetClearsMemory) gpu.memory?.clear();
    }
  }

  /**
   * The same reset in the time that it takes on a real bus: {@link RESET_HOLD_MS}, and {@link CONFIG_READY_MS} until the
   * functions answer again. Until then their config space and BARs read all ones and writes are lost. Through firmware,
   * the NPU's links train again after it.
   */
  *resetSteps(address: PciAddress, through: ResetPath): Steps {
    const gpus = this.#onBusOf(address);
    for (const gpu of gpus) this.#reset(gpu, through, () => gpu.beginReset());
    try {
      const ready = performance.now() + RESET_HOLD_MS + CONFIG_READY_MS;
      if (this.#resetClearsMemory) for (const { memory } of gpus) if (memory !== undefined) yield* memory.clearSteps();
      yield* pause(Math.max(0, ready - performance.now()));
    } finally {
      for (const gpu of gpus) {
        gpu.endReset();
        if (through === "firmware") this.releaseNpuLinks(gpu.gpu.address);
      }
    }
  }

  /** Resets the host bridge of the NPU of this name: its frozen bridges answer again, all its links are in reset. */
  resetNpu(npu: string): void {
    for (const bridge of this.#bridges.values()) if (bridge.bridge.npu === npu) bridge.hostReset();
  }

  /**
   * The GPU as a fence sees it. Its reset is the raw one at the port, so that whoever forgets to hold the NPU's links
   * first is found out.
   */
  port(address: PciAddress): VirtualPort {
    const gpu = this.gpu(address);
    const port: VirtualPort = {
      readConfig: (offset, size) => gpu.readConfig(offset, size),
      writeConfig: (offset, size, value) => gpu.writeConfig(offset, size, value),
      readBar0: (offset) => gpu.readBar0(offset),
      writeBar0: (offset, value) => gpu.writeBar0(offset, value),
      secondaryBusReset: () => this.#portReset(address),
      linksUp: () => this.linksUp(address),
    };
    if (!this.#bridgesOf.has(address)) return port;
    return {
      ...port,
      holdNpuLinks: () => this.holdNpuLinks(address),
      releaseNpuLinks: () => this.releaseNpuLinks(address),
    };
  }

  /** What a reset does when it begins, save to the memory. */
  #reset(gpu: VirtualGpu, through: ResetPath, hit: () => void): void {
    const { address } = gpu.gpu;
    if (through === "firmware") this.holdNpuLinks(address);
    hit();
    for (const bridge of this.#bridgesOf.get(address) ?? []) if (bridge.farEndReset()) this.hmis++;
  }

  #onBusOf(address: PciAddress): readonly VirtualGpu[] {
    this.gpu(address);
    return this.#gpusOnBus.get(busOf(address)) ?? [];
  }

  // biome-ignore lint/correctness/useYield: a virtual port takes no time
  *#portReset(address: PciAddress): Steps {
    this.secondaryBusReset(address, "port");
  }

  #isUp(gpu: VirtualGpu, link: Link): boolean {
    return gpu.linkEnabled(link.number) && this.#farEndEnabled(gpu.gpu.address, link);
  }

  /** An end that the machine does not have, or does not know, is taken for enabled: ignorance isolates nothing. */
  #farEndEnabled(address: PciAddress, { number, far }: Link): boolean {
    if (far.kind === "none") return false;
    if (far.kind === "bridge") return this.#bridges.get(far.bridge)?.linkEnabled ?? true;
    if (far.kind !== "gpu") return true;
    const farLink = far.link ?? this.#pairing.get(endKey(address, number));
    return farLink === undefined || (this.#gpus.get(far.gpu)?.linkEnabled(farLink) ?? true);
  }
}

function busOf(address: PciAddress): string {
  const { domain, bus } = splitAddress(address);
  return `${domain.toString(16)}:${bus.toString(16)}`;
}
