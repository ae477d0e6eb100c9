import type { GpuPlan, LinkPlan, WiringPlan } from "./wiring_plan.js";

const ASSUMED = "link numbers (ascending by peer), PCI bridges, BAR addresses";

/** Four V100 below one PCIe switch, two links between any two. */
export const C4140: WiringPlan = {
  name: "c4140",
  description: "Dell C4140: 4 V100, full mesh of NVLink2 (NV2), no NVLink to the CPU",
  platform: "pc",
  part: "GV100",
  sockets: [
    {
      numaNode: 0,
      ports: [
        { at: "0000:17:00.0", model: "skylake-root", buses: [0x18, 0x1e] },
        { at: "0000:18:00.0", model: "pex9797-up", buses: [0x19, 0x1e] },
        { at: "0000:19:04.0", model: "pex9797-down", buses: [0x1a, 0x1a] },
        { at: "0000:19:0c.0", model: "pex9797-down", buses: [0x1c, 0x1c] },
        { at: "0000:19:10.0", model: "pex9797-down", buses: [0x1d, 0x1d] },
        { at: "0000:19:14.0", model: "pex9797-down", buses: [0x1e, 0x1e] },
      ],
      gpus: gpus(0, 0xa0000000n, 0x38000000000n, ["0000:1a:00.0", "0000:1c:00.0", "0000:1d:00.0", "0000:1e:00.0"]),
    },
  ],
  links: byPeer([
    [0, 2, 2, 2],
    [2, 0, 2, 2],
    [2, 2, 0, 2],
    [2, 2, 2, 0],
  ]),
  assumedLinks: "numbers",
  assumed: ASSUMED,
};

/** Eight V100 on two sockets, two below each of four PCIe switches, joined in a hybrid cube mesh. */
export const DGX1V: WiringPlan = {
  name: "dgx1v",
  description: "NVIDIA DGX-1V: 8 V100, hybrid cube mesh of NVLink2, no NVLink to the CPU",
  platform: "pc",
  part: "GV100",
  sockets: [
    {
      numaNode: 0,
      ports: [
        { at: "0000:00:02.0", model: "broadwell-root", buses: [0x03, 0x07] },
        { at: "0000:03:00.0", model: "pex8764-up", buses: [0x04, 0x07] },
        { at: "0000:04:08.0", model: "pex8764-down", buses: [0x06, 0x06] },
        { at: "0000:04:0c.0", model: "pex8764-down", buses: [0x07, 0x07] },
        { at: "0000:00:03.0", model: "broadwell-root", buses: [0x08, 0x0c] },
        { at: "0000:08:00.0", model: "pex8764-up", buses: [0x09, 0x0c] },
        { at: "0000:09:08.0", model: "pex8764-down", buses: [0x0a, 0x0a] },
        { at: "0000:09:0c.0", model: "pex8764-down", buses: [0x0b, 0x0b] },
      ],
      gpus: gpus(0, 0x90000000n, 0x38000000000n, ["0000:06:00.0", "0000:07:00.0", "0000:0a:00.0", "0000:0b:00.0"]),
    },
    {
      numaNode: 1,
      ports: [
        { at: "0000:80:02.0", model: "broadwell-root", buses: [0x82, 0x86] },
        { at: "0000:82:00.0", model: "pex8764-up", buses: [0x83, 0x86] },
        { at: "0000:83:08.0", model: "pex8764-down", buses: [0x85, 0x85] },
        { at: "0000:83:0c.0", model: "pex8764-down", buses: [0x86, 0x86] },
        { at: "0000:80:03.0", model: "broadwell-root", buses: [0x87, 0x8b] },
        { at: "0000:87:00.0", model: "pex8764-up", buses: [0x88, 0x8b] },
        { at: "0000:88:08.0", model: "pex8764-down", buses: [0x89, 0x89] },
        { at: "0000:88:0c.0", model: "pex8764-down", buses: [0x8a, 0x8a] },
      ],
      gpus: gpus(4, 0xc8000000n, 0x39000000000n, ["0000:85:00.0", "0000:86:00.0", "0000:89:00.0", "0000:8a:00.0"]),
    },
  ],
  links: byPeer([
    [0, 1, 1, 2, 2, 0, 0, 0],
    [1, 0, 2, 1, 0, 2, 0, 0],
    [1, 2, 0, 2, 0, 0, 1, 0],
    [2, 1, 2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 1, 1, 2],
    [0, 2, 0, 0, 1, 0, 2, 1],
    [0, 0, 1, 0, 1, 2, 0, 2],
    [0, 0, 0, 1, 2, 1, 2, 0],
  ]),
  assumedLinks: "numbers",
  assumed: ASSUMED,
};

/** Four A100 on two sockets, each below a root port of its own, four links between any two, no NVSwitch. */
export const HGX_A100_4: WiringPlan = {
  name: "hgx-a100-4",
  description: "HGX A100 4-GPU board: full mesh of NVLink3 (NV4), no NVSwitch, no NVLink to the CPU",
  platform: "pc",
  part: "GA100",
  sockets: [
    {
      numaNode: 0,
      ports: [
        { at: "0000:00:01.1", model: "rome-root", buses: [0x01, 0x01] },
        { at: "0000:40:01.1", model: "rome-root", buses: [0x41, 0x41] },
      ],
      gpus: gpus(0, 0xd0000000n, 0x10000000000n, ["0000:01:00.0", "0000:41:00.0"]),
    },
    {
      numaNode: 1,
      ports: [
        { at: "0000:80:01.1", model: "rome-root", buses: [0x81, 0x81] },
        { at: "0000:c0:01.1", model: "rome-root", buses: [0xc1, 0xc1] },
      ],
      gpus: gpus(2, 0xe0000000n, 0x18000000000n, ["0000:81:00.0", "0000:c1:00.0"]),
    },
  ],
  links: byPeer([
    [0, 4, 4, 4],
    [4, 0, 4, 4],
    [4, 4, 0, 4],
    [4, 4, 4, 0],
  ]),
  assumedLinks: "numbers",
  assumed: `${ASSUMED}, GPU addresses`,
};

/** GPUs from number `first` on, their BARs at equal steps that leave room for an A100's. */
function gpus(first: number, bar0: bigint, bar1: bigint, addresses: readonly string[]): GpuPlan[] {
  return addresses.map((at, index) => ({
    name: `GPU${first + index}`,
    at,
    bar0: bar0 + BigInt(index) * 0x2000000n,
    bar1: bar1 + BigInt(index) * 0x2000000000n,
  }));
}

/** Links numbered in ascending order of the peer, from how many each pair has. */
function byPeer(counts: readonly (readonly number[])[]): LinkPlan {
  const rows = counts.map((row, gpu) => {
    const far = row.flatMap((count, peer) => Array.from({ length: count }, () => `GPU${peer}`));
    return [`GPU${gpu}`, far] as const;
  });
  return Object.fromEntries(rows);
}
