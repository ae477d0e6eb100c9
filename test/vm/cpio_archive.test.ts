import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CpioArchive } from "./cpio_archive.js";

interface Entry {
  name: string;
  mode: number;
  text: string;
}

/** Reads the archive as the kernel does. */
function parse(data: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < data.length; ) {
    const field = (index: number) =>
      Number.parseInt(data.toString("latin1", at + 6 + 8 * index, at + 14 + 8 * index), 16);
    assert.equal(data.toString("latin1", at, at + 6), "070701", `no header at ${at}`);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const contents = (at + 110 + nameSize + 3) & ~3;
    const name = data.toString("utf8", at + 110, at + 110 + nameSize - 1);
    entries.push({ name, mode, text: data.toString("utf8", contents, contents + size) });
    at = (contents + size + 3) & ~3;
  }
  return entries;
}

test("an archive has files, links and folders, each after the folder it is in, and an end", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-cpio-"));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "tree/inner"), { recursive: true });
  writeFileSync(join(folder, "tree/inner/run"), "#!", { mode: 0o755 });
  symlinkSync("inner/run", join(folder, "tree/link"));
  const path = join(folder, "archive");
  const archive = new CpioArchive(path);
  archive.file("/a/b/text", "hello");
  archive.file("/a/b/more", Buffer.from("xyz!"));
  archive.copy("/tree", join(folder, "tree"));
  archive.close();
  assert.deepEqual(parse(readFileSync(path)), [
    { name: "a", mode: 0o040755, text: "" },
    { name: "a/b", mode: 0o040755, text: "" },
    { name: "a/b/text", mode: 0o100644, text: "hello" },
    { name: "a/b/more", mode: 0o100644, text: "xyz!" },
    { name: "tree", mode: 0o040755, text: "" },
    { name: "tree/inner", mode: 0o040755, text: "" },
    { name: "tree/inner/run", mode: 0o100755, text: "#!" },
    { name: "tree/link", mode: 0o120777, text: "inner/run" },
    { name: "TRAILER!!!", mode: 0, text: "" },
  ]);
});
