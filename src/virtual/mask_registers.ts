import {
  disableMask,
  LINK_DISABLE,
  NV_PMC_BOOT_0,
  NV_PMC_ENABLE,
  NV_PMC_ENABLE_NVLINK,
  type PartFacts,
} from "../machine/part.js";
import type { LinkRegisters, Recorded } from "./link_registers.js";
import { PRI_CLIENT_IN_RESET, PRI_RING_DEAD } from "./pri_error.js";

/** Priv ring command register, and its command "enumerate the stations and start the ring" (nouveau privring/gp10b.c). */
const PRI_RING_COMMAND = 0x12004c;
const ENUMERATE_AND_START = 0x4;
/** Priv ring decode configuration, and its value "wait for ring start". */
const PRI_DECODE_CONFIG = 0x122204;
const WAIT_FOR_RING_START = 0x2;

/** `NV_PMC_ENABLE` after a reset: priv ring and display (NVIDIA/open-gpu-doc manuals/volta/gv100/dev_master). */
const PMC_ENABLE_RESET = (1 << 5) | (1 << 30);

/** How far the priv ring is: the link unit is reached only over a ring that was started and then waited for. */
type Ring = "stopped" | "started" | "running";

/** The link registers of GP100 and GV100: one mask, sticky until the next secondary bus reset. */
export class MaskRegisters implements LinkRegisters {
  readonly pages = [NV_PMC_BOOT_0, NV_PMC_ENABLE, PRI_RING_COMMAND, PRI_DECODE_CONFIG, LINK_DISABLE].map(
    (offset) => offset >>> 12,
  );
  readonly #boot0: number;
  readonly #linkBits: number;
  #ring: Ring = "running";
  #enable: number;
  #disable: number;

  constructor(facts: PartFacts, recorded: Recorded) {
    this.#boot0 = recorded.get(NV_PMC_BOOT_0) ?? facts.boot0;
    this.#linkBits = disableMask(Array.from({ length: facts.links }, (_, link) => link));
    this.#enable = recorded.get(NV_PMC_ENABLE) ?? (PMC_ENABLE_RESET | NV_PMC_ENABLE_NVLINK) >>> 0;
    this.#disable = ((recorded.get(LINK_DISABLE) ?? 0) & this.#linkBits) >>> 0;
  }

  read(offset: number): number | undefined {
    switch (offset) {
      case NV_PMC_BOOT_0:
        return this.#boot0;
      case NV_PMC_ENABLE:
        return this.#enable;
      case PRI_RING_COMMAND:
        return 0; // A command that is done reads back as none.
      case PRI_DECODE_CONFIG:
        return this.#ring === "running" ? WAIT_FOR_RING_START : 0;
      case LINK_DISABLE:
        return this.#linkUnit() ?? this.#disable;
      default:
        return undefined;
    }
  }

  write(offset: number, value: number): boolean {
    switch (offset) {
      case NV_PMC_BOOT_0:
        return true;
      case NV_PMC_ENABLE:
        this.#enable = value >>> 0;
        return true;
      case PRI_RING_COMMAND:
        if (value === ENUMERATE_AND_START) this.#ring = "started";
        return true;
      case PRI_DECODE_CONFIG:
        if (value === WAIT_FOR_RING_START && this.#ring === "started") this.#ring = "running";
        return true;
      case LINK_DISABLE:
        if (this.#linkUnit() === undefined) this.#disable = (this.#disable | (value & this.#linkBits)) >>> 0;
        return true;
      default:
        return false;
    }
  }

  reset(): void {
    this.#ring = "stopped";
    this.#enable = PMC_ENABLE_RESET;
    this.#disable = 0;
  }

  /** GP100 and GV100 advertise none, so nothing happens. */
  functionLevelReset(): void {}

  enabled(link: number): boolean {
    return this.#nvlinkOn() && !this.cut(link);
  }

  cut(link: number): boolean {
    return (this.#disable & disableMask([link])) !== 0;
  }

  get contents(): readonly number[] {
    return [this.#enable, this.#disable, ["stopped", "started", "running"].indexOf(this.#ring)];
  }

  /** The error that the link unit's registers answer with, or undefined when it can be reached. */
  #linkUnit(): number | undefined {
    if (this.#ring !== "running") return PRI_RING_DEAD;
    return this.#nvlinkOn() ? undefined : PRI_CLIENT_IN_RESET;
  }

  #nvlinkOn(): boolean {
    return (this.#enable & NV_PMC_ENABLE_NVLINK) !== 0;
  }
}
