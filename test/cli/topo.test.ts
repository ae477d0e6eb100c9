import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { PNG } from "pngjs";
import { planLines } from "../../src/cli/command/plan.js";
import { table } from "../../src/cli/output.js";
import { fittedMatrixLines } from "../../src/cli/topology_matrix.js";
import { makePlan } from "../../src/isolation/plan.js";
import { BUILTIN_MACHINES, builtinMachine } from "../../src/machine/builtin.js";
import { writeCapture } from "../../src/machine/capture.js";
import { columns } from "../../src/picture/text.js";
import { missing } from "../device_tree_sample.js";
import { boardsOf } from "../made_up_boards.js";
import { json } from "./json_schema.js";
import type { FenceJson, TopoJson } from "./json_shapes.js";
import { ENVIRONMENT, linkfence, MAIN, printed, refused, run, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
const ROOT = join(import.meta.dirname, "../..");
const SEQUOIA = ["--machine", "sequoia"];
const TENANTS = ["--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2"];

/** Runs `linkfence` with only these programs to be found. */
function withPrograms(path: string, ...args: string[]) {
  const env = { ...ENVIRONMENT, PATH: path };
  return spawnSync(process.execPath, [MAIN, ...args], { env, encoding: "utf8" });
}

/** A folder with one program: a shell script. */
function programs(name: string, script: string): string {
  const path = folder.path(`programs-${name}`);
  mkdirSync(path, { recursive: true });
  const file = join(path, name);
  folder.file(`programs-${name}/${name}`, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return path;
}

describe("topo as a picture", { concurrency: 2 }, () => {
  test("the README's picture is what its command makes", async () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    const [, file, command] = /!\[[^\]]*\]\((docs\/[\w-]+\.svg)\)[^`]*`linkfence ([^`]*)`/s.exec(readme) ?? [];
    assert.ok(file !== undefined && command !== undefined, "the README shows no picture with its command");
    const args = command.split(/\s+/).filter((word) => word !== "");
    const out = folder.path("readme.svg");
    args[args.indexOf("--out") + 1] = out;
    await printed(0, ...args);
    assert.equal(readFileSync(join(ROOT, file), "utf8"), readFileSync(out, "utf8"));
  });

  test("shows what a fence has cut, and its findings before", async () => {
    const before = await printed(0, "topo", ...SEQUOIA, ...TENANTS, "--format", "svg");
    assert.equal([...before.matchAll(/data-state="up"><title>[^<]*; finding \d/g)].length, 4);
    const out = folder.path("fenced.json");
    await json<FenceJson>(0, "fence", ...SEQUOIA, ...TENANTS, "--out", out);
    const after = await printed(0, "topo", "--capture", out, "--format", "svg");
    assert.equal([...after.matchAll(/data-state="cut-both"/g)].length, 4);
    assert.doesNotMatch(after, /finding \d/);
  });

  test("every format can go to a file", async () => {
    for (const format of ["matrix", "drawing", "tree", "svg", "dot", "json"]) {
      const out = folder.path(`out.${format}`);
      assert.equal(
        await printed(0, "topo", ...SEQUOIA, "--format", format, "--out", out),
        `sequoia written to ${out}\n`,
      );
      const { stdout } = await linkfence("topo", ...SEQUOIA, "--format", format);
      assert.equal(readFileSync(out, "utf8"), stdout, format);
    }
  });

  test("assignments are in its JSON, where there are any", async () => {
    const { gpus } = await json<TopoJson>(0, "topo", ...SEQUOIA, ...TENANTS);
    assert.deepEqual(
      gpus.map(({ assignment }) => assignment),
      ["vm1", "vm1", "vm2", "host", "host", "host"],
    );
  });

  test("bad input is refused in one line, and nothing is written", async () => {
    const out = folder.path("never");
    const cases: [string[], RegExp][] = [
      [["--format", "gif"], /gif.*svg, dot, png or json/],
      [["--format", "svg", "--json"], /name one format/],
      [["--format", "svg", "--assign", "vm1=GPU9"], /no GPU "GPU9"/],
      [["--format", "svg", "--out", folder.path("absent/x.svg")], /no folder/],
      [["--format", "svg", "--out", ""], /--out needs the name/],
      [["--format", "png"], /needs --out FILE/],
    ];
    for (const [args, why] of cases) {
      assert.match(refused(await linkfence("topo", ...SEQUOIA, ...args), args.join(" ")), why);
    }
    assert.match(refused(await linkfence("topo", ...SEQUOIA, "--format", "gif", "--out", out), "gif"), /gif/);
    assert.equal(existsSync(out), false);
  });

  test("more links than anybody could see are no picture, and the matrix comes without one", async () => {
    const file = folder.file(
      "crowd.json",
      writeCapture(boardsOf(40, { gpus: 8, switches: 64 }), new Date().toISOString()),
    );
    assert.match(
      refused(await linkfence("topo", "--capture", file, "--format", "svg"), "crowd"),
      /20480 links are too many/,
    );
    const { status, stdout } = await linkfence("topo", "--capture", file);
    assert.equal(status, 0);
    assert.match(stdout, /^\tGPU0\t/);
  });
});

describe("topo as PNG", () => {
  const made = (path: string, name: string) =>
    withPrograms(path, "topo", ...SEQUOIA, "--format", "png", "--out", folder.path(name));

  test("needs a program that this system may not have, and says which", () => {
    const ran = made(folder.path("absent"), "none.png");
    assert.match(
      refused({ ...ran, status: ran.status }, "no program"),
      /install rsvg-convert \(Debian: librsvg2-bin\)/,
    );
    assert.equal(existsSync(folder.path("none.png")), false);
  });

  test("comes from a program that reads the SVG", () => {
    const path = programs("rsvg-convert", `/bin/cat >/dev/null; printf '\\211PNG\\r\\n\\032\\npixels'`);
    const { status, stderr } = made(path, "piped.png");
    assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
    assert.equal(readFileSync(folder.path("piped.png"), "latin1"), "\x89PNG\r\n\x1a\npixels");
  });

  test("comes from a browser where there is nothing else", () => {
    const path = programs(
      "chromium",
      `for arg; do case "$arg" in --screenshot=*) printf '\\211PNG\\r\\n\\032\\nshot' >"\${arg#--screenshot=}";; esac; done`,
    );
    assert.equal(made(path, "shot.png").status, 0);
    assert.equal(readFileSync(folder.path("shot.png"), "latin1"), "\x89PNG\r\n\x1a\nshot");
  });

  const noChromium = !existsSync("/usr/bin/chromium") && "no Chromium here (Debian: chromium)";
  test("is a picture of the size of the SVG by Chromium, all of it", { skip: noChromium }, async () => {
    const path = programs("chromium", 'PATH=/usr/bin:/bin exec /usr/bin/chromium "$@"');
    const { status, stderr } = made(path, "chromium.png");
    assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
    const [, width, height] =
      /viewBox="0 0 (\d+) (\d+)"/.exec(await printed(0, "topo", ...SEQUOIA, "--format", "svg")) ?? [];
    const { width: across, height: down, data } = PNG.sync.read(readFileSync(folder.path("chromium.png")));
    assert.deepEqual([across, down], [Number(width), Number(height)]);
    const dark = (from: number) => data.subarray(from * across * 4).some((value, at) => at % 4 === 0 && value < 128);
    assert.ok(dark(Math.floor(down * 0.9)), "the legend at its foot is there");
  });

  test("a browser gets a profile of its own, which is gone afterwards", () => {
    const seen = folder.path("profile.txt");
    const path = programs(
      "chromium-browser",
      `for arg; do case "$arg" in
--user-data-dir=*) printf %s "\${arg#--user-data-dir=}" >${seen};;
--screenshot=*) printf '\\211PNG\\r\\n\\032\\n' >"\${arg#--screenshot=}";; esac; done`,
    );
    assert.equal(made(path, "profile.png").status, 0);
    const profile = readFileSync(seen, "utf8");
    assert.match(profile, /^\/.*\/linkfence-png-\w+\/profile$/);
    assert.equal(existsSync(join(profile, "..")), false);
  });

  test("is no file where the program fails, or writes something else", () => {
    for (const script of ["exit 1", "echo no picture"]) {
      const ran = made(programs("rsvg-convert", script), "bad.png");
      assert.match(refused({ ...ran, status: ran.status }, script), /rsvg-convert (failed|wrote no PNG); install/);
      assert.equal(existsSync(folder.path("bad.png")), false);
    }
  });

  test("is a picture of the size of the SVG by rsvg-convert", { skip: missing("rsvg-convert") }, async () => {
    const out = folder.path("real.png");
    await printed(0, "topo", ...SEQUOIA, "--format", "png", "--out", out);
    const [, width, height] =
      /viewBox="0 0 (\d+) (\d+)"/.exec(await printed(0, "topo", ...SEQUOIA, "--format", "svg")) ?? [];
    const bytes = readFileSync(out);
    assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [Number(width), Number(height)]);
  });
});

describe("texts on a terminal of 80 columns", { skip: missing("script"), concurrency: 2 }, () => {
  const long = "an-owner-with-a-name-of-64-characters-that-somebody-chose-for-it";
  for (const command of ["audit", "groups", "plan", "verify", "fence", "topo", "topo --format tree"]) {
    test(`${command} is no wider, whatever an owner is called`, async () => {
      const owners = command === "groups" ? "" : `--assign ${long}=GPU0 --assign vm2=GPU1`;
      const line = `stty cols 80; "${process.execPath}" "${MAIN}" ${command} --machine hgx-a100-4 ${owners}`;
      const { stdout } = await run("env", ["TERM=xterm", "LANG=C.UTF-8", "script", "-qec", line, "/dev/null"]);
      assert.match(stdout, /GPU3/);
      for (const text of stripVTControlCharacters(stdout).split(/\r?\n/)) assert.ok(columns(text) <= 80, text);
    });
  }
});

describe("topo on a terminal", { skip: missing("script"), concurrency: 2 }, () => {
  const onTerminal = (environment: string[], ...args: string[]) => {
    const command = `stty cols 80; "${process.execPath}" "${MAIN}" topo ${args.join(" ")}`;
    const bare = ["-u", "NO_COLOR", "-u", "CI", "-u", "LC_ALL", "-u", "LC_CTYPE", "TERM=xterm"];
    return run("env", [...bare, ...environment, "script", "-qec", command, "/dev/null"]);
  };

  test("colours only there, and not with NO_COLOR", async () => {
    const coloured = await onTerminal(["LANG=C.UTF-8"], ...SEQUOIA, ...TENANTS);
    assert.ok(coloured.stdout.includes("\u001b[31m"), "what must not be is red");
    for (const quiet of ["NO_COLOR=1", "TERM=dumb"]) {
      const plain = await onTerminal(["LANG=C.UTF-8", quiet], ...SEQUOIA, ...TENANTS);
      assert.equal(plain.stdout.includes("\u001b"), false, quiet);
    }
    assert.equal((await linkfence("topo", ...SEQUOIA, ...TENANTS)).stdout.includes("\u001b"), false, "a pipe");
  });

  test("a file has no colours, whatever standard output is", async () => {
    const out = folder.path("coloured.txt");
    await onTerminal(["LANG=C.UTF-8"], ...SEQUOIA, ...TENANTS, "--format", "drawing", "--out", out);
    const text = readFileSync(out, "utf8");
    assert.ok(text.includes("GPU0"));
    assert.equal(text.includes("\u001b"), false);
  });

  test("box signs only where the locale has them", async () => {
    assert.match((await onTerminal(["LANG=C.UTF-8"], ...SEQUOIA)).stdout, /┌─+┐/);
    for (const format of [[], ["--format", "tree"]]) {
      const { stdout } = await onTerminal(["LANG=C"], ...SEQUOIA, ...format);
      assert.doesNotMatch(stdout, /[\u2500-\u259f]/);
    }
  });

  test("80 columns are enough for the matrix and the drawing", async () => {
    const { stdout } = await onTerminal(["LANG=C.UTF-8", "NO_COLOR=1"], "--machine", "dgx1v");
    assert.match(stdout, /NUMA\r?\n.*\bX\b/, "the matrix is there");
    for (const line of stdout.split(/\r?\n/)) assert.ok(columns(line) <= 80, line);
  });
});

describe("tables", { concurrency: 2 }, () => {
  for (const machine of BUILTIN_MACHINES.map(({ name }) => builtinMachine(name))) {
    test(`of ${machine.name} fit 80 columns`, () => {
      const members = (from: number) => machine.gpus.slice(from, from + 1).map(({ address }) => address);
      const assignments = [
        { name: "vm1", members: members(1) },
        { name: "vm2", members: members(2) },
      ];
      const [plan = ""] = planLines(makePlan(machine, assignments));
      for (const line of [...fittedMatrixLines(machine, 80), ...plan.split("\n")]) assert.ok(line.length <= 80, line);
    });
  }

  test("of what was fenced and verified do, with twelve links", async () => {
    for (const command of ["fence", "verify"]) {
      const { stdout } = await linkfence(command, "--machine", "hgx-a100-4", "--assign", "vm1=GPU1");
      const rows = stdout.split("\n").filter((line) => /^GPU\d? /.test(line));
      assert.equal(rows.length, 5, stdout);
      for (const row of rows) assert.ok(row.length <= 80, row);
    }
  });

  test("have cells of several lines where a terminal is narrower", () => {
    const name = "an-owner-with-a-name-of-64-characters-that-somebody-chose-for-it";
    const rows = [
      ["GPU0", "0000:41:00.0", name, "0-11"],
      ["日本", "0000:42:00.0", "b", "SPARSE_MMAP 0x0+0x400000000; TYPE 0x800010de subtype 1"],
    ];
    assert.deepEqual(table(["GPU", "address", "owner", "cut"], rows, 60).split("\n"), [
      "GPU   address       owner                cut",
      "GPU0  0000:41:00.0  an-owner-with-a-nam  0-11",
      "                    e-of-64-characters-",
      "                    that-somebody-chose",
      "                    -for-it",
      "日本  0000:42:00.0  b                    SPARSE_MMAP",
      "                                         0x0+0x400000000;",
      "                                         TYPE 0x800010de",
      "                                         subtype 1",
    ]);
    const wide = table(["GPU", "address", "owner", "cut"], rows, 200).split("\n");
    assert.equal(wide.length, 3);
    assert.ok(wide[1]?.includes(name));
  });

  test("a matrix that no terminal has room for is not shown, but how to see it", () => {
    assert.match(
      fittedMatrixLines(boardsOf(9, { gpus: 8, switches: 1 }), 80).join("\n"),
      /^the matrix of 72 GPUs .{1,58} less -S$/,
    );
  });
});
