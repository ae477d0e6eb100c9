/** Registers that are named at most: a guest may try all of BAR0. */
const MOST = 256;

/** Reports accesses to registers that are not modelled, each register once and of all no more than {@link MOST}. */
export class UnmodelledAccesses {
  readonly #seen = new Set<string | number>();
  readonly #report: (what: string) => void;

  constructor(report: (what: string) => void) {
    this.#report = report;
  }

  /** @param place BAR0 offset of a register, or the name of a whole BAR */
  note(access: "read" | "write", place: number | string): void {
    if (this.#seen.size > MOST || this.#seen.has(place)) return;
    this.#seen.add(place);
    if (this.#seen.size > MOST) {
      this.#report(`${MOST} registers that are not modelled were accessed; no more of them are named`);
      return;
    }
    const where = typeof place === "string" ? place : `BAR0 register 0x${place.toString(16).padStart(6, "0")}`;
    this.#report(`${access} of ${where}, which is not modelled`);
  }
}
