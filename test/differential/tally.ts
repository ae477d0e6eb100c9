/** How many of what were looked at. */
export class Tally {
  readonly #counts = new Map<string, number>();
  readonly #kinds = new Map<string, Set<string>>();

  add(what: string, count: number): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + count);
  }

  /** Counts something once, however often it comes. */
  see(what: string, kind: string): void {
    this.#kinds.set(what, (this.#kinds.get(what) ?? new Set()).add(kind));
  }

  of(what: string): number {
    return this.#counts.get(what) ?? this.#kinds.get(what)?.size ?? 0;
  }

  /** One line. */
  toString(): string {
    const kinds = [...this.#kinds].map(([what, { size }]) => [what, size] as const);
    return [...this.#counts, ...kinds].map(([what, count]) => `${count} ${what}`).join(", ");
  }
}
