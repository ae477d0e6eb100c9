import type { Machine } from "../../machine/machine.js";
import { UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { writeJson, writeLines } from "../output.js";
import { readSource, type SourceOptions } from "../source.js";
import { matrixLines, topologyMatrix } from "../topology_matrix.js";

/** `linkfence topo`: how GPUs are connected. */
export async function runTopo(options: SourceOptions & { format: string }): Promise<number> {
  const format = options.json === true ? "json" : options.format;
  if (!["matrix", "tree", "json"].includes(format)) {
    throw new UsageError(`--format ${format}: expected matrix, tree or json`);
  }
  const machine = await readSource(options);
  if (format === "json") {
    writeJson(topologyJson(machine));
  } else if (format === "tree") {
    const { treeLines } = await import("../topology_tree.js");
    writeLines([heading(machine), "", ...treeLines(machine)]);
  } else if (machine.gpus.length === 0) {
    writeLines([heading(machine)]);
  } else {
    writeLines(matrixLines(machine));
    if (machine.virtual) process.stderr.write(`linkfence: ${machine.name} is virtual hardware\n`);
  }
  return 0;
}

function topologyJson(machine: Machine): Record<string, unknown> {
  return {
    machine: machine.name,
    ...(machine.virtual && { virtual: true }),
    gpus: machine.gpus.map(({ name, address, part, links }) => ({ name, address, part, links })),
    matrix: topologyMatrix(machine),
  };
}
