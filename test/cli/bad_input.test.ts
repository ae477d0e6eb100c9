import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, truncateSync } from "node:fs";
import { describe, test } from "node:test";
import { linkfence, linkfenceProcess, MAIN, refused, run, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
const TREE = readFileSync(new URL("../data/devicetree/board.dtb", import.meta.url));
/** What a PNG begins with, and bytes of no meaning behind it. */
const PNG = Uint8Array.from({ length: 4096 }, (_, i) => [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10][i] ?? (i * 167) % 251);

/** What no source can be read from, whichever it is. */
const FILES: [string, string][] = [
  ["an empty file", folder.file("empty", "")],
  ["a PNG", folder.file("picture.png", PNG)],
  ["a sparse file of 1 GiB", folder.file("sparse", "")],
  ["a folder that is something else", folder.path("folder")],
  ["a file that is not there", folder.path("missing")],
  ["a file that cannot be read", "/proc/self/mem"],
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
];

for (const [source, ...args] of SOURCES) {
  describe(`bad files for ${source}`, { concurrency: 4 }, () => {
    for (const [what, path] of FILES) {
      const absent = path.startsWith("/proc") && !existsSync(path) && `${path} is not there`;
      test(`${what} is refused in one line`, { skip: absent }, async () => {
        refused(await linkfence(...args, path), `${args.join(" ")} ${path}`);
      });
    }
  });
}

/** More of them, each for one source. */
const OTHER_FILES: [string, ...string[]][] = [
  ["a PNG", "firmware", "--device-tree", folder.path("picture.png")],
  ["a sparse file of 1 GiB", "firmware", "--device-tree", folder.path("sparse")],
  ["a file below a file", "audit", "--capture", folder.path("empty/file")],
  ["an endless device", "audit", "--device-tree", "/dev/zero"],
  ["a device tree of another platform", "firmware", "--device-tree", folder.file("tree.dtb", TREE)],
];

describe("other bad files", { concurrency: 4 }, () => {
  for (const [what, ...args] of OTHER_FILES) {
    test(`${what} is refused by ${args[0]} ${args[1]}`, async () => {
      refused(await linkfence(...args), what);
    });
  }

  const half = Math.floor(TREE.length / 2);
  for (const length of [1, 39, 40, half, TREE.length - 1]) {
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
      refused(await run(process.execPath, [MAIN, "audit", option, "-"], PNG), option);
    }
  });

  test("a name with control characters does not reach the terminal as it is", async () => {
    const named: [string, ...string[]][] = [
      ["audit", "--device-tree", "\x1b[31mred\nline"],
      ["audit", "--machine", "\x1b[31mred\nline"],
      ["capture", "--machine", "redbud", "--out", "\x1b[31mred\nline/x"],
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
  ["=GPU0", /name/],
  ["a=", /no GPUs/],
  ["a=,", /no GPUs/],
  ["a=GPU0,", /empty/],
  ["a=GPU9", /GPU9.*GPU0, GPU1/],
  ["a=GPU0=GPU1", /GPU0=GPU1/],
  ["a=0004:07:00.0", /0004:07:00\.0/],
  ["a=0004:02:0a.0", /bridge/],
  ["host=GPU0", /host.*reserved/],
  ["../a=GPU0", /name/],
  [`${"a".repeat(65)}=GPU0`, /name/],
];

describe("bad assignments", { concurrency: 4 }, () => {
  for (const [word, names] of NONSENSE) {
    test(`--assign ${JSON.stringify(word.slice(0, 20))} is refused`, async () => {
      const args = ["plan", "--machine", "sequoia", "--assign", word];
      assert.match(refused(await linkfence(...args), word), names);
    });
  }

  for (const command of ["audit", "fence", "capture"]) {
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

  for (const command of ["fence", "verify"]) {
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
  [["firmware"], /--device-tree/],
  [["--nonsense"], /--nonsense/],
  [["audit", "--nonsense"], /--nonsense/],
  [["audit", "--machine"], /--machine/],
  [["audit", "--machine", "nonsense"], /nonsense.*redbud, sequoia/],
  [["audit", "--machine", "Sequoia"], /Sequoia.*sequoia/],
  [["audit", "--machine", "__proto__"], /__proto__/],
  [["audit", "extra", "--machine", "sequoia"], /too many arguments/],
  [["audit", "--machine", "sequoia", "--lspci", "-"], /--machine and --lspci/],
  [["audit", "--live", "--sysfs", "/"], /--live and --sysfs/],
  [["audit", "--machine", "sequoia", "--machine", "redbud"], /sequoia and redbud/],
  [["topo", "--machine", "sequoia", "--format", "xml"], /xml.*matrix/],
  [["groups", "--machine", "sequoia", "--assign", "a=GPU0"], /--assign/],
  [["audit", "--machine", "sequoia", "--isolate-nvlink=maybe"], /maybe/],
  [["audit", "--machine", "sequoia", "--isolate-nvlink="], /--isolate-nvlink/],
  [["plan", "--machine", "sequoia", "--assign", "a=GPU0", "--isolate-nvlink=2"], /2/],
  [["capture", "--machine", "redbud", "--out", folder.path("missing/file")], /no folder/],
  [["capture", "--machine", "redbud", "--out", folder.path("folder")], /is a directory/],
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

  test("a process ends and says so as well", async () => {
    for (const args of [["nonsense"], ["audit", "--machine", "nonsense"]]) {
      const ran = await linkfenceProcess(...args);
      refused(ran, args.join(" "));
      assert.deepEqual(await linkfence(...args), ran, "what the tests here go by");
    }
  });

  test("nothing is left behind where a file could not be written", () => {
    assert.deepEqual(
      ["folder/file", "never.json"].map((name) => existsSync(folder.path(name))),
      [true, false],
    );
  });
});
