// Runs every test file, or those whose path contains one of the words given: `npm test -- lspci`.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { compiled } from "./compiled.mjs";
import { root } from "./setup.mjs";

/** Some wait for what takes its time: resets, kills. */
const CONCURRENCY = availableParallelism() + 1;

const words = process.argv.slice(2);
const files = ["src", "test", "scripts"]
  .flatMap((folder) =>
    readdirSync(join(root, folder), { withFileTypes: true, recursive: true }).map((entry) =>
      relative(root, join(entry.parentPath ?? entry.path, entry.name)),
    ),
  )
  .filter((file) => /\.test\.(tsx?|mjs)$/.test(file))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${words.join(" ")}`);
  process.exit(2);
}
const folder = compiled();
const { status } = spawnSync(
  process.execPath,
  [
    "--enable-source-maps",
    "--test",
    `--test-concurrency=${CONCURRENCY}`,
    ...files.map((file) => (file.endsWith(".mjs") ? file : join(folder, file.replace(/\.tsx?$/, ".js")))),
  ],
  { cwd: root, stdio: "inherit" },
);
process.exit(status ?? 1);
