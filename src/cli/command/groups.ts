import { isolation } from "../../isolation/isolation.js";
import { heading } from "../heading.js";
import { paint, writeJson, writeProse } from "../output.js";
import { isolateNvlinkOption, readSource, type SourceOptions } from "../source.js";

/** `linkfence groups`: the kernel's IOMMU groups, ours, and isolation now and possible. */
export async function runGroups(options: SourceOptions): Promise<number> {
  const machine = await readSource(options);
  const result = isolation(machine, await isolateNvlinkOption(options));
  if (options.json === true) {
    writeJson({ machine: machine.name, ...(machine.virtual && { virtual: true }), ...result });
    return 0;
  }
  const names = new Map(machine.gpus.map((gpu) => [gpu.address as string, gpu.name]));
  const name = (address: string) => {
    const label = names.get(address);
    return label === undefined || label === address ? address : `${address} (${label})`;
  };
  const list = (title: string, sets: readonly (readonly string[])[]) => {
    const shown = sets.filter((set) => set.some((address) => names.has(address)));
    const rest = sets.length - shown.length;
    return [
      "",
      paint("bold", title),
      ...shown.map((set, index) => `  ${index}: ${set.map(name).join(" ")}`),
      ...(rest > 0 ? [`  and ${rest} without a GPU`] : []),
    ];
  };
  writeProse([
    heading(machine),
    ...list("IOMMU groups of the kernel", result.kernel),
    ...list("IOMMU groups by our rules", result.computed),
    ...list("not separated now", result.now),
    ...list("not separable by any known action", result.possible),
    "",
    paint("bold", "joined directly"),
    ...result.pairs.map(
      ({ a, b, reason, action }) => `  ${name(a)} - ${name(b)}: ${reason}${action === null ? "" : ` → ${action}`}`,
    ),
    ...result.notes.map((note) => `note: ${note}`),
  ]);
  return 0;
}
