/** How many of what were looked at. */
export class Tally {
  readonly #counts = new Map<string, number>();

  add(what: string, count: number): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + count);
  }

  of(what: string): number {
    return this.#counts.get(what) ?? 0;
  }

  /** One line. */
  toString(): string {
    return [...this.#counts].map(([what, count]) => `${count} ${what}`).join(", ");
  }
}
