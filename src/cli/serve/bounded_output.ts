import type { Writable } from "node:stream";

/** Bytes that may wait for whoever reads them. */
const MAX_WAITING = 4 << 20;

/**
 * Lines of a log whose length guests decide: what nobody reads (a pager, a terminal that is held) must not pile up in
 * memory. While too much waits, lines are lost; before the next one it is said how many.
 */
export class BoundedOutput {
  #lost = 0;

  constructor(
    private readonly stream: Writable,
    private readonly sayLost: (count: number) => string,
  ) {}

  write(line: string): void {
    if (this.stream.writableLength > MAX_WAITING) {
      this.#lost++;
      return;
    }
    if (this.#lost > 0) this.stream.write(`${this.sayLost(this.#lost)}\n`);
    this.#lost = 0;
    this.stream.write(`${line}\n`);
  }
}
