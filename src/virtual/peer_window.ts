import type { Aperture } from "./memory_window.js";
import { PRI_PEER_LINK_DOWN } from "./pri_error.js";
import type { RegisterUnit } from "./register_unit.js";
import { readThrough, type VideoMemory, writeThrough } from "./video_memory.js";

/** Read and write: the number of the link that the window goes through. */
export const PEER_LINK = 0xff0000;
/** Read and write: where in the far GPU's memory the window looks, in units of 64 KiB. */
export const PEER_BASE = 0xff0004;
/** Read only: 1 while that link is up. */
export const PEER_STATUS = 0xff0008;
/** Where the window lies in BAR0. */
export const PEER_WINDOW_START = 0xfe0000;
export const PEER_WINDOW_SIZE = 0x10000;

const BASE_UNIT = 0x10000;

/** The far ends of a GPU's links. */
export interface Peers {
  linkUp(link: number): boolean;
  /** The memory at the far end while the link is up; undefined when it is down or no memory is there. */
  memory(link: number): VideoMemory | undefined;
}

/**
 * A window onto the memory of the GPU at the other end of a link. This peripheral is linkfence's own; no NVIDIA part
 * has it. Real GPUs reach their peers by page tables and copy engines, which would be much to model for the one question
 * that is asked here: whether bytes cross a link.
 */
export class PeerWindow implements RegisterUnit, Aperture {
  readonly pages = [PEER_LINK >>> 12];
  readonly start = PEER_WINDOW_START;
  readonly end = PEER_WINDOW_START + PEER_WINDOW_SIZE;
  readonly #peers: Peers;
  #link = 0;
  #base = 0;

  constructor(peers: Peers) {
    this.#peers = peers;
  }

  read(offset: number): number | undefined {
    switch (offset) {
      case PEER_LINK:
        return this.#link;
      case PEER_BASE:
        return this.#base;
      case PEER_STATUS:
        return this.#peers.linkUp(this.#link) ? 1 : 0;
      default:
        return undefined;
    }
  }

  write(offset: number, value: number): boolean {
    switch (offset) {
      case PEER_LINK:
        this.#link = value;
        return true;
      case PEER_BASE:
        this.#base = value;
        return true;
      case PEER_STATUS:
        return true;
      default:
        return false;
    }
  }

  reset(): void {
    this.#link = 0;
    this.#base = 0;
  }

  readMemory(offset: number, data: Uint8Array): void {
    readThrough(this.#peers.memory(this.#link), this.#at(offset), data, offset, PRI_PEER_LINK_DOWN);
  }

  writeMemory(offset: number, data: Uint8Array): void {
    writeThrough(this.#peers.memory(this.#link), this.#at(offset), data);
  }

  #at(offset: number): number {
    return this.#base * BASE_UNIT + (offset - PEER_WINDOW_START);
  }
}
