import { parseAddress } from "../../pci/address.js";
import { atsdAddress, POWER9_MAP } from "../firmware/power9_map.js";
import {
  gpuRamBase,
  WITHERSPOON_BRIDGE_FUNCTIONS,
  WITHERSPOON_GPU_ADDRESSES,
  WITHERSPOON_LABELS,
  WITHERSPOON_NPU_DOMAINS,
  WITHERSPOON_WIRING,
  type WitherspoonBoard,
} from "../witherspoon.js";
import type { BridgePlan, PortPlan, SocketPlan, WiringPlan } from "./wiring_plan.js";

const CHIPS = [0, 8] as const;

/** The host bridge of each socket that its PEX 8725, and with that its GPUs, sit under. */
const GPU_PHB = [4, 5] as const;

/** The switch of each socket; GPUs of slot 0, 1 and 2 below its last three ports, in this order. */
const SWITCHES: readonly (readonly PortPlan[])[] = [
  [
    { at: "0004:00:00.0", model: "phb4-root", buses: [0x01, 0x06] },
    { at: "0004:01:00.0", model: "pex8725-up", buses: [0x02, 0x06] },
    { at: "0004:02:0a.0", model: "pex8725-down", buses: [0x04, 0x04] },
    { at: "0004:02:0b.0", model: "pex8725-down", buses: [0x05, 0x05] },
    { at: "0004:02:0c.0", model: "pex8725-down", buses: [0x06, 0x06] },
  ],
  [
    { at: "0035:00:00.0", model: "phb4-root", buses: [0x01, 0x05] },
    { at: "0035:01:00.0", model: "pex8725-up", buses: [0x02, 0x05] },
    { at: "0035:02:04.0", model: "pex8725-down", buses: [0x03, 0x03] },
    { at: "0035:02:05.0", model: "pex8725-down", buses: [0x04, 0x04] },
    { at: "0035:02:0d.0", model: "pex8725-down", buses: [0x05, 0x05] },
  ],
];

/** Brick ids of a Redbud's six links, as its firmware's device tree has them; a Sequoia's are not known. */
const REDBUD_BRICKS = [0x0, 0x1, 0x2, 0x9, 0xa, 0xb] as const;

/** 25.78125 Gb/s per lane, which is what the firmware's device tree says of the V100s on these boards. */
const SPEED_25_78 = 8;

/** Both AC922 boards: 4 GPUs (Redbud) or 6 (Sequoia). */
export function ac922(board: WitherspoonBoard): WiringPlan {
  const sockets = CHIPS.map((chip, socket) => socketPlan(board, chip, socket));
  const [first] = sockets;
  const count = sockets.length * (first?.gpus.length ?? 0);
  return {
    name: board,
    description: `IBM AC922 (${board === "redbud" ? "Redbud" : "Sequoia"}): ${count} V100, NVLink2 to the CPU`,
    platform: "powernv",
    part: "GV100",
    sockets,
    links: Object.assign({}, ...sockets.map((plan, socket) => linkRows(board, plan, socket))),
    assumedLinks: "pairing",
    assumed: "which of several links between two GPUs meet, BAR addresses",
  };
}

function socketPlan(board: WitherspoonBoard, chip: number, socket: number): SocketPlan {
  const phb = GPU_PHB[socket] ?? 0;
  const labels = WITHERSPOON_LABELS[board][socket] ?? [];
  return {
    numaNode: chip,
    ports: SWITCHES[socket] ?? [],
    gpus: labels.map((name, slot) => ({
      name,
      at: WITHERSPOON_GPU_ADDRESSES[socket]?.[slot] ?? "",
      bar0: POWER9_MAP.phbWindow32(chip, phb).base + BigInt(slot) * 0x1000000n,
      bar1: POWER9_MAP.phbWindow64(chip, phb).base + BigInt(slot) * 0x800000000n,
    })),
    npu: {
      name: `npu${socket}`,
      revision: 1,
      speed: SPEED_25_78,
      bridges: WITHERSPOON_BRIDGE_FUNCTIONS[board].map((fn, index) => bridgePlan(board, chip, socket, fn, index)),
    },
    windows: labels.map((gpu, slot) => ({ gpu, base: gpuRamBase(chip, slot) })),
  };
}

/** NTL registers per link; GENID registers per pair of links, half for each (skiboot hw/npu2.c). */
function bridgePlan(board: WitherspoonBoard, chip: number, socket: number, fn: string, index: number): BridgePlan {
  const groupId = Number.parseInt(fn, 16);
  const ntl = POWER9_MAP.npuWindow(chip).base;
  const brickId = board === "redbud" ? REDBUD_BRICKS[index] : undefined;
  return {
    at: parseAddress(`${WITHERSPOON_NPU_DOMAINS[socket] ?? ""}:00:${fn}`),
    gpu: WITHERSPOON_LABELS[board][socket]?.[groupId] ?? "",
    linkIndex: index,
    groupId,
    ...(brickId === undefined ? {} : { brickId }),
    bars: [
      { index: 0, address: ntl + BigInt(index) * 0x20000n, size: 0x20000n },
      { index: 2, address: ntl + 0xc0000n + BigInt(index) * 0x10000n, size: 0x10000n },
    ],
    atsd: atsdAddress(chip, index),
  };
}

/** The board's table with the names and addresses of this socket in place of `g1` and `n3`. */
function linkRows(board: WitherspoonBoard, plan: SocketPlan, socket: number): Record<string, string[]> {
  const rows = WITHERSPOON_WIRING[board].map((row, slot) => {
    const far = row.map((end) => {
      const index = Number(end.slice(1));
      const name = end.startsWith("g") ? plan.gpus[index]?.name : plan.npu?.bridges[index]?.at;
      return name ?? `${end} of socket ${socket}`;
    });
    return [plan.gpus[slot]?.name ?? "", far] as const;
  });
  return Object.fromEntries(rows);
}
