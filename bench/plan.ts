import { makePlan } from "../src/isolation/plan.js";
import type { FarEnd, Gpu, Machine } from "../src/machine/machine.js";
import type { PciFunction } from "../src/pci/function.js";

const SIZES = [8, 64, 512, 4096, 16384];

/** Plan and isolation, time per link from 8 GPUs to 16,384: constant means nothing in it is quadratic. */
export async function run(): Promise<void> {
  console.log("plan and isolation, time per link");
  const perLink = SIZES.map((size) => {
    const machine = boards(size);
    const assignments = Array.from({ length: size / 2 }, (_, i) => ({
      name: `vm${i}`,
      members: machine.gpus.slice(2 * i, 2 * i + 2).map((gpu) => gpu.address),
    }));
    const links = machine.gpus.reduce((sum, gpu) => sum + gpu.links.length, 0);
    const runs = Math.max(3, Math.ceil(4096 / size));
    const times = Array.from({ length: runs }, () => {
      const start = process.hrtime.bigint();
      // A plan works out isolation on its way.
      makePlan(machine, assignments);
      return Number(process.hrtime.bigint() - start) / links;
    });
    times.sort((a, b) => a - b);
    const median = times[times.length >> 1] ?? 0;
    console.log(
      `  ${String(size).padStart(6)} GPUs  ${String(links).padStart(6)} links  ${median.toFixed(0).padStart(6)} ns/link`,
    );
    return median;
  });
  const [first = 1] = perLink;
  const last = perLink.at(-1) ?? 0;
  console.log(`  growth from ${SIZES[0]} to ${SIZES.at(-1)} GPUs: ${(last / first).toFixed(2)} times per link`);
}

/** Four-GPU carriers with a full mesh of two links per pair, as many as make up the size; each GPU below its own port. */
function boards(size: number): Machine {
  const address = (i: number) => `${(i >> 6).toString(16).padStart(4, "0")}:${((i & 63) + 0x40).toString(16)}:00.0`;
  const gpus = Array.from({ length: size }, (_, i): Gpu => {
    const board = i & ~3;
    const peers = [0, 1, 2, 3].filter((place) => place !== (i & 3));
    const links = peers.flatMap((place) => {
      const back = [0, 1, 2, 3].filter((other) => other !== place).indexOf(i & 3);
      return [0, 1].map((n): FarEnd => ({ kind: "gpu", gpu: address(board + place), link: 2 * back + n }));
    });
    return {
      address: address(i),
      name: `GPU${i}`,
      part: "GV100",
      nvlink: "present",
      links: links.map((far, number) => ({ number, far, state: "up", origin: "wiring" })),
      bridges: [],
      origin: "wiring",
    };
  });
  const functions = gpus.flatMap((gpu, i): PciFunction[] => {
    const port = `${(i >> 6).toString(16).padStart(4, "0")}:00:${((i & 63) >> 3).toString(16).padStart(2, "0")}.${i & 7}`;
    const express = { slotImplemented: true, functionLevelReset: false };
    return [
      {
        address: port,
        headerType: 1,
        bars: [],
        capabilities: [],
        parent: null,
        express: { ...express, type: "root-port" },
        acs: { supported: 0x1d, enabled: 0x1d },
      },
      {
        address: gpu.address,
        bars: [
          {
            index: 0,
            kind: "memory",
            address: BigInt(i) << 24n,
            size: 1n << 24n,
            width: 32,
            prefetchable: false,
            disabled: false,
          },
        ],
        capabilities: [],
        parent: port,
        express: { ...express, type: "endpoint" },
      },
    ];
  });
  return {
    name: "made-up",
    virtual: true,
    platform: "pc",
    source: "bench",
    functions,
    gpus,
    bridges: [],
    memory: [],
    unknown: [],
  };
}
