import type { VirtualMachine } from "./virtual_machine.js";

/** Lines of a guest's console that are shown when something goes wrong. */
const CONSOLE_LINES = 40;

/** Checks as they come, each on a line; and what came of all of them. */
export class CheckReport {
  #passed = 0;
  #failed = 0;
  readonly #start = Date.now();

  /** Reports one. `why` is undefined when it passed. */
  add(name: string, why: string | undefined, detail = ""): void {
    if (why === undefined) this.#passed++;
    else this.#failed++;
    const text = why === undefined ? `ok      ${name}${detail && `: ${detail}`}` : `FAILED  ${name}: ${why}`;
    console.log(text.replaceAll("\n", "\n        "));
  }

  /** Carries out one check of this side; what it returns is the detail. */
  async run(name: string, check: () => string | undefined | Promise<string | undefined>): Promise<void> {
    try {
      this.add(name, undefined, await check());
    } catch (error) {
      this.add(name, (error as Error).message);
    }
  }

  /** Reports what the guest found; each of these checks must have come, and have passed. */
  addResults(scenario: string, results: ReadonlyMap<string, string>, expected: readonly string[]): void {
    for (const name of expected) {
      const value = results.get(name) ?? "did not run";
      const passed = value === "ok" || value.startsWith("ok: ");
      this.add(`${scenario}: ${name}`, passed ? undefined : value, value.slice("ok: ".length));
    }
  }

  /**
   * Carries out a part that uses machines and has `budget` seconds. Its machines, which it may add to, are killed when it
   * throws; when any of its checks fails, their consoles are shown.
   */
  async scenario(
    name: string,
    budget: number,
    machines: readonly VirtualMachine[],
    run: () => Promise<void>,
  ): Promise<void> {
    const start = Date.now();
    const failed = this.#failed;
    try {
      await run();
    } catch (error) {
      this.add(name, (error as Error).message);
      for (const machine of machines) {
        machine.kill();
        await machine.ended;
      }
    }
    if (this.#failed > failed) {
      for (const machine of machines) console.log(machine.console.slice(-CONSOLE_LINES).join("\n"));
    }
    const seconds = (Date.now() - start) / 1000;
    if (seconds > budget) this.add(name, `took ${seconds.toFixed(1)} s of ${budget} s`);
    else console.log(`        ${name}: ${seconds.toFixed(1)} s of ${budget} s`);
  }

  /** @returns whether all passed */
  finish(): boolean {
    const seconds = ((Date.now() - this.#start) / 1000).toFixed(1);
    console.log(`${this.#passed} passed, ${this.#failed} failed, ${seconds} s`);
    return this.#failed === 0;
  }
}
