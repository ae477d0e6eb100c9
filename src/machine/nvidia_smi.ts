import type { PciAddress } from "../pci/address.js";
import type { Disagreement, FarEnd, Gpu, Link, Machine, Unknown } from "./machine.js";
import { betweenEnds, sameFarEnd, withMatrix } from "./nvidia_smi/disagreements.js";
import { numberGpus } from "./nvidia_smi/gpus.js";
import { type NvlinkGpu, type NvlinkLine, parseNvlink } from "./nvidia_smi/nvlink.js";
import { NvidiaSmiError } from "./nvidia_smi/text.js";
import { parseTopoMatrix, type TopoMatrix } from "./nvidia_smi/topo.js";
import { partFacts } from "./part.js";

/** Output of `nvidia-smi`. Each text may hold both kinds, one after the other. */
export interface NvidiaSmiTexts {
  /** Of `nvidia-smi nvlink -p`, `-R` or `-s`, one or several. */
  nvlink?: string;
  /** Of `nvidia-smi topo -m`. */
  topo?: string;
}

/**
 * The machine with the far ends, numbers and states of NVLinks as `nvidia-smi` gives them; the machine passed in stays
 * as it is. Links that it calls inactive are `down`, never `cut`: that takes evidence. Far link numbers come from `-R`;
 * without it the links of a pair are matched in ascending order and marked assumed. Far ends known from elsewhere stand,
 * and contradictions, also with the matrix of `topo -m`, go to `disagreements`. Which GPU is which follows from the
 * order of addresses; where that is not certain nothing is taken over and `unknown` says so.
 * @throws NvidiaSmiError when a text has nothing of the kind, or contradicts itself
 */
export function applyNvlink(machine: Machine, texts: NvidiaSmiTexts): Machine {
  const { nvlink, matrix } = readTexts(texts);
  if (nvlink.length === 0 && matrix === undefined) return machine;
  const numbering = numberGpus(machine, nvlink, matrix?.gpus ?? []);
  if ("problem" in numbering) {
    const { problem, functions } = numbering;
    const action = "give nvidia-smi nvlink -R output of all GPUs, taken while the same GPUs are bound to its driver";
    return { ...machine, unknown: [...machine.unknown, { what: problem, functions, action }] };
  }
  const indices = new Map([...numbering.addresses].map(([index, address]) => [address, index]));
  const reports = new Map(nvlink.flatMap((gpu) => numbered(gpu, numbering.addresses.get(gpu.index))));
  const farEnds = new FarEnds(machine);
  const unnamed = machine.gpus.every(({ name, address }) => name === address);
  const disagreements: Disagreement[] = [];
  const read = machine.gpus.map((gpu) => {
    const index = indices.get(gpu.address);
    const named = unnamed && index !== undefined ? { ...gpu, name: `GPU${index}` } : gpu;
    return withReport(named, reports.get(gpu.address), farEnds, disagreements);
  });
  const gpus = meetFarLinks(read);
  const check = matrix === undefined ? undefined : withMatrix(gpus, matrix, numbering.addresses);
  disagreements.push(...betweenEnds(gpus, new Set(reports.keys())), ...(check?.disagreements ?? []));
  return {
    ...machine,
    gpus,
    unknown: [...stillUnknown(machine, gpus), ...farEnds.unknown(gpus), ...(check?.unknown ?? [])],
    ...(disagreements.length > 0 ? { disagreements: [...(machine.disagreements ?? []), ...disagreements] } : {}),
  };
}

/** What an earlier source left open, without the far ends that are now known. */
function stillUnknown(machine: Machine, gpus: readonly Gpu[]): Unknown[] {
  const answered = new Set(
    gpus
      .filter(({ links }) => links.length > 0 && links.every(({ far }) => far.kind !== "unknown"))
      .map(({ address }) => address),
  );
  return machine.unknown.filter(
    ({ about, functions }) => about !== "far-ends" || !functions.every((address) => answered.has(address)),
  );
}

function readTexts({ nvlink, topo }: NvidiaSmiTexts): { nvlink: NvlinkGpu[]; matrix: TopoMatrix | undefined } {
  const read = [...new Set([nvlink, topo])].flatMap((text) => (text === undefined ? [] : readText(text)));
  return {
    nvlink: read.find(({ gpus }) => gpus.length > 0)?.gpus ?? [],
    matrix: read.findLast(({ matrix }) => matrix !== undefined)?.matrix,
  };
}

function readText(text: string): { gpus: NvlinkGpu[]; matrix: TopoMatrix | undefined }[] {
  const gpus = parseNvlink(text);
  const matrix = parseTopoMatrix(text);
  if (gpus.length > 0 || matrix !== undefined) return [{ gpus, matrix }];
  throw new NvidiaSmiError(
    "no output of nvidia-smi nvlink -p, -R or -s (GPU 0: ...), nor a matrix of nvidia-smi topo -m",
  );
}

function numbered(gpu: NvlinkGpu, address: PciAddress | undefined): [PciAddress, NvlinkGpu][] {
  return address === undefined ? [] : [[address, gpu]];
}

/** The GPU with what is said of its links; links that are not mentioned stay, and those of a known part are added. */
function withReport(gpu: Gpu, report: NvlinkGpu | undefined, farEnds: FarEnds, disagreements: Disagreement[]): Gpu {
  if (report === undefined || (report.links.length === 0 && !report.allInactive)) return gpu;
  const known = new Map(gpu.links.map((link) => [link.number, link]));
  const said = new Map(report.links.map((line) => [line.number, line]));
  const numbers = new Set([...known.keys(), ...said.keys(), ...Array(partFacts(gpu.part)?.links ?? 0).keys()]);
  const links = [...numbers]
    .sort((a, b) => a - b)
    .map((number) => {
      const line = said.get(number) ?? { number, ...(report.allInactive ? { status: "down" as const } : {}) };
      return readLink(gpu, known.get(number), line, farEnds, disagreements);
    });
  return { ...gpu, nvlink: report.links.length > 0 ? "present" : gpu.nvlink, links };
}

