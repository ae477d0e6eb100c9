import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder. */
export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What linkfence needs when it runs: its dependencies, and theirs. */
const PACKAGES = ["koffi", "@koromix", "commander", "valibot", "d3-hierarchy"];

/**
 * What a guest gets to run its programs with: linkfence as it is built, the packages it uses, and
 * `guest/`. It has no compiler.
 * @param programs further files and folders, relative to this one, by their names below `/linkfence/guest`
 */
export function guestFiles(programs: Readonly<Record<string, string>>): Record<string, string> {
  const files: Record<string, string> = {
    "/linkfence/package.json": join(ROOT, "package.json"),
    "/linkfence/dist": join(ROOT, "dist"),
    "/linkfence/guest": join(ROOT, "test/vm/guest"),
  };
  for (const name of PACKAGES) files[`/linkfence/node_modules/${name}`] = join(ROOT, "node_modules", name);
  for (const [name, source] of Object.entries(programs)) {
    files[`/linkfence/guest/${name}`] = join(ROOT, "test/vm", source);
  }
  return files;
}
