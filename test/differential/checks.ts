import { spawnSync } from "node:child_process";
import type { Check } from "./check.js";
import { brokenTrees, compiledTrees, flattenedTrees } from "./trees.js";

export interface NamedCheck {
  name: string;
  check: Check;
  /** Others' programs that it runs. */
  programs: readonly string[];
}

/** All of them, under the words of `npm run differential`. */
export const CHECKS: Readonly<Record<string, readonly NamedCheck[]>> = {
  trees: [
    { name: "flattened trees", check: flattenedTrees, programs: ["dtc", "fdtget"] },
    { name: "compiled sources", check: compiledTrees, programs: ["dtc"] },
    { name: "damaged trees", check: brokenTrees, programs: ["dtc", "fdtget"] },
  ],
};

/** Why a check cannot run here, in a line; false when it can. */
export function whyNot({ programs }: NamedCheck): string | false {
  const missing = programs.filter((program) => spawnSync(program, ["--version"]).error !== undefined);
  return missing.length === 0 ? false : `${missing.join(" and ")}: not installed`;
}
