import { LinkGraph } from "../isolation/links.js";
import type { Bridge, Gpu, Link, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";
import { Hierarchy } from "../pci/hierarchy.js";

/** What leads to a function: one of several, the last one, and beside what is below another. */
const UNICODE_BRANCHES = ["├─ ", "└─ ", "│  "] as const;
const ASCII_BRANCHES = ["|- ", "`- ", "|  "] as const;

/**
 * The PCI tree down to the GPUs and NPU bridges, each GPU with its links and whether they are cut.
 * @param unicode whether whoever reads it has signs beyond ASCII for branches
 */
export function treeLines(machine: Machine, unicode = true): string[] {
  const [branch, lastBranch, beside] = unicode ? UNICODE_BRANCHES : ASCII_BRANCHES;
  const hierarchy = new Hierarchy(machine.functions);
  const graph = new LinkGraph(machine);
  const gpus = new Map(machine.gpus.map((gpu) => [gpu.address, gpu]));
  const bridges = new Map(machine.bridges.map((bridge) => [bridge.address, bridge]));
  const shown = new Set<PciAddress>();
  for (const address of [...gpus.keys(), ...bridges.keys()]) {
    shown.add(address);
    for (let at = hierarchy.parent(address); at && !shown.has(at.address); at = hierarchy.parent(at.address)) {
      shown.add(at.address);
    }
  }
  const lines: string[] = [];
  // A stack of our own: how deep a tree is, its file decides.
  const pending = machine.functions
    .filter((fn) => shown.has(fn.address) && !hierarchy.parent(fn.address))
    .map((fn): Branch => ({ fn, lead: "", below: "" }))
    .reverse();
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { fn, lead, below } = next;
    const gpu = gpus.get(fn.address);
    lines.push(`${lead}${describe(fn, gpu, bridges.get(fn.address))}`);
    for (const link of gpu?.links ?? []) lines.push(`${below}   ${describeLink(graph, gpus, gpu, link)}`);
    const children = hierarchy.children(fn.address).filter((child) => shown.has(child.address));
    for (const [index, child] of [...children.entries()].reverse()) {
      const last = index === children.length - 1;
      pending.push({
        fn: child,
        lead: `${below}${last ? lastBranch : branch}`,
        below: `${below}${last ? "   " : beside}`,
      });
    }
  }
  return lines;
}

/** A function that is to be drawn: what leads its own line, and the lines below it. */
interface Branch {
  fn: PciFunction;
  lead: string;
  below: string;
}

function describe(fn: PciFunction, gpu: Gpu | undefined, bridge: Bridge | undefined): string {
  if (gpu !== undefined) return `${fn.address} ${gpu.name === gpu.address ? "" : `${gpu.name} `}${gpu.part}`;
  if (bridge !== undefined) return `${fn.address} NPU bridge, link ${bridge.linkIndex} of ${bridge.npu}`;
  return `${fn.address} ${fn.express?.type.replaceAll("-", " ") ?? "bridge"}`;
}

function describeLink(graph: LinkGraph, gpus: Map<PciAddress, Gpu>, gpu: Gpu | undefined, link: Link): string {
  const { far } = link;
  const end = {
    gpu: () =>
      far.kind === "gpu"
        ? `${gpus.get(far.gpu)?.name ?? far.gpu}${far.link === undefined ? "" : ` link ${far.link}`}`
        : "",
    bridge: () => (far.kind === "bridge" ? `NPU bridge ${far.bridge}` : ""),
    switch: () => (far.kind === "switch" ? `NVSwitch ${far.switch}` : ""),
    none: () => "nothing",
    unknown: () => "not known",
  }[far.kind]();
  const cut = gpu === undefined ? "none" : graph.cutAt({ gpu, link });
  const state = cut === "both" ? "cut at both ends" : cut === "one" ? "cut at one end" : link.state;
  return `link ${link.number} → ${end}: ${state}${link.assumed === true ? " (far end assumed)" : ""}`;
}
