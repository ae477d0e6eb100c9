import type { Seen } from "../cli/serve/messages.js";
import type { Machine } from "../machine/machine.js";

/** The machine as it is: as it was described, but for its links and who drives its GPUs. */
export function seenMachine(described: Machine, { gpus, drivers }: Seen): Machine {
  const seen = new Set(gpus.map(({ address }) => address));
  const functions = described.functions.map((fn) => {
    if (!seen.has(fn.address)) return fn;
    const { driver: _, ...rest } = fn;
    const driver = drivers[fn.address];
    return driver === undefined ? rest : { ...rest, driver };
  });
  return { ...described, functions, gpus };
}
