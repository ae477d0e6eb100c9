import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { step } from "/linkfence/guest/report.mjs";

/** Addresses of the first two of four GPUs; there are a disk, which the nvme driver has, and two network functions besides. */
export const [A, B] = JSON.parse(process.env.GPUS);
export const DISK = PciFunction.find(0x1b36, 0x0010);

const NVLINK = "/tmp/nvlink.txt";
writeFileSync(NVLINK, JSON.parse(process.env.NVLINK));
export const SOURCE = ["--nvlink", NVLINK, "--yes"];
export const STATE = "/tmp/state";
/** How long a client waits. */
export const PATIENCE = { timeout: 100_000 };

/** Who has the GPUs and the disk. */
export const drivers = () => [A, B, DISK.address].map((address) => new PciFunction(address).driver);

/** What the hardware has seen. */
export const look = () => JSON.parse(step("look"));

/** A command that was refused, with one line that says so. */
export function refused({ status, errors }, pattern) {
  assert.equal(status, 2, errors);
  assert.match(errors, pattern);
  assert.equal(errors.split("\n").length, 1, errors);
}

/** Waits until it holds, which is looked at every so many milliseconds; a server that ends before is at fault. */
export async function until(server, holds, interval = 2) {
  for (const end = performance.now() + 120_000; !holds(); ) {
    if (server.isOver || performance.now() > end) throw new Error(`not so: ${holds}; ${server.errors}`);
    await sleep(interval);
  }
}
