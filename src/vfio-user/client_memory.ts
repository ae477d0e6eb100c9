import { type DmaSpace, type Steps, VfioError } from "../vfio/index.js";
import type { DmaRequests } from "./dma_requests.js";
import type { DmaTable, MappedRange } from "./dma_table.js";
import { Command } from "./header.js";

/** Bytes copied before others get their turn. */
const SLICE = 1 << 20;
/** Ranges looked at before others get their turn: a client may make each of them a byte long. */
const RANGES = 64;

type Access = "read" | "write";

/** A client's memory: files where it gave some, messages elsewhere. */
export class ClientMemory implements DmaSpace {
  readonly #table: DmaTable;
  readonly #requests: DmaRequests;

  constructor(table: DmaTable, requests: DmaRequests) {
    this.#table = table;
    this.#requests = requests;
  }

  read(address: bigint, data: Uint8Array): Steps {
    return this.#transfer("read", address, data);
  }

  write(address: bigint, data: Uint8Array): Steps {
    return this.#transfer("write", address, data);
  }

  *#transfer(access: Access, address: bigint, data: Uint8Array): Steps {
    yield* this.#check(access, address, data.length);
    for (let done = 0, pieces = 1; done < data.length; pieces++) {
      const at = address + BigInt(done);
      // Looked up again for each piece: the client may have changed its mind while others had their turn.
      const mapped = this.#find(access, at);
      const left = mapped.range.address + mapped.range.size - at;
      const length = Math.min(data.length - done, SLICE, left > SLICE ? SLICE : Number(left));
      const piece = data.subarray(done, done + length);
      if (mapped.file === undefined) {
        yield* this.#requests.transfer(access === "read" ? Command.DMA_READ : Command.DMA_WRITE, at, piece);
      } else {
        const offset = Number((mapped.range.file?.offset ?? 0n) + at - mapped.range.address);
        if (access === "read") mapped.file.read(offset, piece);
        else mapped.file.write(offset, piece);
      }
      done += length;
      if (done < data.length && (length === SLICE || pieces % RANGES === 0)) yield { deadline: 0 };
    }
  }

  /** All of it must be there before any of it is touched. */
  *#check(access: Access, address: bigint, length: number): Steps {
    const end = address + BigInt(length);
    for (let at = address, ranges = 1; at < end; ranges++) {
      const { range } = this.#find(access, at);
      at = range.address + range.size;
      if (at < end && ranges % RANGES === 0) yield { deadline: 0 };
    }
  }

  #find(access: Access, address: bigint): MappedRange {
    const mapped = this.#table.find(address);
    if (mapped === undefined) throw new VfioError("EFAULT", `no DMA range at 0x${address.toString(16)}`);
    if (access === "read" ? mapped.range.readable : mapped.range.writable) return mapped;
    throw new VfioError(
      "EACCES",
      `the DMA range at 0x${address.toString(16)} may not be ${access === "read" ? "read" : "written"}`,
    );
  }
}
