import type { PciAddress } from "../../src/pci/address.js";
import { Finding } from "./finding.js";

const MAGIC = 0x7e57ab1e;
/** Bytes of a token. */
export const TOKEN_SIZE = 8;

/** One client's time at one function: whose it was, and between which moments. */
export interface Session {
  readonly number: number;
  readonly function: PciAddress;
  /** An assignment's name. */
  readonly owner: string;
  ended: boolean;
}

/** What clients leave in memory, by which whoever finds it knows whose it is. */
export class MemoryTokens {
  readonly #sessions: Session[] = [];

  begin(of: PciAddress, owner: string): Session {
    const session = { number: this.#sessions.length, function: of, owner, ended: false };
    this.#sessions.push(session);
    return session;
  }

  /** Those whose time is over at this moment. */
  over(): ReadonlySet<number> {
    return new Set(this.#sessions.filter(({ ended }) => ended).map(({ number }) => number));
  }

  /** Any number of tokens of a session. */
  bytes({ number }: Session, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at + TOKEN_SIZE <= length; at += TOKEN_SIZE) {
      view.setUint32(at, MAGIC, true);
      view.setUint32(at + 4, number, true);
    }
    return bytes;
  }

  /**
   * Looks at memory that a session has read, from an address on that is a multiple of a token's size.
   * @param gone sessions that were over before this one began: of those at its own function nothing is to be left
   * @throws Finding for what is another owner's, or a former client's
   */
  check(data: Uint8Array, { function: at, owner }: Session, gone?: ReadonlySet<number>): void {
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    for (let offset = 0; offset + TOKEN_SIZE <= data.length; offset += TOKEN_SIZE) {
      if (view.getUint32(offset, true) !== MAGIC) continue;
      const writer = this.#sessions[view.getUint32(offset + 4, true)];
      if (writer === undefined) continue;
      if (writer.owner !== owner)
        throw new Finding(`a client of ${owner} at ${at} read memory that ${writer.owner} wrote at ${writer.function}`);
      if (writer.function === at && gone?.has(writer.number) === true) {
        throw new Finding(`a client at ${at} read what a former client of it had left in memory`);
      }
    }
  }
}
