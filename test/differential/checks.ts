import { spawnSync } from "node:child_process";
import type { Check } from "./check.js";
import { damagedLists, printedConfigs, soundConfigs } from "./config.js";
import { brokenTrees, compiledTrees, flattenedTrees } from "./trees.js";

export interface NamedCheck {
  name: string;
  check: Check;
  /** Others' programs that it runs. */
  programs: readonly Program[];
}

type Program = keyof typeof VERSIONS;

/** Versions whose ways are known: what each prints changes between them. */
const VERSIONS = { dtc: /DTC 1\.[67]/, fdtget: /DTC 1\.[67]/, lspci: /version 3\.9/ } as const;

/** All of them, under the words of `npm run differential`. */
export const CHECKS: Readonly<Record<string, readonly NamedCheck[]>> = {
  trees: [
    { name: "flattened trees", check: flattenedTrees, programs: ["dtc", "fdtget"] },
    { name: "compiled sources", check: compiledTrees, programs: ["dtc"] },
    { name: "damaged trees", check: brokenTrees, programs: ["dtc", "fdtget"] },
  ],
  config: [
    { name: "config spaces", check: soundConfigs, programs: ["lspci"] },
    { name: "damaged lists", check: damagedLists, programs: ["lspci"] },
    { name: "listings of config spaces", check: printedConfigs, programs: ["lspci"] },
  ],
};

/** Why a check cannot run here, in a line; false when it can. */
export function whyNot({ programs }: NamedCheck): string | false {
  for (const program of programs) {
    const { error, stdout } = spawnSync(program, ["--version"], { encoding: "utf8" });
    if (error !== undefined) return `${program} is not installed`;
    if (!VERSIONS[program].test(stdout)) return `${program} is of another version than ${VERSIONS[program].source}`;
  }
  return false;
}
