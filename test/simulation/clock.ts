/** Wall clock of the machine, for progress and for how long to go on. Everything else here is virtual. */
export const wallClock: () => number = performance.now.bind(performance);

const RealDate = Date;
const BEGIN = RealDate.UTC(2026, 0, 1);

/** The time that all code of this process sees. It goes on by itself only as much as computing takes. */
class VirtualClock {
  #now = 0;
  /** Milliseconds that pass whenever somebody looks at the clock: what a processor needs from one look to the next. */
  pace = 0.001;

  /** Milliseconds, as `performance.now()`. */
  get now(): number {
    return this.#now;
  }

  read(): number {
    this.#now += this.pace;
    return this.#now;
  }

  /** Lets time pass; never backwards. */
  advanceTo(time: number): void {
    this.#now = Math.max(this.#now, time);
  }

  /** Another life begins. */
  restart(): void {
    this.#now = 1000;
    this.pace = 0.001;
  }
}

export const clock = new VirtualClock();

class VirtualDate extends RealDate {
  constructor(...given: unknown[]) {
    super(...((given.length === 0 ? [VirtualDate.now()] : given) as [number]));
  }

  static override now(): number {
    return BEGIN + Math.floor(clock.read());
  }
}

performance.now = () => clock.read();
globalThis.Date = VirtualDate as DateConstructor;
