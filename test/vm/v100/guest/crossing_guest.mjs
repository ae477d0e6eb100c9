// Runs in a guest of several: resets its GPUs again and again, while a thread of its own tries all it can to reach others
// through NVLink, and looks for what others have left in its own memory. It judges nothing: the harness does.
// Usage: node crossing_guest.mjs. Environment: GUEST, 1 to 14; SECONDS; GPUS, as JSON: for each GPU its name, its mask,
// the links to the guest's own GPUs and those to GPUs of others.
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { result, step } from "/linkfence/guest/report.mjs";
import {
  answers,
  findGpus,
  LINK_DISABLE,
  PEER_BASE,
  PEER_LINK,
  PEER_STATUS,
  PEER_WINDOW,
} from "/linkfence/guest/v100/v100.mjs";

const GUEST = Number(process.env.GUEST);
const SECONDS = Number(process.env.SECONDS);
const GPUS = JSON.parse(process.env.GPUS);

/** What everybody writes to and looks at: these bytes of every GPU's memory. A window after a reset looks elsewhere, at 0. */
const WATCHED_FROM = 0x10000;
const WATCHED = 0x20000;
const WINDOW_UNIT = 0x10000;
const ALL_LINKS = 8;
const ALL_ONES = 0xffffffff;
/** Rounds between two attempts to open the register. */
const HOSTILE_EVERY = 8;

/** Shared with the thread: what it counts. */
const COUNTS = [
  "stop",
  "rounds",
  "accesses",
  "crossed",
  "maskOpen",
  "linkUp",
  "readThrough",
  "foundInside",
  "readForeign",
];
const AT = Object.fromEntries(COUNTS.map((name, index) => [name, index]));

/** A word that says whose it is; nobody's words are all ones or errors of the chip (0xbad.....). */
const signed = (index) => ((GUEST << 28) | (index & 0xfffffff)) >>> 0;
const signer = (word) => word >>> 28;
/** Another guest's own words: guests are 1 and 2. */
const isForeign = (word) => signer(word) !== GUEST && (signer(word) === 1 || signer(word) === 2);

class Attacker {
  #counts;
  #gpus = findGpus().map((gpu, index) => {
    const memory = new Uint32Array(gpu.pci.mapBar(1, WATCHED, WATCHED_FROM).bytes.buffer);
    return { ...GPUS[index], gpu, memory };
  });
  #own = Uint32Array.from({ length: WATCHED / 4 }, (_, index) => signed(index));
  #seen = new Uint32Array(WATCHED / 4);

  constructor(counts) {
    this.#counts = counts;
  }

  /** Everything in the watched memory becomes the guest's own. */
  sign() {
    for (const { memory } of this.#gpus) memory.set(this.#own);
  }

  round(number) {
    for (const each of this.#gpus) {
      this.#checkMask(each);
      if (number % HOSTILE_EVERY === 0) {
        each.gpu.set(LINK_DISABLE, 0);
        each.gpu.startLinks();
        this.#checkMask(each);
      }
      for (let link = 0; link < ALL_LINKS; link++) this.#try(each, link, number);
      this.#watch(each);
    }
    this.#count("rounds");
  }

  #count(name, by = 1) {
    Atomics.add(this.#counts, AT[name], by);
  }

  #checkMask({ gpu, mask }) {
    const value = gpu.disabled();
    this.#count("accesses");
    if (value !== undefined && (value & mask) >>> 0 !== mask) this.#count("maskOpen");
  }

  /** Reads and writes through a link. A reset may fall in between, after which the window looks elsewhere. */
  #try({ gpu, own, foreign }, link, number) {
    const base = (WATCHED_FROM + ((number * WINDOW_UNIT) % WATCHED)) / WINDOW_UNIT;
    const at = PEER_WINDOW + ((number * 68) % WINDOW_UNIT);
    gpu.set(PEER_LINK, link);
    gpu.set(PEER_BASE, base);
    const status = gpu.get(PEER_STATUS);
    const word = gpu.get(at);
    gpu.set(at, signed(number));
    const unmoved = gpu.get(PEER_LINK) === link && gpu.get(PEER_BASE) === base;
    this.#count("accesses", 7);
    if (isForeign(word)) this.#count("readForeign");
    if (!unmoved) return;
    if (own.includes(link) && signer(word) === GUEST) this.#count("crossed");
    if (!foreign.includes(link)) return;
    if (status === 1) this.#count("linkUp");
    if (answers(word)) this.#count("readThrough");
  }

  /** Whether anything in the guest's own memory is not its own. While nobody answers it reads as 0 or all ones. */
  #watch({ memory }) {
    this.#seen.set(memory);
    if (Buffer.compare(new Uint8Array(this.#seen.buffer), new Uint8Array(this.#own.buffer)) === 0) return;
    const wrong = this.#seen.findIndex((word) => signer(word) !== GUEST && word !== 0 && word !== ALL_ONES);
    // A load that was under way when the BAR went away may be torn; what somebody has written is there again.
    if (wrong < 0 || memory[wrong] !== this.#seen[wrong]) return;
    this.#count("foundInside");
    memory.set(this.#own);
  }
}

function attack(counts) {
  const attacker = new Attacker(counts);
  attacker.sign();
  for (let number = 0; Atomics.load(counts, AT.stop) === 0; number++) attacker.round(number);
}

function pause(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

async function main() {
  const counts = new Int32Array(new SharedArrayBuffer(4 * COUNTS.length));
  const gpus = findGpus();
  const worker = new Worker(new URL(import.meta.url), { workerData: { counts } });
  while (Atomics.load(counts, AT.rounds) < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  step("begin");
  let resets = 0;
  for (const end = Date.now() + SECONDS * 1000; Date.now() < end; resets++) {
    const { pci } = gpus[resets % gpus.length];
    if (resets % 5 === 4) pci.port.write("reset_subordinate", "1");
    else pci.write("reset", "1");
    pause(30);
  }
  Atomics.store(counts, AT.stop, 1);
  await new Promise((resolve) => worker.once("exit", resolve));
  const found = Object.fromEntries(COUNTS.slice(1).map((name) => [name, counts[AT[name]]]));
  result("found", JSON.stringify({ resets, ...found }));
  step("end");
}

if (isMainThread) await main();
else attack(workerData.counts);
