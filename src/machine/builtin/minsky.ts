import type { BridgePlan, SocketPlan, WiringPlan } from "./wiring_plan.js";

/**
 * S822LC "for HPC" (Garrison): every GPU below a host bridge of its own, NPU1 with two links to each GPU (skiboot
 * platforms/astbmc/garrison.c). The NPU's group 0 is the socket's second GPU.
 */
export const MINSKY: WiringPlan = {
  name: "minsky",
  description: "IBM S822LC for HPC (Minsky): 4 P100, NVLink1 to the CPU",
  platform: "powernv",
  part: "GP100",
  sockets: [
    socket(0, "0004", [
      ["GPU1", "0002"],
      ["GPU2", "0003"],
    ]),
    socket(1, "0005", [
      ["GPU3", "000a"],
      ["GPU4", "000b"],
    ]),
  ],
  links: {
    GPU1: ["0004:00:01.0", "0004:00:01.1", "GPU2", "GPU2"],
    GPU2: ["0004:00:00.0", "0004:00:00.1", "GPU1", "GPU1"],
    GPU3: ["0005:00:01.0", "0005:00:01.1", "GPU4", "GPU4"],
    GPU4: ["0005:00:00.0", "0005:00:00.1", "GPU3", "GPU3"],
  },
  assumedLinks: "numbers",
  assumed: "link numbers (0 and 1 to the CPU, 2 and 3 to the peer), BAR addresses",
};

type Slot = readonly [gpu: string, domain: string];

function socket(chip: 0 | 1, npuDomain: string, slots: readonly [Slot, Slot]): SocketPlan {
  const [first, second] = slots;
  return {
    numaNode: chip,
    ports: slots.map(([, domain]) => ({ at: `${domain}:00:00.0`, model: "phb3-root", buses: [1, 1] })),
    gpus: slots.map(([name, domain], index) => ({ name, at: `${domain}:01:00.0`, ...phbWindows(chip, 2 + index) })),
    npu: {
      name: `npu${chip}`,
      revision: 0,
      bridges: [
        bridge(npuDomain, chip, "00.0", second[0], 0, 0),
        bridge(npuDomain, chip, "00.1", second[0], 1, 0),
        bridge(npuDomain, chip, "01.0", first[0], 4, 1),
        bridge(npuDomain, chip, "01.1", first[0], 5, 1),
      ],
    },
  };
}

/** Where a P8 chip's host bridge `phb` has its windows; fits the P100 at 000a:01:00.0 (chip 1, host bridge 2). */
function phbWindows(chip: number, phb: number): { bar0: bigint; bar1: bigint } {
  const index = BigInt(chip * 4 + phb);
  return { bar0: 0x3fe000000000n + index * 0x80000000n, bar1: 0x200000000000n + index * 0x10000000000n };
}

/** One NTL window of 128 KiB per link, from 0x3fff000420000 on for the first NPU (skiboot hw/npu.c). */
function bridge(
  domain: string,
  chip: number,
  fn: string,
  gpu: string,
  linkIndex: 0 | 1 | 4 | 5,
  groupId: 0 | 1,
): BridgePlan {
  const window = linkIndex < 2 ? linkIndex : linkIndex - 2;
  const address = 0x3fff000420000n + BigInt(chip) * 0x400000000n + BigInt(window) * 0x20000n;
  return { at: `${domain}:00:${fn}`, gpu, linkIndex, groupId, bars: [{ index: 0, address, size: 0x20000n }] };
}
