// Runs every test file, or those whose path contains one of the words given: `npm test -- lspci`.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { root } from "./setup.mjs";

const words = process.argv.slice(2);
const files = ["src", "test", "scripts"]
  .flatMap((folder) =>
    readdirSync(join(root, folder), { withFileTypes: true, recursive: true }).map((entry) =>
      join(entry.parentPath ?? entry.path, entry.name),
    ),
  )
  .filter((file) => /\.test\.(tsx?|mjs)$/.test(file))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${words.join(" ")}`);
  process.exit(2);
}
const { status } = spawnSync(
  process.execPath,
  ["--import", "tsx", "--test", `--test-concurrency=${availableParallelism()}`, ...files],
  {
    cwd: root,
    stdio: "inherit",
  },
);
process.exit(status ?? 1);
