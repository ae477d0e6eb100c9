import type { VfioDevice } from "../src/vfio/index.js";

/** Region whose 8 bytes are this process's used heap in bytes, as an unsigned integer. */
export const HEAP_REGION = 1;

/**
 * What minimal_server.c serves: 4 KiB of registers in region 0 and 1 MiB of memory in region 2, both reached by messages.
 */
export class BenchDevice implements VfioDevice {
  readonly #registers = new Uint8Array(4096);
  readonly #memory = new Uint8Array(1 << 20);
  readonly regions = [
    { size: 4096, readable: true, writable: true },
    { size: 8, readable: true, writable: false },
    { size: 1 << 20, readable: true, writable: true },
  ];
  readonly irqs = [];

  read(region: number, offset: number, data: Uint8Array): void {
    if (region === HEAP_REGION) {
      new DataView(data.buffer, data.byteOffset).setBigUint64(0, BigInt(process.memoryUsage().heapUsed), true);
    } else if (region === 2) {
      data.set(this.#memory.subarray(offset, offset + data.length));
    } else {
      // Byte by byte, because a subarray for each access would be garbage.
      for (let i = 0; i < data.length; i++) data[i] = this.#registers[offset + i] ?? 0;
    }
  }

  write(region: number, offset: number, data: Uint8Array): void {
    (region === 0 ? this.#registers : this.#memory).set(data, offset);
  }
}
