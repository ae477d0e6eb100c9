import { type PciAddress, splitAddress } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";
import { type LspciFunction, type LspciProblem, parseLspci } from "../pci/lspci.js";
import { type GpuIdentity, identifyGpu, physicalFunction } from "./gpu_part.js";
import type { Gpu, IommuGroup, Link, Machine, Unknown } from "./machine.js";

/** More unreadable lines than this are summed up in one entry. */
const MOST_PROBLEMS = 20;

/**
 * A machine from `lspci` text: its functions and GPUs. A listing does not show where NVLinks go, so every link of a GPU
 * that has any is there with an unknown far end; `unknown` says per GPU what is not known and what would help.
 * @param source what the text is, for a person: `lspci listing host.txt`
 * @throws LspciError when there is no function in the text
 */
export function machineFromLspci(text: string, source: string): Machine {
  const { functions: listed, problems } = parseLspci(text);
  const unknown: Unknown[] = [];
  const functions = mergeListings(listed, unknown);
  const gpus = gpusOf(functions);
  for (const gpu of gpus) unknown.push(...unknownOf(gpu));
  unknown.push(...unknownAbove(gpus, functions));
  const groups = groupsOf(functions);
  if (groups === undefined) unknown.push(unknownGroups(gpus));
  unknown.push(...unreadable(problems));
  return {
    name: "lspci",
    virtual: false,
    platform: "unknown",
    source,
    functions: functions.map(({ text: _, ...fn }) => fn),
    ...(groups !== undefined && { groups }),
    gpus: gpus.map(({ gpu }) => gpu),
    bridges: [],
    memory: [],
    unknown,
  };
}

interface ListedGpu {
  gpu: Gpu;
  fn: LspciFunction;
  identity: GpuIdentity;
}

function gpusOf(functions: readonly LspciFunction[]): ListedGpu[] {
  const candidates = functions.flatMap((fn) => {
    const identity = identifyGpu(fn);
    return identity === undefined ? [] : [{ fn, identity }];
  });
  const byBus = new Map<string, PciFunction[]>();
  for (const { fn } of candidates) {
    const bus = busOf(fn.address);
    byBus.set(bus, [...(byBus.get(bus) ?? []), fn]);
  }
  return candidates
    .filter(({ fn }) => physicalFunction(fn, byBus.get(busOf(fn.address)) ?? []) === undefined)
    .map(({ fn, identity }) => ({ gpu: gpuOf(fn, identity), fn, identity }));
}

function gpuOf({ address }: PciFunction, { part, nvlink, linkCount = 0 }: GpuIdentity): Gpu {
  const links = Array.from(
    { length: nvlink === "present" ? linkCount : 0 },
    (_, number): Link => ({ number, far: { kind: "unknown" }, state: "unknown", origin: "lspci" }),
  );
  return { address, name: address, part, nvlink, links, bridges: [], origin: "lspci" };
}

/**
 * One function per address. Listings of the same device complete each other, the later one counts where both speak;
 * listings of different devices are of different machines, and only the first is kept.
 */
function mergeListings(listed: readonly LspciFunction[], unknown: Unknown[]): LspciFunction[] {
  const merged = new Map<PciAddress, LspciFunction>();
  for (const fn of listed) {
    const earlier = merged.get(fn.address);
    if (earlier === undefined) merged.set(fn.address, fn);
    else if (isSameDevice(earlier, fn)) merged.set(fn.address, complete(earlier, fn));
    else {
      unknown.push({
        what: `${fn.address} is one device on line ${earlier.text.line} and another on line ${fn.text.line}, which was left out`,
        functions: [fn.address],
        action: "give the listing of one machine at a time",
      });
    }
  }
  return [...merged.values()];
}

function isSameDevice(a: PciFunction, b: PciFunction): boolean {
  if (a.deviceId !== undefined && b.deviceId !== undefined)
    return a.vendorId === b.vendorId && a.deviceId === b.deviceId;
  return a.name === undefined || b.name === undefined || a.name === b.name;
}

