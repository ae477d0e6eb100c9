// Runs in a guest that has NPU bridges and no GPU: coherent RAM as a BAR, with the other end of it on the host.
// Usage: node coherent_ram_guest.mjs. Environment: OFFSET and SIZE, the piece of the RAM, in bytes.
import assert from "node:assert/strict";
import { COMMAND_MEMORY } from "/linkfence/guest/pci_function.mjs";
import { check, status, step } from "/linkfence/guest/report.mjs";
import { BLOCK, Pattern } from "/linkfence/guest/v100/pattern.mjs";
import { findBridges, findGpus } from "/linkfence/guest/v100/v100.mjs";

const OFFSET = Number(process.env.OFFSET);
const SIZE = Number(process.env.SIZE);
/** What is mapped at once. */
const WINDOW = 2 ** 30;
const FIRST_SEED = 1;
const SECOND_SEED = 2;

const [bridge] = findBridges();
bridge.command |= COMMAND_MEMORY;
const windows = Array.from({ length: SIZE / WINDOW }, (_, index) => {
  return bridge.mapBar(4, WINDOW, OFFSET + index * WINDOW, "_wc").bytes;
});

/** Goes through all blocks; returns the rate. */
function eachBlock(run) {
  const start = performance.now();
  for (let n = 0; n < SIZE / BLOCK; n++) {
    const at = n * BLOCK;
    run(n, windows[Math.floor(at / WINDOW)].subarray(at % WINDOW, (at % WINDOW) + BLOCK));
  }
  return SIZE / 1e6 / (performance.now() - start);
}

await check("the bridge has the RAM and the guest has no GPU", () => {
  assert.equal(findGpus().length, 0);
  assert.equal(bridge.bar(4).size, 16n << 30n);
});
await check("the guest writes through the BAR without a message for each access", () => {
  const pattern = new Pattern(FIRST_SEED);
  // The first pass has the host find the memory; that is no speed of the mapping's.
  const rates = Array.from({ length: 3 }, () => eachBlock((n, block) => block.set(pattern.block(n))));
  const best = Math.max(...rates);
  // Alone on two processors it is three to four; by messages it would be a hundredth of what is asked for here.
  assert.ok(best >= 0.2, `${best.toFixed(2)} GB/s at best`);
  return `${SIZE / 2 ** 30} GiB from ${OFFSET / 2 ** 30} GiB on, ${rates.map((rate) => rate.toFixed(2)).join(", ")} GB/s`;
});
step("written by the guest");
await check("the guest reads what the host has written through region 9", () => {
  const pattern = new Pattern(SECOND_SEED);
  const rate = eachBlock((n, block) => {
    assert.equal(Buffer.compare(block, pattern.block(n)), 0, `block ${n} is not what the host wrote`);
  });
  return `${SIZE / 2 ** 30} GiB compared, ${rate.toFixed(2)} GB/s`;
});
process.exit(status());
