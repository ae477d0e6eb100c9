import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const DATA = fileURLToPath(new URL("../../data", import.meta.url));
const CORPUS = fileURLToPath(new URL("../corpus", import.meta.url));

/** The files of a folder of test/data. */
export function samples(folder: string): Uint8Array[] {
  return filesOf(join(DATA, folder));
}

/** Where a target's corpus is. */
export function corpusFolder(target: string): string {
  return join(CORPUS, target);
}

/** The inputs that were kept for a target, by their files' names. */
export function corpus(target: string): Uint8Array[] {
  return filesOf(corpusFolder(target));
}

function filesOf(folder: string): Uint8Array[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).sort();
  return names.map((name) => new Uint8Array(readFileSync(join(folder, name))));
}
