import { compareAddresses, type PciAddress, splitAddress } from "../../pci/address.js";
import type { Bar, PciFunction } from "../../pci/function.js";
import type { Bridge, CoherentMemory, FarEnd, Gpu, Link, Machine } from "../machine.js";
import { compressTgt, GPU_RAM_WINDOW } from "../witherspoon.js";
import { capabilitiesAt } from "./capability_place.js";
import { GPU_BAR0_SIZE, GPU_BAR3_SIZE, GPU_MODELS, NVIDIA } from "./gpu_model.js";
import { ENABLED_ACS, PORT_FACTS } from "./port_model.js";
import type { BridgePlan, GpuPlan, LinkPlan, NpuPlan, PortPlan, SocketPlan, WiringPlan } from "./wiring_plan.js";

/** The last series of long-term kernels that know NPU bridges (5.1 to 5.12). */
const POWERNV_KERNEL = "5.4.0";

/** Builds the machine that a wiring plan describes: no driver bound, nothing assigned, all links up. */
export function assemble(plan: WiringPlan): Machine {
  const functions = plan.sockets.flatMap((socket) => socketFunctions(plan, socket));
  return {
    name: plan.name,
    virtual: true,
    platform: plan.platform,
    source: `built-in wiring plan; assumed: ${plan.assumed}`,
    ...(plan.platform === "powernv" ? { kernel: { release: POWERNV_KERNEL, commandLine: "" } } : {}),
    functions: functions.sort((a, b) => compareAddresses(a.address, b.address)),
    gpus: plan.sockets.flatMap((socket) => socket.gpus.map((gpu) => assembleGpu(plan, socket, gpu))),
    bridges: plan.sockets.flatMap(({ npu, gpus }) => (npu === undefined ? [] : assembleBridges(npu, gpus))),
    memory: plan.sockets.flatMap(assembleMemory),
    unknown: [],
  };
}

function assembleGpu(plan: WiringPlan, socket: SocketPlan, { name, at }: GpuPlan): Gpu {
  const bridges = socket.npu?.bridges.filter((bridge) => bridge.gpu === name).map((bridge) => bridge.at) ?? [];
  const links = assembleLinks(plan, name);
  return { address: at, name, part: plan.part, nvlink: "present", links, bridges, origin: "wiring" };
}

/** Of the links of a pair, the first of one GPU meets the first of the other, and so on. */
function assembleLinks(plan: WiringPlan, gpu: string): Link[] {
  const addresses = new Map(plan.sockets.flatMap((socket) => socket.gpus.map(({ name, at }) => [name, at])));
  const taken = new Map<string, number>();
  return linksOf(plan.links, gpu).map((farName, number) => {
    const peer = addresses.get(farName);
    if (peer === undefined) {
      return link(number, { kind: "bridge", bridge: farName }, plan.assumedLinks === "numbers");
    }
    const back = numbersTo(plan.links, farName, gpu);
    const nth = taken.get(farName) ?? 0;
    taken.set(farName, nth + 1);
    const farLink = back[nth];
    const far: FarEnd = { kind: "gpu", gpu: peer, ...(farLink === undefined ? {} : { link: farLink }) };
    return link(number, far, plan.assumedLinks === "numbers" || back.length > 1);
  });
}

function link(number: number, far: FarEnd, assumed: boolean): Link {
  return { number, far, state: "up", origin: "wiring", ...(assumed ? { assumed } : {}) };
}

function linksOf(links: LinkPlan, gpu: string): readonly string[] {
  return links[gpu] ?? [];
}

function numbersTo(links: LinkPlan, from: string, to: string): number[] {
  return linksOf(links, from).flatMap((far, number) => (far === to ? [number] : []));
}

function assembleBridges(npu: NpuPlan, gpus: readonly GpuPlan[]): Bridge[] {
  return npu.bridges.map((bridge) => {
    const gpu = gpus.find(({ name }) => name === bridge.gpu)?.at;
    return {
      address: bridge.at,
      ...(gpu === undefined ? {} : { gpu }),
      linkIndex: bridge.linkIndex,
      npu: npu.name,
      slotLabel: bridge.gpu,
      groupId: bridge.groupId,
      ...(bridge.brickId === undefined ? {} : { brickId: bridge.brickId }),
      ...(npu.speed === undefined ? {} : { speed: npu.speed }),
      ...(bridge.atsd === undefined ? {} : { atsd: bridge.atsd }),
      origin: "wiring" as const,
    };
  });
}

