import type { RegisterUnit } from "./register_unit.js";

/**
 * `NV_PMC_INTR`, `_INTR_MODE`, `_INTR_EN`, `_INTR_EN_SET`, `_INTR_EN_CLEAR` and `_INTR_SW`, four 32-bit registers each
 * (NVIDIA/open-gpu-doc manuals/volta/gv100/dev_master).
 */
export const NV_PMC_INTR = 0x100;
export const NV_PMC_INTR_MODE = 0x120;
export const NV_PMC_INTR_EN = 0x140;
export const NV_PMC_INTR_EN_SET = 0x160;
export const NV_PMC_INTR_EN_CLEAR = 0x180;
export const NV_PMC_INTR_SW = 0x1a0;

/** `NV_PMC_INTR_PTIMER` and `NV_PMC_INTR_SOFTWARE`. */
export const NV_PMC_INTR_PTIMER = 1 << 20;
export const NV_PMC_INTR_SOFTWARE = 0x80000000;

const TREES = 4;
/** The trees that lead to the host; the others lead to the chip's own processors (nouveau mc/gp100.c uses these two). */
const HOST_TREES = 2;

/**
 * The master control unit's interrupts: what is pending, and what of it is let through to the host. The timer is in
 * tree 0; each tree has a bit that software sets.
 */
export class InterruptRegisters implements RegisterUnit {
  readonly pages = [NV_PMC_INTR >>> 12];
  readonly #isTimerPending: () => boolean;
  readonly #enabled = new Uint32Array(TREES);
  readonly #software = new Uint8Array(TREES);

  constructor(isTimerPending: () => boolean) {
    this.#isTimerPending = isTimerPending;
  }

  /** Whether the host is interrupted: a pending interrupt is enabled. */
  get line(): boolean {
    for (let tree = 0; tree < HOST_TREES; tree++) {
      if ((this.#pending(tree) & (this.#enabled[tree] ?? 0)) !== 0) return true;
    }
    return false;
  }

  /** Whether the timer's interrupt would get through to the host. */
  get timerEnabled(): boolean {
    return ((this.#enabled[0] ?? 0) & NV_PMC_INTR_PTIMER) !== 0;
  }

  read(offset: number): number | undefined {
    const tree = (offset >>> 2) & (TREES - 1);
    switch (offset & ~0xf) {
      case NV_PMC_INTR:
        return this.#pending(tree);
      case NV_PMC_INTR_EN:
        return this.#enabled[tree];
      case NV_PMC_INTR_MODE: // All level triggered, and these two are write only.
      case NV_PMC_INTR_EN_SET:
      case NV_PMC_INTR_EN_CLEAR:
        return 0;
      case NV_PMC_INTR_SW:
        return this.#software[tree];
      default:
        return undefined;
    }
  }

  write(offset: number, value: number): boolean {
    const tree = (offset >>> 2) & (TREES - 1);
    const enabled = this.#enabled[tree] ?? 0;
    switch (offset & ~0xf) {
      case NV_PMC_INTR_EN_SET:
        this.#enabled[tree] = enabled | value;
        return true;
      case NV_PMC_INTR_EN_CLEAR:
        this.#enabled[tree] = enabled & ~value;
        return true;
      case NV_PMC_INTR_SW:
        this.#software[tree] = value & 1;
        return true;
      case NV_PMC_INTR:
      case NV_PMC_INTR_MODE:
      case NV_PMC_INTR_EN:
        return true; // Read only.
      default:
        return false;
    }
  }

  reset(): void {
    this.#enabled.fill(0);
    this.#software.fill(0);
  }

  #pending(tree: number): number {
    const software = this.#software[tree] === 1 ? NV_PMC_INTR_SOFTWARE : 0;
    return (tree === 0 && this.#isTimerPending() ? NV_PMC_INTR_PTIMER | software : software) >>> 0;
  }
}
