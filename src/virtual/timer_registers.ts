import type { RegisterUnit } from "./register_unit.js";

/** PTIMER (NVIDIA/open-gpu-doc manuals/volta/gv100/dev_timer; those it leaves out: nouveau timer/regsnv04.h). */
export const NV_PTIMER_INTR_0 = 0x9100;
export const NV_PTIMER_INTR_EN_0 = 0x9140;
export const NV_PTIMER_NUMERATOR = 0x9200;
export const NV_PTIMER_DENOMINATOR = 0x9210;
export const NV_PTIMER_TIME_0 = 0x9400;
export const NV_PTIMER_TIME_1 = 0x9410;
export const NV_PTIMER_ALARM_0 = 0x9420;

/** Bit 0 of the two interrupt registers. */
const ALARM = 1;
/** The counter counts 32 ns: bits 4..0 of a time are always 0. */
const TICKS_PER_MS = 31250;
/** `TIME_0` and `ALARM_0` hold 27 bits of the counter from bit 5 on, `TIME_1` the 29 bits above them (envytools ptimer). */
const LOW_TICKS = 2 ** 27;
const HIGH_TICKS = 2 ** 29;
const RATIO_BITS = 0xffff;

/**
 * The chip's timer: nanoseconds since it was reset or set, and an alarm.
 *
 * The alarm's interrupt becomes pending when the counter's low 27 bits equal the alarm's. So an alarm in the past comes
 * after a wrap, and one that is left in place again after each, every 4.29 s. Nothing runs for that: whether it has
 * come is computed from the time when somebody asks. The ratio registers keep what is written and change nothing, for
 * on this chip the counter always counts nanoseconds.
 */
export class TimerRegisters implements RegisterUnit {
  readonly pages = [NV_PTIMER_INTR_0 >>> 12];
  readonly #clock: () => number;
  /** The counter's halves at the tick of the clock in {@link #start}. */
  #low = 0;
  #high = 0;
  #start = 0;
  #alarm = 0;
  /** Matches count from this tick of the clock on. */
  #armed = 0;
  #pending = false;
  #enabled = 0;
  #numerator = 1;
  #denominator = 1;

  /** @param clock milliseconds, with fractions, that never go back */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
    this.reset();
  }

  /** Whether the timer's own enable lets a pending alarm through. */
  get isInterrupting(): boolean {
    return (this.#enabled & ALARM) !== 0 && this.#hasFired();
  }

  /** Milliseconds until the timer begins to interrupt; undefined when it does already or will not. */
  get untilInterrupt(): number | undefined {
    if ((this.#enabled & ALARM) === 0 || this.#hasFired()) return undefined;
    return (this.#armed + this.#distance() - this.#ticks()) / TICKS_PER_MS;
  }

  read(offset: number): number | undefined {
    switch (offset) {
      case NV_PTIMER_INTR_0:
        return this.#hasFired() ? ALARM : 0;
      case NV_PTIMER_INTR_EN_0:
        return this.#enabled;
      case NV_PTIMER_NUMERATOR:
        return this.#numerator;
      case NV_PTIMER_DENOMINATOR:
        return this.#denominator;
      case NV_PTIMER_TIME_0:
        return this.#lowAt(this.#ticks()) * 32;
      case NV_PTIMER_TIME_1:
        return this.#highAt(this.#ticks());
      case NV_PTIMER_ALARM_0:
        return this.#alarm * 32;
      default:
        return undefined;
    }
  }

  write(offset: number, value: number): boolean {
    const now = this.#ticks();
    switch (offset) {
      case NV_PTIMER_INTR_0:
        if ((value & ALARM) !== 0) this.#acknowledge(now);
        return true;
      case NV_PTIMER_INTR_EN_0:
        this.#enabled = value & ALARM;
        return true;
      case NV_PTIMER_NUMERATOR:
        this.#numerator = value & RATIO_BITS;
        return true;
      case NV_PTIMER_DENOMINATOR:
        this.#denominator = value & RATIO_BITS;
        return true;
      case NV_PTIMER_TIME_0:
        this.#set(now, value >>> 5, this.#highAt(now));
        return true;
      case NV_PTIMER_TIME_1:
        this.#set(now, this.#lowAt(now), value % HIGH_TICKS);
        return true;
      case NV_PTIMER_ALARM_0:
        this.#hasFired();
        this.#alarm = value >>> 5;
        this.#armed = now;
        return true;
      default:
        return false;
    }
  }

  reset(): void {
    const now = this.#ticks();
    this.#pending = false;
    this.#enabled = 0;
    this.#alarm = 0;
    this.#numerator = 1;
    this.#denominator = 1;
    this.#low = 0;
    this.#high = 0;
    this.#start = now;
    // The counter and the alarm are both 0 now, which is no time that anybody waited for.
    this.#armed = now + 1;
  }

  #ticks(): number {
    return Math.floor(this.#clock() * TICKS_PER_MS);
  }

  #lowAt(tick: number): number {
    return (this.#low + tick - this.#start) % LOW_TICKS;
  }

  #highAt(tick: number): number {
    return (this.#high + Math.floor((this.#low + tick - this.#start) / LOW_TICKS)) % HIGH_TICKS;
  }

  #set(now: number, low: number, high: number): void {
    this.#hasFired();
    this.#low = low;
    this.#high = high;
    this.#start = now;
    this.#armed = now;
  }

  /** The match that was acknowledged does not count again, though its tick may not be over yet. */
  #acknowledge(now: number): void {
    this.#pending = false;
    this.#armed = now + 1;
  }

  /** Ticks from when matches count to the first one. */
  #distance(): number {
    return (this.#alarm - this.#lowAt(this.#armed) + LOW_TICKS) % LOW_TICKS;
  }

  #hasFired(): boolean {
    this.#pending ||= this.#ticks() - this.#armed >= this.#distance();
    return this.#pending;
  }
}
