import type { PciAddress } from "../../pci/address.js";
import { linkState } from "../link_state.js";
import type { Disagreement, FarEnd, Gpu, Link, Machine, Unknown } from "../machine.js";
import { matrixNvlinks, type TopoMatrix } from "./topo.js";

/** Whether two statements can be about the same far end; a link number that only one gives contradicts nothing. */
export function sameFarEnd(a: FarEnd, b: FarEnd): boolean {
  if (a.kind === "gpu" && b.kind === "gpu") {
    return a.gpu === b.gpu && (a.link === undefined || b.link === undefined || a.link === b.link);
  }
  if (a.kind === "bridge" && b.kind === "bridge") return a.bridge === b.bridge;
  if (a.kind === "switch" && b.kind === "switch") return a.switch === b.switch;
  return a.kind === b.kind;
}

/** Where the two ends of links contradict each other: another number of links, or links that do not meet. */
export function betweenEnds(gpus: readonly Gpu[], reported: ReadonlySet<PciAddress>): Disagreement[] {
  const byAddress = new Map(gpus.map((gpu) => [gpu.address, gpu]));
  const seen = new Set<string>();
  const disagreements: Disagreement[] = [];
  for (const a of gpus.filter(({ address }) => reported.has(address))) {
    for (const peer of new Set(a.links.flatMap(({ far }) => (far.kind === "gpu" ? far.gpu : [])))) {
      const b = byAddress.get(peer);
      const key = [a.address, peer].sort().join(" ");
      if (b === undefined || !reported.has(peer) || seen.has(key)) continue;
      seen.add(key);
      const reason = contradiction(a, b);
      if (reason !== undefined) disagreements.push({ gpus: [a.address, b.address], reason });
    }
  }
  return disagreements;
}

function contradiction(a: Gpu, b: Gpu): string | undefined {
  const [atA, atB] = [linksTo(a, b.address), linksTo(b, a.address)];
  const numbers = new Map(atB.map((link) => [link.number, link]));
  const meets = ({ number, far }: Link) => {
    if (far.kind !== "gpu" || far.link === undefined) return true;
    const back = numbers.get(far.link)?.far;
    return back?.kind === "gpu" && (back.link === undefined || back.link === number);
  };
  if (atA.length === atB.length && atA.every(meets)) return undefined;
  return `nvidia-smi nvlink: ${statement(a, b, atA)}, but ${statement(b, a, atB)}`;
}

function statement(from: Gpu, to: Gpu, links: readonly Link[]): string {
  const ends = links.map(({ number, far }) =>
    far.kind === "gpu" && far.link !== undefined ? `${number} (to its link ${far.link})` : `${number}`,
  );
  if (ends.length === 0) return `${from.name} has no link to ${to.name}`;
  return `${from.name} has ${ends.length === 1 ? "link" : "links"} ${ends.join(", ")} to ${to.name}`;
}

function linksTo(gpu: Gpu, peer: PciAddress): Link[] {
  return gpu.links.filter(({ far }) => far.kind === "gpu" && far.gpu === peer);
}

/** Where the matrix of `nvidia-smi topo -m` contradicts the links or itself, and what it knows that they do not. */
export function withMatrix(
  gpus: readonly Gpu[],
  matrix: TopoMatrix,
  addresses: ReadonlyMap<number, PciAddress>,
): Required<Pick<Machine, "disagreements" | "unknown">> {
  const byAddress = new Map(gpus.map((gpu) => [gpu.address, new ActiveLinks(gpu)]));
  const disagreements: Disagreement[] = [];
  const unknown: Unknown[] = [];
  for (const [position, row] of matrix.gpus.entries()) {
    const a = byAddress.get(addresses.get(row) ?? "");
    const joined: string[] = [];
    for (const column of matrix.gpus.slice(position + 1)) {
      const b = byAddress.get(addresses.get(column) ?? "");
      if (a === undefined || b === undefined) continue;
      const forth = matrixNvlinks(matrix, row, column) ?? 0;
      const back = matrixNvlinks(matrix, column, row) ?? 0;
      const pair: [PciAddress, PciAddress] = [a.gpu.address, b.gpu.address];
      if (forth !== back) {
        const reason = `nvidia-smi topo -m gives ${links(forth)} from ${a.gpu.name} to ${b.gpu.name} and ${links(back)} back`;
        disagreements.push({ gpus: pair, reason });
      } else if (!a.known && !b.known) {
        if (forth > 0) joined.push(`${b.gpu.name} by ${links(forth)}`);
      } else {
        const reason = againstLinks(a, b, forth);
        if (reason !== undefined) disagreements.push({ gpus: pair, reason });
      }
    }
    if (a !== undefined && joined.length > 0) unknown.push(whichLinks(a.gpu, joined));
  }
  return { disagreements, unknown };
}

/** The active links of one GPU: how many lead where. */
class ActiveLinks {
  readonly direct = new Map<PciAddress, number>();
  readonly toSwitches: number;
  /** Whether anything is known that the matrix can be compared with. */
  readonly known: boolean;

  constructor(readonly gpu: Gpu) {
    const active = gpu.links.filter((link) => !["down", "cut"].includes(linkState(gpu, link)));
    for (const { far } of active) {
      if (far.kind === "gpu") this.direct.set(far.gpu, (this.direct.get(far.gpu) ?? 0) + 1);
    }
    this.toSwitches = active.filter(({ far }) => far.kind === "switch").length;
    this.known = gpu.links.some(({ far }) => far.kind !== "unknown") || (gpu.links.length > 0 && active.length === 0);
  }
}

function againstLinks(a: ActiveLinks, b: ActiveLinks, matrixLinks: number): string | undefined {
  const direct = a.known ? (a.direct.get(b.gpu.address) ?? 0) : (b.direct.get(a.gpu.address) ?? 0);
  const switched = a.known && b.known ? Math.min(a.toSwitches, b.toSwitches) : 0;
  // Links into NVSwitches join nothing before the fabric manager has set them up, and the matrix then names no NVLink.
  if (matrixLinks === direct + switched || (matrixLinks === 0 && direct === 0)) return undefined;
  const origins = [...new Set([...a.gpu.links, ...b.gpu.links].map(({ origin }) => origin))].join(", ");
  return `nvidia-smi topo -m gives ${links(matrixLinks)} between ${a.gpu.name} and ${b.gpu.name}, ${origins} ${links(direct + switched)}`;
}

function whichLinks(gpu: Gpu, joined: readonly string[]): Unknown {
  return {
    what: `which links of ${gpu.name} join it to ${joined.join(", ")}: nvidia-smi topo -m gives only how many`,
    functions: [gpu.address],
    action: "give the output of nvidia-smi nvlink -R as well (--nvlink FILE)",
  };
}

function links(count: number): string {
  return count === 0 ? "no NVLink" : count === 1 ? "1 NVLink" : `${count} NVLinks`;
}
