import type { Duplex } from "node:stream";
import { onLines } from "./lines.js";

type Reply = { return?: unknown; error?: { class: string; desc: string } };

/** QEMU's control protocol (docs/interop/qmp-spec.rst in qemu/qemu), on a connected socket. */
export class Qmp {
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #closed = false;

  constructor(private readonly socket: Duplex) {
    onLines(socket, (line) => this.#receive(line));
    socket.on("error", () => {});
    socket.on("close", () => this.#close());
    // No other command is taken before this one.
    this.execute("qmp_capabilities").catch(() => {});
  }

  /**
   * What a command returns.
   * @throws {Error} what QEMU says against it, or that it is gone
   */
  execute(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#closed) return Promise.reject(new Error(`QMP ${command}: QEMU is gone`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject: (error) => reject(new Error(`QMP ${command}: ${error.message}`)) });
      this.socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  #receive(line: string): void {
    const message = JSON.parse(line) as Reply;
    // The greeting and events answer nothing.
    if (message.error !== undefined) this.#waiting.shift()?.reject(new Error(message.error.desc));
    else if ("return" in message) this.#waiting.shift()?.resolve(message.return);
  }

  #close(): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error("QEMU is gone"));
  }
}
