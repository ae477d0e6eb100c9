import assert from "node:assert/strict";

export const EDU_IDS = [0x1234, 0x11e8];
/** Registers of QEMU's edu device (docs/specs/edu.rst). */
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const SOURCE = 0x80;
const DESTINATION = 0x88;
const COUNT = 0x90;
const COMMAND = 0x98;
const START = 1;
const TO_MEMORY = 2;
const RAISE_AT_END = 4;
/** The source of the interrupt that tells of DMA's end. */
export const DMA_ENDED = 0x100;
/** Its buffer of 4 KiB, as its DMA engine addresses it. */
const BUFFER = 0x40000n;
const PATIENCE = 10_000;

/** Drives an edu device by an access to its BAR0: offset, size, and for a write the value. */
export class Edu {
  constructor(access) {
    this.access = access;
  }

  fromMemory(address, length) {
    this.#run(address, BUFFER, length, START);
  }

  toMemory(address, length) {
    this.#run(BUFFER, address, length, START | TO_MEMORY);
  }

  /** As {@link toMemory}, but does not wait: it begins 100 ms later, and raises an interrupt when it has ended. */
  startToMemory(address, length) {
    this.#start(BUFFER, address, length, START | TO_MEMORY | RAISE_AT_END);
  }

  raise(bits) {
    this.access(RAISE, 4, bits);
  }

  acknowledge(bits) {
    this.access(ACKNOWLEDGE, 4, bits);
  }

  #start(source, destination, length, command) {
    this.access(SOURCE, 8, source);
    this.access(DESTINATION, 8, destination);
    this.access(COUNT, 8, length);
    this.access(COMMAND, 8, command);
  }

  #run(source, destination, length, command) {
    this.#start(source, destination, length, command);
    for (const end = Date.now() + PATIENCE; (this.access(COMMAND, 8) & START) !== 0; ) {
      assert.ok(Date.now() < end, "edu's DMA does not end");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
