// Reads a GPU's disable register without a pause, in a thread of its own, and counts what it reads.
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { V100Gpu } from "/linkfence/guest/v100/v100.mjs";

const STOP = 0;
const READS = 1;
const ANSWERED = 2;
const OPEN = 3;
const LAST_OPEN = 4;
const WORDS = 5;

/** Watches from `begin` until `end`, which tells what was read; `open` counts answers that lack bits of the mask. */
export class DisableWatch {
  #words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
  #worker;

  static async begin(address, mask) {
    const watch = new DisableWatch();
    watch.#worker = new Worker(new URL(import.meta.url), { workerData: { address, mask, words: watch.#words } });
    while (Atomics.load(watch.#words, READS) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    return watch;
  }

  async end() {
    Atomics.store(this.#words, STOP, 1);
    await new Promise((resolve) => this.#worker.once("exit", resolve));
    const [, reads, answered, open, lastOpen] = new Uint32Array(this.#words.buffer);
    return { reads, answered, open, lastOpen };
  }
}

function watch({ address, mask, words }) {
  const gpu = new V100Gpu(new PciFunction(address));
  while (Atomics.load(words, STOP) === 0) {
    const value = gpu.disabled();
    if (value !== undefined) {
      words[ANSWERED]++;
      if ((value & mask) >>> 0 !== mask) {
        words[OPEN]++;
        words[LAST_OPEN] = value;
      }
    }
    Atomics.add(words, READS, 1);
  }
}

if (!isMainThread && workerData?.words !== undefined) watch(workerData);
