import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROJECT } from "./project_folder.js";

/** One exact replacement in one file. */
export interface Edit {
  /** Below the project's folder. */
  file: string;
  /** What is there, exactly once. */
  find: string;
  replace: string;
}

/**
 * The project's sources in a temporary folder, with something changed: for a check that has to notice it.
 * @returns the folder, and what removes it
 * @throws when an edit does not fit: what it is about has been rewritten, and the edit has to follow
 */
export function patchedCopy(edits: readonly Edit[]): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-patched-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  try {
    for (const name of ["src", "test", "scripts", "package.json", "tsconfig.json"]) {
      cpSync(join(PROJECT, name), join(folder, name), { recursive: true });
    }
    symlinkSync(join(PROJECT, "node_modules"), join(folder, "node_modules"));
    for (const edit of edits) apply(folder, edit);
  } catch (error) {
    remove();
    throw error;
  }
  return { folder, remove };
}

function apply(folder: string, { file, find, replace }: Edit): void {
  const path = join(folder, file);
  const text = readFileSync(path, "utf8");
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times what is to be replaced: ${find}`);
  writeFileSync(path, parts.join(replace));
}
