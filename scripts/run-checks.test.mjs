import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "./setup.mjs";

for (const program of ["check-vm", "check-long"]) {
  const script = join(root, "scripts", `${program}.mjs`);
  const { status, stderr, stdout } = spawnSync(process.execPath, [script, "nonsense"], { encoding: "utf8" });
  const [, words = ""] = /there are (.*)$/m.exec(stderr) ?? [];

  test(`${program} runs nothing for a word that it does not know, and tells those that it does`, () => {
    assert.deepEqual([status, stdout], [2, ""]);
    assert.match(stderr, new RegExp(`^${program}: no check nonsense; there are \\S+, `));
  });

  test(`each word of ${program} is in its usage, and there are the scripts that it runs`, () => {
    const text = readFileSync(script, "utf8");
    const usage = /^\/\/ Usage: .*$/m.exec(text)?.[0] ?? "";
    for (const word of words.split(", ")) assert.ok(usage.includes(`[${word}]`), word);
    const scripts = [...text.matchAll(/script: "([^"]+)"/g)].map(([, path]) => path);
    assert.equal(scripts.length, words.split(", ").length);
    for (const path of scripts) assert.ok(existsSync(join(root, path)), path);
  });
}
