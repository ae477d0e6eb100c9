import { builtinMachine } from "../../src/machine/builtin.js";

/**
 * What `nvidia-smi nvlink -R` would print for a built-in machine whose GPUs have other addresses.
 * @param addresses of its first GPUs, in their order; links to the others are not there
 */
export function nvlinkText(machine: string, addresses: readonly string[]): string {
  const gpus = builtinMachine(machine).gpus.slice(0, addresses.length);
  const now = new Map(gpus.map(({ address }, index) => [address, addresses[index] ?? ""]));
  const lines = gpus.flatMap(({ links }, index) => [
    `GPU ${index}: Tesla V100-SXM2-16GB (UUID: GPU-c0ffee0${index}-0000-4000-8000-00000000000${index})`,
    ...links.flatMap(({ number, far }) => {
      const address = far.kind === "gpu" ? now.get(far.gpu) : undefined;
      if (far.kind !== "gpu" || address === undefined) return [];
      return [`\t Link ${number}: Remote Device 0000${address.toUpperCase()}: Link ${far.link}`];
    }),
  ]);
  return `${lines.join("\n")}\n`;
}