function readLink(
  gpu: Gpu,
  known: Link | undefined,
  line: NvlinkLine,
  farEnds: FarEnds,
  disagreements: Disagreement[],
): Link {
  const state = known?.evidence === undefined ? stateOf(line, known) : known.state;
  const evidence = known?.evidence === undefined ? {} : { evidence: known.evidence };
  if (line.remote === undefined) {
    const far = known?.far ?? { kind: "unknown" };
    return { ...known, number: line.number, far, state, origin: known?.origin ?? "nvidia-smi" };
  }
  const far = farEnds.at(gpu.address, line.remote, line.remoteLink);
  const stands = known !== undefined && known.far.kind !== "unknown" && known.assumed !== true;
  if (stands && !sameFarEnd(known.far, far)) {
    const reason = `${gpu.name} link ${line.number}: ${known.origin} says ${inWords(known.far)}, nvidia-smi ${line.remote}`;
    disagreements.push({ gpus: [gpu.address, farGpu(far) ?? farGpu(known.far) ?? gpu.address], reason });
  }
  if (stands && (known.far.kind !== "gpu" || known.far.link !== undefined || !sameFarEnd(known.far, far))) {
    return { ...known, state };
  }
  return { number: line.number, far, state, ...evidence, origin: "nvidia-smi" };
}

function stateOf(line: NvlinkLine, known: Link | undefined): Link["state"] {
  return line.status ?? (line.remote === undefined ? (known?.state ?? "unknown") : "up");
}

function farGpu(far: FarEnd): PciAddress | undefined {
  return far.kind === "gpu" ? far.gpu : undefined;
}

function inWords(far: FarEnd): string {
  if (far.kind === "gpu") return far.link === undefined ? far.gpu : `${far.gpu} link ${far.link}`;
  if (far.kind === "bridge") return far.bridge;
  return far.kind === "switch" ? far.switch : far.kind === "none" ? "nothing" : "unknown";
}

/** Tells what stands at a far end's address, and keeps account of those that nobody knows. */
class FarEnds {
  readonly #kinds = new Map<PciAddress, "gpu" | "bridge" | "switch">();
  readonly #strangers = new Map<PciAddress, Set<PciAddress>>();

  constructor(machine: Machine) {
    for (const { address, vendorId, classCode } of machine.functions) {
      // NVSwitches have the class "other bridge", and no other function of NVIDIA's has a link to a GPU.
      if (vendorId === 0x10de && classCode !== undefined && classCode >>> 8 === 0x0680)
        this.#kinds.set(address, "switch");
    }
    for (const { address } of machine.bridges) this.#kinds.set(address, "bridge");
    for (const { address } of machine.gpus) this.#kinds.set(address, "gpu");
  }

  at(gpu: PciAddress, remote: PciAddress, link: number | undefined): FarEnd {
    switch (this.#kinds.get(remote)) {
      case "gpu":
        return { kind: "gpu", gpu: remote, ...(link === undefined ? {} : { link }) };
      case "bridge":
        return { kind: "bridge", bridge: remote };
      case "switch":
        return { kind: "switch", switch: remote };
      case undefined:
        this.#strangers.set(remote, (this.#strangers.get(remote) ?? new Set()).add(gpu));
        return { kind: "unknown" };
    }
  }

  unknown(gpus: readonly Gpu[]): Unknown[] {
    return [...this.#strangers].map(([remote, from]) => {
      const names = gpus.flatMap(({ address, name }) => (from.has(address) ? [name] : []));
      return {
        what: `what is at ${remote}, where NVLinks of ${names.join(", ")} lead: no GPU, bridge or NVSwitch of this machine`,
        functions: [...from],
        action: "read all PCI functions of the machine: --live or --sysfs",
      };
    });
  }
}

/**
 * Far link numbers that `-R` did not give: the number under which the other end names this one, else the links of the
 * pair in ascending order, when both ends have as many.
 */
function meetFarLinks(gpus: readonly Gpu[]): Gpu[] {
  const towards = new Map<string, Link[]>();
  for (const { address, links } of gpus) {
    for (const link of links) {
      if (link.far.kind !== "gpu") continue;
      const key = `${address} ${link.far.gpu}`;
      const pair = towards.get(key);
      if (pair === undefined) towards.set(key, [link]);
      else pair.push(link);
    }
  }
  return gpus.map((gpu) => ({ ...gpu, links: gpu.links.map((link) => meetFarLink(gpu.address, link, towards)) }));
}

function meetFarLink(from: PciAddress, link: Link, towards: ReadonlyMap<string, Link[]>): Link {
  if (link.far.kind !== "gpu" || link.far.link !== undefined || link.origin !== "nvidia-smi") return link;
  const here = towards.get(`${from} ${link.far.gpu}`) ?? [];
  const there = towards.get(`${link.far.gpu} ${from}`) ?? [];
  const naming = there.filter(({ far }) => far.kind === "gpu" && far.link === link.number);
  if (naming.length === 1 && naming[0] !== undefined) return { ...link, far: { ...link.far, link: naming[0].number } };
  const unread = there.every(({ far }) => far.kind === "gpu" && far.link === undefined);
  const nth = there[here.indexOf(link)];
  if (!unread || here.length !== there.length || nth === undefined) return link;
  return { ...link, far: { ...link.far, link: nth.number }, assumed: true };
}
