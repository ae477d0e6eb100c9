// Checks in a real browser, all of them or those whose name contains one of the words; see test/browser/README.md.
// Usage: node scripts/check-page.mjs [--update] [WORD...]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { compiled } from "./compiled.mjs";
import { ensureBuilt, root } from "./setup.mjs";

const SKIPPED = 77;
/** Those that look at times run with nothing beside them. */
const ALONE = ["live_check.ts", "speed_check.ts"];

const update = process.argv.includes("--update");
const words = process.argv.slice(2).filter((word) => word !== "--update");
const files = readdirSync(join(root, "test/browser"))
  .filter((file) => file.endsWith("_check.ts"))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)));

if (files.length === 0) {
  console.error(`check-page: no check is called ${words.join(" or ")}`);
  process.exitCode = 2;
} else {
  await ensureBuilt();
  const folder = join(compiled(), "test/browser");
  const { NO_BROWSER } = await import(join(folder, "browser.js"));
  if (NO_BROWSER !== false) {
    console.error(`check-page: skipped: ${NO_BROWSER}`);
    process.exitCode = SKIPPED;
  } else {
    const alone = files.filter((file) => ALONE.includes(file));
    const beside = files.filter((file) => !ALONE.includes(file));
    const passed = [run(folder, alone, 1), run(folder, beside, availableParallelism())];
    process.exitCode = passed.every(Boolean) ? 0 : 1;
  }
}

/** Runs checks, so many files at once. @returns whether they passed */
function run(folder, names, atOnce) {
  if (names.length === 0) return true;
  const programs = names.map((name) => join(folder, name.replace(/\.ts$/, ".js")));
  const args = ["--enable-source-maps", "--test", "--test-reporter=spec", `--test-concurrency=${atOnce}`, ...programs];
  const { LINKFENCE_PICTURES = join(tmpdir(), "linkfence-pictures") } = process.env;
  const env = { ...process.env, LINKFENCE_PICTURES, LINKFENCE_UPDATE_PICTURES: update ? "1" : "0" };
  return spawnSync(process.execPath, args, { stdio: "inherit", env }).status === 0;
}
