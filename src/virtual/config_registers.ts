/** How a register of config space behaves; bits that are in neither mask are read-only. */
export interface ConfigRegister {
  /** Byte offset, from the start of config space or of the capability it belongs to. */
  at: number;
  /** Bytes. */
  size: 1 | 2 | 4;
  /** After a reset; 0 when absent. */
  value?: number;
  /** Bits that take what is written. */
  writable?: number;
  /** Bits that a written 1 clears (RW1C in the specifications' tables). */
  clearable?: number;
}

/** Config space byte by byte: values, and for each bit what a write does to it. Accesses beyond its end are nobody's. */
export class ConfigRegisters {
  readonly size: number;
  readonly #bytes: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;

  /** @param size bytes, 256 or 4096 */
  constructor(size: number) {
    this.size = size;
    this.#bytes = new Uint8Array(size);
    this.#writable = new Uint8Array(size);
    this.#clearable = new Uint8Array(size);
  }

  /** Puts registers in, each as a whole inside config space, `base` bytes further on than they say. */
  define(registers: readonly ConfigRegister[], base = 0): void {
    for (const { at, size, value = 0, writable = 0, clearable = 0 } of registers) {
      for (let i = 0; i < size; i++) {
        this.#bytes[base + at + i] = value >>> (8 * i);
        this.#writable[base + at + i] = writable >>> (8 * i);
        this.#clearable[base + at + i] = clearable >>> (8 * i);
      }
    }
  }

  /** The byte at an offset; all ones beyond the end. */
  byte(offset: number): number {
    return this.#bytes[offset] ?? 0xff;
  }

  /** Two bytes, little endian. */
  word(offset: number): number {
    return this.byte(offset) | (this.byte(offset + 1) << 8);
  }

  /** Four bytes, little endian, unsigned. */
  double(offset: number): number {
    return (this.word(offset) | (this.word(offset + 2) << 16)) >>> 0;
  }

  /** Sets a byte as the device itself does, whatever software may write there. */
  set(offset: number, value: number): void {
    this.#bytes[offset] = value;
  }

  /** Writes a byte as software does. */
  write(offset: number, value: number): void {
    const writable = this.#writable[offset] ?? 0;
    const written = (this.byte(offset) & ~writable) | (value & writable);
    this.#bytes[offset] = written & ~(value & (this.#clearable[offset] ?? 0));
  }

  /** A copy of all bytes. */
  copy(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Sets all bytes to those of a {@link copy}. */
  restore(bytes: Uint8Array): void {
    this.#bytes.set(bytes);
  }
}
