import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { missing } from "./device_tree_sample.js";

const root = dirname(import.meta.dirname);
const readme = readFileSync(join(root, "README.md"), "utf8");

/** The lines of all shell blocks, in order. */
const commands = [...readme.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block]) => (block ?? "").trim().split("\n"));

/** What runs elsewhere: this very run, and `.ci/run` in a fresh clone. */
const ELSEWHERE = ["npm start", "npm test"];

test("every command that the README shows runs", async (t) => {
  assert.ok(commands.length > 8);
  const folder = mkdtempSync(join(tmpdir(), "linkfence-readme-"));
  try {
    for (const command of commands) {
      if (ELSEWHERE.includes(command)) continue;
      const skip = command.startsWith("lspci") ? missing("lspci") : false;
      await t.test(command, { skip }, () => {
        const line = command.replaceAll("npx linkfence", `"${process.execPath}" "${join(root, "dist/cli/main.js")}"`);
        const { status, stderr } = spawnSync("sh", ["-c", line], { cwd: folder, encoding: "utf8" });
        // lspci lists nothing where there is no PCI, which is bad input.
        const fine = command.startsWith("lspci") ? [0, 1, 2] : [0, 1];
        assert.ok(fine.includes(status ?? -1), `exit ${status}: ${stderr}`);
        assert.doesNotMatch(stderr, /internal error|^\s+at /m);
      });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("every file that the README and the architecture page name is there", () => {
  const architecture = readFileSync(join(root, "docs/architecture.md"), "utf8");
  const links = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map(([, target]) => target ?? "");
  const rooms = [...architecture.matchAll(/`((?:src|scripts|test)\/[\w./-]+)`/g)].map(([, target]) => target ?? "");
  const files = [...architecture.matchAll(/`((?:cli|isolation|machine|fence|virtual)\/\w+\.ts)`/g)].map(
    ([, target]) => `src/${target}`,
  );
  assert.ok(links.length > 0 && rooms.length > 5 && files.length > 5);
  for (const target of [...links, ...rooms, ...files]) assert.ok(existsSync(join(root, target)), target);
});
