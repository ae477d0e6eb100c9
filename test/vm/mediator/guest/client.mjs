// A client of served GPUs on the host that serves them: again and again looks through every link of every GPU, and starts
// the link units that a reset has stopped. Errors are expected while a GPU is being reset. Ends by SIGTERM, and then says
// what it has done.
// Usage: node client.mjs SOCKET...
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { PMC_ENABLE, PRI_DECODE_CONFIG, PRI_RING_COMMAND } from "/linkfence/guest/v100/v100.mjs";

const PEER_LINK = 0xff0000;
const PEER_STATUS = 0xff0008;
const PEER_WINDOW = 0xfe0000;
const BAR0 = 0;
const CONFIG = 7;
const LINKS = 6;
const PATIENCE = 60_000;
/** Milliseconds between two resets of all GPUs, for a client that resets. */
const RESET_INTERVAL = 1000;

const word = (value) => Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);

class Gpu {
  constructor(socket) {
    this.socket = socket;
    this.connect();
  }

  connect() {
    this.client?.close();
    this.client = new VfioUserClient(this.socket, { timeout: PATIENCE });
    this.switchOn();
  }

  /** What firmware and driver of a guest do first. */
  switchOn() {
    this.client.write(CONFIG, 0x10, word(0x5a000000));
    this.client.write(CONFIG, 0x04, Uint8Array.of(0x06, 0));
  }

  set(offset, value) {
    this.client.write(BAR0, offset, word(value));
  }

  get(offset) {
    return new DataView(this.client.read(BAR0, offset, 4).buffer).getUint32(0, true);
  }

  /** @returns how many links say that they are up */
  look() {
    this.set(PRI_RING_COMMAND, 4);
    this.set(PRI_DECODE_CONFIG, 2);
    this.set(PMC_ENABLE, this.get(PMC_ENABLE) | (1 << 25));
    let up = 0;
    for (let link = 0; link < LINKS; link++) {
      this.set(PEER_LINK, link);
      this.get(PEER_WINDOW);
      if (this.get(PEER_STATUS) === 1) up++;
    }
    return up;
  }
}

const counts = { rounds: 0, errors: 0, resets: 0, reconnects: 0, up: 0 };
let nextReset = performance.now();
let over = false;
process.on("SIGTERM", () => {
  over = true;
});
const gpus = process.argv.slice(2).map((socket) => new Gpu(socket));
console.log("ready");
while (!over) {
  for (const gpu of gpus) {
    try {
      counts.up = Math.max(counts.up, gpu.look());
      counts.rounds++;
    } catch {
      counts.errors++;
      // A GPU that somebody else has reset answers nothing before a reset of its client's.
      try {
        gpu.client.reset();
        gpu.switchOn();
        counts.resets++;
      } catch {
        try {
          gpu.connect();
          counts.reconnects++;
        } catch {
          // Served again later, or never.
        }
      }
    }
  }
  if (process.env.RESETS === "1" && performance.now() > nextReset) {
    nextReset = performance.now() + RESET_INTERVAL;
    for (const gpu of gpus) {
      try {
        gpu.client.reset();
        gpu.switchOn();
        counts.resets++;
      } catch {
        counts.errors++;
      }
    }
  }
  await new Promise((resolve) => setImmediate(resolve));
}
for (const gpu of gpus) gpu.client.close();
console.log(JSON.stringify(counts));