function assembleMemory({ windows, gpus }: SocketPlan): CoherentMemory[] {
  return (windows ?? []).flatMap(({ gpu, base }) => {
    const slot = gpus.find(({ name }) => name === gpu);
    if (slot === undefined) return [];
    return [{ gpu: slot.at, base, size: GPU_RAM_WINDOW, tgt: compressTgt(base), origin: "wiring" as const }];
  });
}

function socketFunctions(plan: WiringPlan, socket: SocketPlan): PciFunction[] {
  const { npu, numaNode, ports } = socket;
  return [
    ...ports.map((port) => ({ ...portFunction(port), parent: parentOf(port.at, ports), numaNode })),
    ...socket.gpus.map((gpu) => ({ ...gpuFunction(plan, gpu), parent: parentOf(gpu.at, ports), numaNode })),
    ...(npu?.bridges.map((bridge) => ({ ...bridgeFunction(npu, bridge), parent: null, numaNode })) ?? []),
  ];
}

function parentOf(address: PciAddress, ports: readonly PortPlan[]): PciAddress | null {
  const { domain, bus } = splitAddress(address);
  const above = ports.find((port) => port.buses[0] === bus && splitAddress(port.at).domain === domain);
  return above?.at ?? null;
}

function portFunction({ at, model, buses }: PortPlan): PciFunction {
  const facts = PORT_FACTS[model];
  const [secondary, subordinate] = buses;
  return {
    address: at,
    vendorId: facts.vendorId,
    deviceId: facts.deviceId,
    classCode: 0x060400,
    name: facts.name,
    headerType: 1,
    multifunction: facts.multifunction,
    bars: [],
    capabilities: capabilitiesAt(facts.capabilities),
    express: { type: facts.type, slotImplemented: facts.type === "downstream-port", functionLevelReset: false },
    ...(facts.acs === undefined ? {} : { acs: { supported: facts.acs, enabled: ENABLED_ACS } }),
    buses: { primary: splitAddress(at).bus, secondary, subordinate },
  };
}

function gpuFunction(plan: WiringPlan, { at, bar0, bar1 }: GpuPlan): PciFunction {
  const model = GPU_MODELS[plan.part];
  return {
    address: at,
    vendorId: NVIDIA,
    deviceId: model.deviceId,
    subsystemVendorId: NVIDIA,
    subsystemId: model.subsystemId,
    classCode: 0x030200,
    revision: 0xa1,
    name: model.name,
    headerType: 0,
    multifunction: false,
    bars: [
      memoryBar(0, bar0, GPU_BAR0_SIZE, 32, false),
      memoryBar(1, bar1, model.bar1Size, 64, true),
      memoryBar(3, bar1 + model.bar1Size, GPU_BAR3_SIZE, 64, true),
    ],
    capabilities: capabilitiesAt(model.capabilities),
    express: { type: "endpoint", slotImplemented: false, functionLevelReset: model.functionLevelReset },
  };
}

/** Emulated by the firmware; to Linux an endpoint with FLR (skiboot hw/npu.c and hw/npu2.c). */
function bridgeFunction(npu: NpuPlan, { at, bars }: BridgePlan): PciFunction {
  return {
    address: at,
    vendorId: 0x1014,
    deviceId: 0x04ea,
    classCode: 0x068001,
    revision: npu.revision,
    name: "IBM Device 04ea",
    headerType: 0,
    multifunction: true,
    bars: bars.map(({ index, address, size }) => memoryBar(index, address, size, 64, false)),
    capabilities: capabilitiesAt([
      [0x40, 0x10],
      [0x80, 0x09],
    ]),
    express: { type: "endpoint", slotImplemented: false, functionLevelReset: true },
  };
}

function memoryBar(index: 0 | 1 | 2 | 3, address: bigint, size: bigint, width: 32 | 64, prefetchable: boolean): Bar {
  return { index, kind: "memory", address, size, width, prefetchable, disabled: false };
}
