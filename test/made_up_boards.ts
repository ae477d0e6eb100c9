import type { FarEnd, Machine } from "../src/machine/machine.js";
import type { PciFunction } from "../src/pci/function.js";
import { gpu, machineOf, made, port } from "./made_up_machine.js";

/** Boards of GPUs, each a NUMA node, with a link from each GPU to each NVSwitch of its board, or of the first one. */
export function boardsOf(
  boards: number,
  { gpus: perBoard, switches, shared = false }: { gpus: number; switches: number; shared?: boolean },
): Machine {
  const functions: PciFunction[] = [];
  const gpus = Array.from({ length: boards * perBoard }, (_, index) => {
    const board = Math.floor(index / perBoard);
    const place = index % perBoard;
    const domain = board.toString(16).padStart(4, "0");
    const root = `${domain}:00:${hex(place >> 1)}.0`;
    const address = `${domain}:${hex(0x40 + place)}:00.0`;
    if (place % 2 === 0)
      functions.push({ ...port(root, "root-port", 0x10 + (place >> 1)), parent: null, numaNode: board });
    functions.push(made(address, { parent: root, vendorId: 0x10de, classCode: 0x030200, numaNode: board }));
    const far = Array.from({ length: switches }, (_, link): FarEnd => {
      return { kind: "switch", switch: `${shared ? "0000" : domain}:${hex(0xc0 + link)}:00.0` };
    });
    return gpu(address, `GPU${index}`, far, "GA100");
  });
  const name = `made-up-${gpus.length}`;
  return machineOf(gpus, {
    name,
    functions,
    source: `${boards} boards of ${perBoard} GPUs and ${switches} NVSwitches`,
  });
}

function hex(value: number): string {
  return value.toString(16).padStart(2, "0");
}
