import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, truncateSync } from "node:fs";
import { describe, test } from "node:test";
import { linkfence, MAIN, refused, run, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
const TREE = readFileSync(new URL("../data/devicetree/board.dtb", import.meta.url));
/** What a PNG begins with, and bytes of no meaning behind it. */
const PNG = Uint8Array.from({ length: 4096 }, (_, i) => [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10][i] ?? (i * 167) % 251);

const FILES: [string, string][] = [
  ["an empty file", folder.file("empty", "")],
  ["a PNG", folder.file("picture.png", PNG)],
  ["a truncated device tree", folder.file("cut.dtb", TREE.subarray(0, TREE.length - 1))],
  ["a sparse file of 1 GiB", folder.file("sparse", "")],
  ["a text that is something else", folder.file("notes.txt", "two words\nand = some; { more }\n\0\n")],
  ["a folder that is something else", folder.path("folder")],
  ["a file that is not there", folder.path("missing")],
  ["a file in a folder that is not there", folder.path("missing/file")],
  ["a file below a file", folder.path("empty/file")],
  ["an endless device", "/dev/zero"],
  ["a file that cannot be read", "/proc/self/mem"],
  ["an empty name", ""],
];
truncateSync(folder.path("sparse"), 2 ** 30);
mkdirSync(folder.path("folder"));
folder.file("folder/file", "x");

/** Each way to name a file: command and options up to the file's name. */
const SOURCES: [string, ...string[]][] = [
  ["--device-tree", "audit", "--device-tree"],
  ["--capture", "audit", "--capture"],
  ["--lspci", "audit", "--lspci"],
  ["--sysfs", "audit", "--sysfs"],
  ["--nvlink", "audit", "--machine", "c4140", "--nvlink"],
  ["firmware", "firmware", "--device-tree"],
];

for (const [source, ...args] of SOURCES) {
  describe(`bad files for ${source}`, { concurrency: 4 }, () => {
    for (const [what, path] of FILES) {
      const absent = path.startsWith("/") && /^\/(dev|proc)/.test(path) && !existsSync(path);
      test(`${what} is refused in one line`, { skip: absent && `${path} is not there` }, async () => {
        refused(await linkfence(...args, path), `${args.join(" ")} ${path}`);
      });
    }
  });
}

describe("other bad files", { concurrency: 4 }, () => {
  const lengths = new Set([1, 3, 4, 8, 39, 40, 41, 0x48, TREE.length - 4, TREE.length - 1]);
  for (let part = 1; part < 6; part++) lengths.add(Math.floor((TREE.length * part) / 6));
  for (const length of lengths) {
    test(`a device tree cut off after ${length} bytes is refused`, async () => {
      const path = folder.file(`cut-${length}.dtb`, TREE.subarray(0, length));
      const line = refused(await linkfence("topo", "--device-tree", path), path);
      assert.match(line, /byte 0x/, "the error says where");
    });
  }

  test("a device tree in source that dtc does not take is refused, or that dtc is missing is said", async () => {
    const path = folder.file("broken.dts", "/dts-v1/;\n/ { a = <; };\n\nb\n");
    assert.match(refused(await linkfence("audit", "--device-tree", path), path), /dtc/);
  });

  test("standard input that is no lspci text or no capture is refused", async () => {
    for (const option of ["--lspci", "--capture"]) {
      refused(await run(process.execPath, [MAIN, "audit", option, "-"], { input: PNG }), option);
    }
  });

  test("a name with control characters does not reach the terminal as it is", async () => {
    const named: [string, ...string[]][] = [
      ["audit", "--device-tree", "\x1b[31mred\nline"],
      ["audit", "--machine", "\x1b[31mred\nline"],
      ["capture", "--machine", "redbud", "--out", "\x1b[31mred\nline/x"],
      ["topo", "--machine", "redbud", "--format", "\x1b[31mred\nline"],
      ["plan", "--machine", "redbud", "--assign", "\x1b[31mred\nline"],
      ["\x1b[31mred\nline"],
    ];
    for (const args of named) {
      const line = refused(await linkfence(...args), args.join(" "));
      assert.ok(!line.includes("\x1b"), args.join(" "));
    }
  });
});

/** Words after `--assign` that make no sense for a Sequoia, and what the error has to name. */
const NONSENSE: [string, RegExp][] = [
  ["", /NAME=GPU/],
  ["a", /NAME=GPU/],
  ["GPU0", /NAME=GPU/],
  ["=", /name/],
  ["=GPU0", /name/],
  ["a=", /no GPUs/],
  ["a=,", /no GPUs/],
  ["a=GPU0,", /empty/],
  ["a=GPU9", /GPU9.*GPU0, GPU1/],
  ["a=GPU", /GPU/],
  ["a=GPU0=GPU1", /GPU0=GPU1/],
  ["a=0004:07:00.0", /0004:07:00\.0/],
  ["a=0004:02:0a.0", /bridge/],
  ["a=GPU0 GPU1", /GPU0 GPU1/],
  ["host=GPU0", /host.*reserved/],
  ["a b=GPU0", /name/],
  ["../a=GPU0", /name/],
  ["-a=GPU0", /name/],
  [`${"a".repeat(65)}=GPU0`, /name/],
];

describe("bad assignments", { concurrency: 4 }, () => {
  for (const [word, names] of NONSENSE) {
    test(`--assign ${JSON.stringify(word.slice(0, 20))} is refused`, async () => {
      const args = ["plan", "--machine", "sequoia", "--assign", word];
      assert.match(refused(await linkfence(...args), word), names);
    });
  }

  for (const command of ["audit", "fence", "verify", "capture"]) {
    test(`${command} refuses them too`, async () => {
      refused(await linkfence(command, "--machine", "sequoia", "--assign", "a=GPU9"), command);
    });
  }

  test("one name for two assignments is refused", async () => {
    const assign = ["--assign", "a=GPU0", "--assign", "a=GPU1"];
    assert.match(refused(await linkfence("plan", "--machine", "sequoia", ...assign), "twice"), /twice/);
  });

  test("fence refuses a plan that cannot isolate and writes no file", async () => {
    const out = folder.path("never.json");
    const assign = ["--assign", "a=GPU0", "--assign", "b=GPU0", "--out", out];
    const line = refused(await linkfence("fence", "--machine", "sequoia", ...assign), "fence");
    assert.match(line, /nothing was touched.*GPU0 is in 2 assignments/);
    assert.equal(existsSync(out), false);
  });

  for (const command of ["plan", "fence", "verify"]) {
    test(`${command} without any assignment is refused`, async () => {
      assert.match(refused(await linkfence(command, "--machine", "sequoia"), command), /--assign/);
    });
  }
});

/** Command lines that make no sense, and what the error has to name. */
const COMMAND_LINES: [string[], RegExp][] = [
  [["nonsense"], /unknown command.*nonsense/],
  [["help", "nonsense"], /unknown command.*nonsense/],
  [["audit"], /name a machine/],
  [["topo", "--json"], /name a machine/],
  [["firmware"], /--device-tree/],
  [["firmware", "--machine", "sequoia"], /--device-tree/],
  [["--nonsense"], /--nonsense/],
  [["audit", "--nonsense"], /--nonsense/],
  [["audit", "--machine"], /--machine/],
  [["audit", "--machine", "nonsense"], /nonsense.*redbud, sequoia/],
  [["audit", "--machine", ""], /redbud/],
  [["audit", "--machine", "Sequoia"], /Sequoia.*sequoia/],
  [["audit", "--machine", "__proto__"], /__proto__/],
  [["audit", "extra", "--machine", "sequoia"], /too many arguments/],
  [["audit", "--machine", "sequoia", "--lspci", "-"], /--machine and --lspci/],
  [["audit", "--live", "--sysfs", "/"], /--live and --sysfs/],
  [["audit", "--machine", "sequoia", "--machine", "redbud"], /sequoia and redbud/],
  [["topo", "--machine", "sequoia", "--format", "xml"], /xml.*matrix/],
  [["topo", "--machine", "sequoia", "--assign", "a=GPU0"], /--assign/],
  [["audit", "--machine", "sequoia", "--isolate-nvlink=maybe"], /maybe/],
  [["audit", "--machine", "sequoia", "--isolate-nvlink="], /--isolate-nvlink/],
  [["plan", "--machine", "sequoia", "--assign", "a=GPU0", "--isolate-nvlink=2"], /2/],
  [["groups", "--machine", "sequoia", "--isolate-nvlink=o"], /--isolate-nvlink o/],
  [["capture", "--machine", "redbud", "--out", folder.path("missing/file")], /no folder/],
  [["capture", "--machine", "redbud", "--out", folder.path("folder")], /is a directory/],
  [["capture", "--machine", "redbud", "--out", folder.path("empty/file")], /not a directory/],
  [["capture", "--machine", "redbud", "--out", ""], /--out/],
  [["fence", "--machine", "redbud", "--assign", "a=GPU0", "--out", folder.path("missing/file")], /no folder/],
  [["fence", "--machine", "redbud", "--assign", "a=GPU0", "--out", folder.path("folder")], /is a directory/],
  [["fence", "--machine", "redbud", "--assign", "a=GPU0", "--json", "--out", folder.path("folder")], /is a directory/],
  [["fence", "--live", "--assign", "a=GPU77"], /GPU77/],
];

describe("bad command lines", { concurrency: 4 }, () => {
  for (const [args, names] of COMMAND_LINES) {
    const shown = args.map((arg) => arg.replace(folder.path(""), "")).join(" ");
    test(`linkfence ${shown} is refused`, async () => {
      assert.match(refused(await linkfence(...args), shown), names);
    });
  }

  test("nothing is left behind where a file could not be written", () => {
    assert.deepEqual(
      ["folder/file", "never.json"].map((name) => existsSync(folder.path(name))),
      [true, false],
    );
  });
});
