import { libc } from "./libc.js";

/**
 * Zeroed memory at a fixed address, to hand to system calls and to read and write from here. Its address is taken once:
 * passing a buffer to every call costs a tenth of a register access. Freed with the object.
 */
export class NativeMemory {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;

  /** @param size bytes, at least 1 */
  constructor(size: number) {
    this.buffer = new ArrayBuffer(size);
    this.bytes = new Uint8Array(this.buffer);
    this.view = new DataView(this.buffer);
    this.address = libc().addressOf(this.buffer);
  }
}
