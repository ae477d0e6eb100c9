import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NO_BROWSER } from "./browser.js";

// Runs the checks in a real browser, or those whose name contains one of the words; see README.md here.
// Usage: npm run check:page [-- [--update] [WORD...]]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.

const SKIPPED = 77;
/** Those that look at times run with nothing beside them. */
const ALONE = ["live_check.ts", "speed_check.ts"];

const words = process.argv.slice(2).filter((word) => word !== "--update");
const update = process.argv.includes("--update");
const folder = fileURLToPath(new URL(".", import.meta.url));
const files = readdirSync(folder)
  .filter((file) => file.endsWith("_check.ts"))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)));

if (files.length === 0) {
  console.error(`check-page: no check is called ${words.join(" or ")}`);
  process.exitCode = 2;
} else if (NO_BROWSER !== false) {
  console.error(`check-page: skipped: ${NO_BROWSER}`);
  process.exitCode = SKIPPED;
} else {
  const [alone, beside] = [files.filter((file) => ALONE.includes(file)), files.filter((file) => !ALONE.includes(file))];
  const statuses = [run(alone, 1), run(beside, availableParallelism())];
  process.exitCode = statuses.every((status) => status === 0) ? 0 : 1;
}

/** @returns its exit status */
function run(names: readonly string[], atOnce: number): number {
  if (names.length === 0) return 0;
  const { status } = spawnSync(
    process.execPath,
    [
      ...["--import", "tsx", "--test", "--test-reporter=spec", `--test-concurrency=${atOnce}`],
      ...names.map((name) => join(folder, name)),
    ],
    {
      stdio: "inherit",
      env: {
        ...process.env,
        LINKFENCE_UPDATE_PICTURES: update ? "1" : "0",
        LINKFENCE_PICTURES: process.env.LINKFENCE_PICTURES ?? join(tmpdir(), "linkfence-pictures"),
      },
    },
  );
  return status ?? 1;
}
