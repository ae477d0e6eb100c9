import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { LockFile } from "./lock_file.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-lock-"));
after(() => rmSync(folder, { recursive: true }));

test("a lock is had once, and the refusal names the process that has it", () => {
  const path = join(folder, "lock");
  const lock = new LockFile(path, "serves there");
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.throws(() => new LockFile(path, "serves there"), {
    code: "EUSAGE",
    message: `another linkfence (process ${process.pid}) serves there`,
  });
  assert.equal(readFileSync(path, "utf8"), `${process.pid}\n`, "the refused one changed nothing");
  lock.release();
  lock.release();
  assert.equal(existsSync(path), false);
  new LockFile(path, "serves there").release();
});

test("a file that was left behind does not hinder, whatever it says", () => {
  const path = join(folder, "left");
  writeFileSync(path, "1\nand more of it\n");
  const lock = new LockFile(path, "serves there");
  assert.equal(readFileSync(path, "utf8"), `${process.pid}\n`);
  lock.release();
});

test("a lock whose file was removed is not given up by its owner, and its release leaves the next one's alone", () => {
  const path = join(folder, "gone");
  const first = new LockFile(path, "serves there");
  rmSync(path);
  const second = new LockFile(path, "serves there");
  first.release();
  assert.equal(existsSync(path), true);
  second.release();
});

test("a link in the place of the file is refused", () => {
  symlinkSync("/etc/passwd", join(folder, "link"));
  assert.throws(() => new LockFile(join(folder, "link"), "serves there"), { code: "EUSAGE", message: /loop/ });
});
