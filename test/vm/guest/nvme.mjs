import assert from "node:assert/strict";

export const NVME_IDS = [0x1b36, 0x0010];
/** Registers and commands of the NVM Express Base Specification. */
const CC = 0x14;
const CSTS = 0x1c;
const AQA = 0x24;
const ASQ = 0x28;
const ACQ = 0x30;
const ADMIN_TAIL = 0x1000;
const ADMIN_HEAD = 0x1004;
const READY = 1;
const ENTRIES = 16;
const IDENTIFY = 6;
const IDENTIFY_CONTROLLER = 1;
const COMMAND_ID = 0x4c46;
const PAGE = 4096;
const PATIENCE = 10_000;

/**
 * Switches a controller on and has it identify itself.
 * @param access to its BAR0: offset, size, and for a write the value
 * @param memory three pages that it reaches at `address`: commands, completions, data
 * @param completion waits for the interrupt
 */
export function identify(access, memory, address, completion) {
  access(CC, 4, 0);
  awaitReady(access, 0);
  access(AQA, 4, ((ENTRIES - 1) << 16) | (ENTRIES - 1));
  access(ASQ, 8, address);
  access(ACQ, 8, address + BigInt(PAGE));
  // 64-byte commands, 16-byte completions, pages of 4 KiB, on.
  access(CC, 4, (4 << 20) | (6 << 16) | 1);
  awaitReady(access, READY);
  const view = new DataView(memory.buffer, memory.byteOffset, memory.length);
  view.setUint32(0, IDENTIFY | (COMMAND_ID << 16), true);
  view.setBigUint64(24, address + BigInt(2 * PAGE), true);
  view.setUint32(40, IDENTIFY_CONTROLLER, true);
  access(ADMIN_TAIL, 4, 1);
  completion();
  const last = view.getUint32(PAGE + 12, true);
  assert.equal(last & 0xffff, COMMAND_ID, "the completion is another command's");
  assert.equal(last >>> 16, 1, "the command failed");
  access(ADMIN_HEAD, 4, 1);
  const text = (from, to) =>
    Buffer.from(memory.subarray(2 * PAGE + from, 2 * PAGE + to))
      .toString("latin1")
      .trim();
  return { serial: text(4, 24), model: text(24, 64) };
}

function awaitReady(access, value) {
  for (const end = Date.now() + PATIENCE; (access(CSTS, 4) & READY) !== value; ) {
    assert.ok(Date.now() < end, "the controller does not get ready");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }
}
