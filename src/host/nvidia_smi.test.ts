import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, test } from "node:test";
import { runNvidiaSmi } from "./nvidia_smi.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-smi-"));
const path = process.env.PATH;
after(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  rmSync(join(folder, "nvidia-smi"), { force: true });
});
afterEach(() => {
  process.env.PATH = path;
});

/** Puts a program named `nvidia-smi` first on PATH: the body of a shell script, the question as `$1 $2`. */
function install(body: string): void {
  const program = join(folder, "nvidia-smi");
  writeFileSync(program, `#!/bin/sh\n${body}\n`);
  chmodSync(program, 0o755);
  process.env.PATH = `${folder}:${path}`;
}

test("a host without nvidia-smi has no answers and no complaint", () => {
  process.env.PATH = folder;
  assert.deepEqual(runNvidiaSmi(), { unknown: [] });
});

test("far link numbers and the matrix are asked for", () => {
  install('echo "asked $1 $2"');
  assert.deepEqual(runNvidiaSmi(), { nvlink: "asked nvlink -R\n", topo: "asked topo -m\n", unknown: [] });
});

test("a driver too old for -R is asked with -p", () => {
  install('case "$2" in -R) echo "Option -R is not recognized."; exit 2;; *) echo "asked $1 $2";; esac');
  assert.equal(runNvidiaSmi().nvlink, "asked nvlink -p\n");
});

test("a driver that holds no GPU leaves both answers out and its words in", () => {
  install('echo "No devices were found"; exit 6');
  const { nvlink, topo, unknown } = runNvidiaSmi();
  assert.deepEqual([nvlink, topo], [undefined, undefined]);
  assert.deepEqual(
    unknown.map(({ what }) => what.includes("No devices were found")),
    [true, true],
  );
});

test("a silent nvidia-smi is ended and asked nothing more", () => {
  install("exec sleep 60");
  const start = performance.now();
  const { nvlink, topo, unknown } = runNvidiaSmi(200);
  assert.ok(performance.now() - start < 30_000);
  assert.deepEqual([nvlink, topo, unknown.length], [undefined, undefined, 1]);
  assert.match(unknown[0]?.what ?? "", /no answer in 0\.2 s/);
});

test("a child of nvidia-smi that keeps its output open does not hold us", () => {
  install("sleep 30 & echo started");
  const start = performance.now();
  runNvidiaSmi(200);
  assert.ok(performance.now() - start < 25_000);
});

test("output without end is cut off", () => {
  install("exec yes");
  const { nvlink, unknown } = runNvidiaSmi();
  assert.equal(nvlink, undefined);
  assert.ok(unknown.length > 0);
});
