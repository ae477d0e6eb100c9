import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { missing, samplePath } from "../../test/device_tree_sample.js";
import { readDeviceTree } from "../devicetree/read.js";
import { compileDeviceTreeSource, DtcError } from "./dtc.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-dtc-"));
after(() => rmSync(directory, { recursive: true }));
const skip = missing("dtc");

function fileOf(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

function refused(path: string, code: string, message: RegExp): void {
  assert.throws(
    () => compileDeviceTreeSource(path),
    (error: unknown) => {
      assert.ok(error instanceof DtcError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    },
  );
}

test("source compiles to the tree it describes", { skip }, () => {
  const { root, reservations } = readDeviceTree(compileDeviceTreeSource(samplePath("board.dts")));
  const compiled = readDeviceTree(readFileSync(samplePath("board.dtb")));
  assert.deepEqual({ root, reservations }, { root: compiled.root, reservations: compiled.reservations });
});

test("an error of dtc's is told in its first line, with file and place", { skip }, () => {
  refused(
    fileOf("bad.dts", "/dts-v1/;\n/ { x = ; };\n"),
    "EDTC_SOURCE",
    /^dtc: Error: .*bad\.dts:2\.\S+ syntax error$/,
  );
  refused(fileOf("empty.dts", ""), "EDTC_SOURCE", /syntax error/);
  const twice = "/dts-v1/;\n/ { a { phandle = <1>; }; b { phandle = <1>; }; };\n";
  refused(fileOf("twice.dts", twice), "EDTC_SOURCE", /^dtc: .*twice\.dts.*duplicated phandle/);
});

test("a file name that looks like an option is a file name", { skip }, () => {
  const before = process.cwd();
  process.chdir(directory);
  try {
    fileOf("-h.dts", "/dts-v1/; / { };");
    assert.equal(readDeviceTree(compileDeviceTreeSource("-h.dts")).root.children.length, 0);
  } finally {
    process.chdir(before);
  }
});

test("what is no source file is refused before dtc runs", () => {
  refused(join(directory, "none.dts"), "EDTC_SOURCE", /none\.dts: no such file/);
  refused(directory, "EDTC_SOURCE", /regular file/);
  refused("/dev/zero", "EDTC_SOURCE", /regular file/);
  const sparse = fileOf("sparse.dts", "");
  truncateSync(sparse, 2 ** 30);
  refused(sparse, "EDTC_LIMIT", /1073741824 bytes/);
});

test("without dtc the error says what to install", () => {
  const before = process.env.PATH;
  process.env.PATH = directory;
  try {
    refused(samplePath("board.dts"), "EDTC_MISSING", /not installed.*device-tree-compiler/);
  } finally {
    process.env.PATH = before;
  }
});
