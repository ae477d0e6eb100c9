import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { VmCache } from "./vm_cache.js";

const skip = spawnSync("flock", ["--version"]).status === 0 ? false : "flock is not installed";

function temporaryCache(t: { after(done: () => void): void }): VmCache {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-cache-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return new VmCache(folder);
}

test("an entry that many ask for at a time is made once, and whole", { skip }, async (t) => {
  const cache = temporaryCache(t);
  let made = 0;
  const ask = () =>
    cache.entry("part", async (target) => {
      made++;
      await new Promise((resolve) => setTimeout(resolve, 20));
      writeFileSync(target, "contents");
    });
  const paths = await Promise.all([ask(), ask(), ask()]);
  assert.equal(made, 1);
  for (const path of paths) assert.equal(readFileSync(path, "utf8"), "contents");
});

test("what could not be made leaves nothing, nor does who was killed, and is made the next time", {
  skip,
}, async (t) => {
  const cache = temporaryCache(t);
  mkdirSync(cache.path("part.work-killed"), { recursive: true });
  const failing = cache.entry("part", async (target, work) => {
    writeFileSync(target, "half");
    writeFileSync(join(work, "scratch"), "");
    throw new Error("no network");
  });
  await assert.rejects(failing, /no network/);
  assert.deepEqual(readdirSync(cache.folder), ["part.lock"]);
  await cache.entry("part", async (target) => writeFileSync(target, "whole"));
  assert.deepEqual(readdirSync(cache.folder).sort(), ["part", "part.lock"]);
});
