import { type LinkEnd, LinkGraph } from "../isolation/links.js";
import type { Gpu, Machine } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";
import { Hierarchy } from "../pci/hierarchy.js";
import { UsageError } from "./failure.js";
import { table, textColumns } from "./output.js";

/** How two GPUs are connected, in the words of `nvidia-smi topo -m`; N/A where the source does not tell. */
export type Connection = "X" | "SYS" | "NODE" | "PHB" | "PXB" | "PIX" | "N/A" | `NV${number}`;

/** Most GPUs in a matrix, whose size is the square of that: as many as `nvidia-smi` text may have. */
const MAX_GPUS = 1024;

/**
 * The matrix of `nvidia-smi topo -m`, computed from the PCI hierarchy and the links that nothing proves cut.
 * @throws UsageError for more GPUs than fit one
 */
export function topologyMatrix(machine: Machine): Connection[][] {
  if (machine.gpus.length > MAX_GPUS) {
    throw new UsageError(`${machine.gpus.length} GPUs are too many for a matrix: use topo --format tree`);
  }
  const hierarchy = new Hierarchy(machine.functions);
  const links = new OpenLinks(machine);
  const numa = new Map(machine.functions.map((fn) => [fn.address, fn.numaNode]));
  return machine.gpus.map((a) =>
    machine.gpus.map((b): Connection => {
      if (a === b) return "X";
      const count = links.between(a, b);
      return count > 0 ? `NV${count}` : overPcie(hierarchy, numa, a.address, b.address);
    }),
  );
}

/** Links between GPUs that are not cut: directly, or through an NVSwitch both reach. */
class OpenLinks {
  readonly #graph: LinkGraph;
  readonly #intoSwitches = new Map<Gpu, Map<string, number>>();

  constructor(machine: Machine) {
    this.#graph = new LinkGraph(machine);
    for (const [name, ends] of this.#graph.switches) {
      for (const end of ends) {
        if (!this.#isOpen(end)) continue;
        const counts = this.#intoSwitches.get(end.gpu) ?? new Map<string, number>();
        counts.set(name, (counts.get(name) ?? 0) + 1);
        this.#intoSwitches.set(end.gpu, counts);
      }
    }
  }

  between(a: Gpu, b: Gpu): number {
    const pair = this.#graph.pair(a.address, b.address);
    const open = (ends: readonly LinkEnd[]) => ends.filter((end) => this.#isOpen(end)).length;
    let count = pair === undefined ? 0 : Math.max(open(pair.atA), open(pair.atB));
    const theirs = this.#intoSwitches.get(b);
    for (const [name, mine] of this.#intoSwitches.get(a) ?? []) count += Math.min(mine, theirs?.get(name) ?? 0);
    return count;
  }

  #isOpen(end: LinkEnd): boolean {
    return end.link.state !== "down" && this.#graph.cutAt(end) === "none";
  }
}

function overPcie(
  hierarchy: Hierarchy,
  numa: ReadonlyMap<PciAddress, number | undefined>,
  a: PciAddress,
  b: PciAddress,
): Connection {
  const { common } = hierarchy.crossing(a, b);
  if (common !== null) {
    const [switchA, switchB] = [hierarchy.switchAbove(a), hierarchy.switchAbove(b)];
    return switchA?.upstream === switchB?.upstream ? "PIX" : "PXB";
  }
  const [rootA, rootB] = [hierarchy.rootBus(a), hierarchy.rootBus(b)];
  if (rootA === undefined || rootB === undefined) return "N/A";
  if (rootA === rootB) return "PHB";
  const [nodeA, nodeB] = [numa.get(a), numa.get(b)];
  return nodeA !== undefined && nodeA === nodeB ? "NODE" : "SYS";
}

/** The matrix as `nvidia-smi topo -m` prints it, tabs and legend included. @throws UsageError as {@link topologyMatrix} */
export function matrixLines(machine: Machine): string[] {
  const numa = new Map(machine.functions.map((fn) => [fn.address, fn.numaNode]));
  const names = machine.gpus.map((gpu) => gpu.name);
  const rows = topologyMatrix(machine).map((row, index) => {
    const gpu = machine.gpus[index];
    const node = gpu === undefined ? undefined : numa.get(gpu.address);
    return [gpu?.name, ...row.map((cell) => (cell === "X" ? " X " : cell)), "N/A", "", node ?? "N/A"].join("\t");
  });
  return [["", ...names, "CPU Affinity", "NUMA Affinity"].join("\t"), ...rows, "", ...LEGEND];
}

const LEGEND = [
  "Legend:",
  "",
  "  X    = Self",
  "  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)",
  "  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node",
  "  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)",
  "  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)",
  "  PIX  = Connection traversing at most a single PCIe bridge",
  "  NV#  = Connection traversing a bonded set of # NVLinks",
];

/**
 * The matrix for a terminal of so many columns: as nvidia-smi prints it where that fits, else in narrower columns, with the
 * words explained that are in it. One that is wider still is not shown, but it is said how to see it.
 */
export function fittedMatrixLines(machine: Machine, columns: number): string[] {
  const whole = matrixLines(machine);
  if (whole.every((line) => expanded(line) <= columns)) return whole;
  const cells = topologyMatrix(machine);
  const numa = new Map(machine.functions.map((fn) => [fn.address, fn.numaNode]));
  const rows = machine.gpus.map(({ name, address }, index) => [
    name,
    ...(cells[index] ?? []),
    `${numa.get(address) ?? "N/A"}`,
  ]);
  const head = ["", ...machine.gpus.map(({ name }) => name), "NUMA"];
  const narrow = table(head, rows, Number.POSITIVE_INFINITY).split("\n");
  if (narrow.some((line) => textColumns(line) > columns)) {
    return [`the matrix of ${machine.gpus.length} GPUs is too wide here; see it with --format matrix | less -S`];
  }
  const words = new Set<string>(cells.flat().map((cell) => (cell.startsWith("NV") ? "NV#" : cell)));
  const legend = MEANINGS.filter(([word]) => words.has(word)).map(
    ([word, meaning]) => `  ${word.padEnd(4)}  ${meaning}`,
  );
  return [...narrow, "", ...legend];
}

/** What the words of the matrix mean, in a line of a narrow terminal each. */
const MEANINGS: readonly [string, string][] = [
  ["SYS", "through PCIe and from one NUMA node to another"],
  ["NODE", "through PCIe host bridges of one NUMA node"],
  ["PHB", "through a PCIe host bridge"],
  ["PXB", "through several PCIe switches"],
  ["PIX", "through one PCIe switch"],
  ["NV#", "by so many NVLinks that are not cut"],
  ["N/A", "not known"],
];

/** Columns that a line takes on a terminal, with tabs every eight. */
function expanded(line: string): number {
  let columns = 0;
  for (const letter of line) columns += letter === "\t" ? 8 - (columns % 8) : 1;
  return columns;
}
