import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../guest_files.js";

/**
 * The arguments of the first `linkfence serve` among the README's commands that names assignments of a built-in machine, with
 * the lines that a backslash joins.
 * @throws {Error} when there is none
 */
export function readmeExample(): string[] {
  const text = readFileSync(join(ROOT, "README.md"), "utf8").replaceAll(/\\\n\s*/g, "");
  const line = /^\s*(?:\$ |npx )?linkfence serve (--machine .*--assign.*)$/m.exec(text)?.[1];
  if (line === undefined) throw new Error("the README has no example of linkfence serve with assignments");
  return line.replace(/#.*/, "").trim().split(/\s+/);
}
