// Installs what is missing and builds what is out of date, so that one command is enough in a fresh clone.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Runs a program in the project's folder; its failure is ours. */
function run(program, args) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** Modification time of the newest file below a folder, in milliseconds; 0 when there is none. */
function newest(folder) {
  let time = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) time = Math.max(time, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return time;
}

export function ensureInstalled() {
  if (existsSync(join(root, "node_modules/.package-lock.json"))) return;
  console.error("installing dependencies ...");
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
}

export async function ensureBuilt() {
  ensureInstalled();
  const main = join(root, "dist/cli/main.js");
  if (existsSync(main) && statSync(main).mtimeMs >= newest(join(root, "src"))) return;
  console.error("building ...");
  await build();
}

export async function build() {
  run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"]);
  const { buildPage } = await import("./page.mjs");
  await buildPage(root);
  chmodSync(join(root, "dist/cli/main.js"), 0o755);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  ensureInstalled();
  await build();
}