function complete(earlier: LspciFunction, later: LspciFunction): LspciFunction {
  const known = later.text.capabilitiesKnown || later.capabilities.length > 0;
  return {
    ...earlier,
    ...later,
    bars: later.bars.length > 0 ? later.bars : earlier.bars,
    capabilities: known ? later.capabilities : earlier.capabilities,
    text: {
      ...earlier.text,
      ...later.text,
      capabilitiesKnown: earlier.text.capabilitiesKnown || later.text.capabilitiesKnown,
    },
  };
}

/** What a listing leaves open about one GPU. */
function unknownOf({ gpu, fn, identity }: ListedGpu): Unknown[] {
  const { address, part, nvlink, links } = gpu;
  const label = [address, ...(identity.model === undefined ? [] : [`(${identity.model})`])].join(" ");
  const entries: [what: string, action: string][] = [];
  if (nvlink === "present") {
    const count = links.length > 0 ? `${links.length} NVLinks: far ends` : "NVLinks: number and far ends";
    entries.push([
      `${label} has ${count} not known, nor whether they are up`,
      "add the output of nvidia-smi nvlink -p with --nvlink FILE, give a device tree instead, or run on the host with --live",
    ]);
  }
  if (nvlink === "unknown") {
    entries.push([
      `${label}: not known whether it has NVLinks`,
      "see whether nvidia-smi nvlink -s lists any on the host, or run there with --live",
    ]);
  }
  if (part === "unknown" && nvlink !== "none") {
    entries.push([`${label}: no part that linkfence can fence`, "keep it, and what it is linked to, with one owner"]);
  }
  if (fn.vendorId === undefined || fn.deviceId === undefined) {
    const by = part === "unknown" ? "" : `, its part ${part} is taken from its name`;
    entries.push([`${label}: vendor and device ids are not in the text${by}`, "use lspci -nn"]);
  }
  if (!fn.text.capabilitiesKnown) {
    entries.push([`${label}: capabilities are not in the text`, "use lspci -vv as root"]);
  }
  return entries.map(([what, action]) => ({ what, functions: [address], action }));
}

/** GPUs whose upstream bridge is not listed: nobody can tell from the text what ACS or a bus reset does to them. */
function unknownAbove(gpus: readonly ListedGpu[], functions: readonly LspciFunction[]): Unknown[] {
  const below = new Set(
    functions.flatMap(({ address, buses }) => {
      return buses === undefined ? [] : [`${splitAddress(address).domain}:${buses.secondary}`];
    }),
  );
  const orphans = gpus
    .map(({ gpu }) => gpu.address)
    .filter((address) => {
      const { domain, bus } = splitAddress(address);
      // Bus 0 is a root bus: there is nothing above.
      return bus !== 0 && !below.has(`${domain}:${bus}`);
    });
  if (orphans.length === 0) return [];
  return [
    {
      what: `the bridges above ${orphans.join(", ")} are not in the text: neither ACS nor what a bus reset hits is known`,
      functions: orphans,
      action: "list the whole machine with lspci -Dnnvv as root, not single functions",
    },
  ];
}

/** The kernel's groups, when the text has one for every function: part of them would look like all. */
function groupsOf(functions: readonly LspciFunction[]): IommuGroup[] | undefined {
  const members = new Map<number, PciAddress[]>();
  for (const { address, text } of functions) {
    if (text.iommuGroup === undefined) return undefined;
    const group = members.get(text.iommuGroup);
    if (group === undefined) members.set(text.iommuGroup, [address]);
    else group.push(address);
  }
  return [...members].map(([id, addresses]) => ({ id, members: addresses })).sort((a, b) => a.id - b.id);
}

function unknownGroups(gpus: readonly ListedGpu[]): Unknown {
  return {
    what: "IOMMU groups are not in the text, or not for all of its functions",
    functions: gpus.map(({ gpu }) => gpu.address),
    action: "use lspci -vv of pciutils 3.7 or later on the host, or run there with --live",
  };
}

function unreadable(problems: readonly LspciProblem[]): Unknown[] {
  const entries = problems
    .slice(0, MOST_PROBLEMS)
    .map(({ line, message }): Unknown => ({ what: `line ${line}: ${message}`, functions: [] }));
  const more = problems.length - entries.length;
  return more === 0 ? entries : [...entries, { what: `${more} more lines could not be used`, functions: [] }];
}

function busOf(address: PciAddress): string {
  return address.slice(0, -"00.0".length);
}
