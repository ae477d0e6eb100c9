import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { root } from "./setup.mjs";

const CODE = ["src", "test", "bench", "examples"];
/** What there is besides of the project, and what may lie beside it: found where it is, by links. */
const LINKED = ["node_modules", "dist", "docs", "scripts", "packaging", "package.json", "README.md", "../shared"];

/**
 * The project's sources and tests as plain JavaScript in a temporary folder, which is gone when this process is: a process
 * or a thread that runs them begins several times as fast as by translation while it loads.
 * @returns the folder; below it everything is where it is in the project, with `.js` instead of `.ts`
 */
export function compiled() {
  const whole = mkdtempSync(join(tmpdir(), "linkfence-compiled-"));
  process.on("exit", () => rmSync(whole, { recursive: true, force: true }));
  const folder = join(whole, "linkfence");
  mkdirSync(folder);
  for (const name of CODE) {
    cpSync(join(root, name), join(folder, name), { recursive: true, filter: (path) => !isTypeScript(path) });
  }
  buildSync({
    entryPoints: CODE.flatMap((name) => typeScriptBelow(join(root, name))),
    outdir: folder,
    outbase: root,
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: "inline",
    sourcesContent: false,
    logLevel: "warning",
  });
  for (const name of LINKED.filter((each) => existsSync(join(root, each)))) {
    symlinkSync(join(root, name), join(folder, name));
  }
  return folder;
}

function typeScriptBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter(isTypeScript);
}

function isTypeScript(path) {
  return /(?<!\.d)\.tsx?$/.test(path);
}
