import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { processorTime } from "../../test/processor_time.js";
import { HostError } from "./error.js";
import { readBounded } from "./read_bounded.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-read-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function refusal(path: string, limit = 100): HostError {
  try {
    readBounded(path, limit);
  } catch (error) {
    assert.ok(error instanceof HostError, String(error));
    assert.ok(!error.message.includes("\n"), "one line");
    return error;
  }
  assert.fail("not refused");
}

test("a file up to the limit is read whole, an empty one as nothing", () => {
  assert.equal(readBounded(file("exact", "x".repeat(100)), 100).toString(), "x".repeat(100));
  assert.equal(readBounded(file("empty", ""), 100).length, 0);
  const big = "0123456789".repeat(50_000);
  assert.equal(readBounded(file("big", big), 1 << 20).toString(), big);
});

test("one byte above the limit is refused with both numbers", () => {
  const { code, message } = refusal(file("above", "x".repeat(101)));
  assert.equal(code, "ETOOLARGE");
  assert.match(message, /101 bytes.*100 bytes/);
});

test("a sparse file of 1 GiB is refused from its size, at once", () => {
  const path = file("sparse", "");
  truncateSync(path, 2 ** 30);
  const took = processorTime(() => assert.equal(refusal(path, 64 << 20).code, "ETOOLARGE"));
  assert.ok(took < 200, `${took} ms`);
});

test("an endless source is refused once the limit has come in", () => {
  assert.equal(refusal("/dev/zero", 1 << 20).code, "ETOOLARGE");
});

test("what is missing, a directory or no path is refused by name", () => {
  const missing = refusal(join(folder, "missing"));
  assert.deepEqual([missing.code, missing.errno], ["EREAD", "ENOENT"]);
  assert.match(missing.message, /missing: no such file/);
  assert.equal(refusal(folder).errno, "EISDIR");
  assert.equal(refusal(join(file("plain", ""), "below")).errno, "ENOTDIR");
  assert.equal(refusal("a\0b").code, "EREAD");
  assert.ok(!refusal("bad\u001b[2Jname").message.includes("\u001b"));
});

const isRoot = process.geteuid?.() === 0;

test("a file without permission is refused so", {
  skip: isRoot ? false : "needs root to become an ordinary user",
}, () => {
  const path = file("secret", "x");
  chmodSync(path, 0o600);
  chmodSync(folder, 0o755);
  process.seteuid?.(65534);
  try {
    assert.equal(refusal(path).errno, "EACCES");
  } finally {
    process.seteuid?.(0);
  }
});

test("a FIFO is read to its end, however late its writer comes", () => {
  const path = join(folder, "fifo");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  spawn("sh", ["-c", 'sleep 0.1; printf hello > "$1"', "sh", path], { stdio: "ignore" });
  assert.equal(readBounded(path, 100).toString(), "hello");
});

test("- is standard input, also one that has nothing to give yet", () => {
  const module = new URL("./read_bounded.js", import.meta.url).href;
  const script = `import { readBounded } from ${JSON.stringify(module)}; console.log(readBounded("-", 10).length)`;
  const child = [...process.execArgv, "--input-type=module", "-e", script];
  const quoted = child.map((word) => `'${word}'`).join(" ");
  const run = (line: string) =>
    spawnSync("sh", ["-c", line], { encoding: "utf8", cwd: fileURLToPath(new URL("../..", import.meta.url)) });
  assert.equal(run(`(sleep 0.5; printf 12345) | '${process.execPath}' ${quoted}`).stdout, "5\n");
  const tooLong = run(`printf 12345678901 | '${process.execPath}' ${quoted}`);
  assert.match(tooLong.stderr, /standard input is too large/);
});
