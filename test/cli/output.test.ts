import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { builtinMachine } from "../../src/machine/builtin.js";
import { writeCapture } from "../../src/machine/capture.js";
import { parseTopoMatrix } from "../../src/machine/nvidia_smi/topo.js";
import { PROJECT } from "../project_folder.js";
import { conforming, json } from "./json_schema.js";
import type { AuditJson, FenceJson, TopoJson } from "./json_shapes.js";
import { linkfence, linkfenceProcess, MAIN, printed, refused, run, scratchFolder } from "./linkfence.js";
import { ServingProcess } from "./serving_process.js";

const folder = scratchFolder();
const START = join(PROJECT, "scripts/start.mjs");
const APART = [0, 1, 2, 3].flatMap((gpu) => ["--assign", `vm${gpu}=GPU${gpu}`]);
const TENANTS = ["--assign", "a=GPU0,GPU1", "--assign", "b=GPU2"];

const LEGEND = `
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks
`;

/** The matrix as `nvidia-smi topo -m` prints it: tabs, and blanks about the X. */
function matrix(rows: readonly string[], nodes: readonly number[]): string {
  const names = rows.map((_, index) => `GPU${index}`);
  const lines = rows.map((row, index) => {
    const cells = row.split(" ").map((cell) => (cell === "X" ? " X " : cell));
    return [names[index], ...cells, "N/A", "", nodes[index]].join("\t");
  });
  return `${["", ...names, "CPU Affinity", "NUMA Affinity"].join("\t")}\n${lines.join("\n")}\n${LEGEND}`;
}

const SEQUOIA_NODES = [0, 0, 0, 8, 8, 8];
const OTHER_SOCKET = ["SYS SYS SYS X NV2 NV2", "SYS SYS SYS NV2 X NV2", "SYS SYS SYS NV2 NV2 X"];

/** Machine, assignments, matrix before the fence and after it. */
const MATRICES: [string, string[], string, string][] = [
  [
    "sequoia",
    TENANTS,
    matrix(["X NV2 NV2 SYS SYS SYS", "NV2 X NV2 SYS SYS SYS", "NV2 NV2 X SYS SYS SYS", ...OTHER_SOCKET], SEQUOIA_NODES),
    matrix(["X NV2 PIX SYS SYS SYS", "NV2 X PIX SYS SYS SYS", "PIX PIX X SYS SYS SYS", ...OTHER_SOCKET], SEQUOIA_NODES),
  ],
  [
    "c4140",
    APART,
    matrix(["X NV2 NV2 NV2", "NV2 X NV2 NV2", "NV2 NV2 X NV2", "NV2 NV2 NV2 X"], [0, 0, 0, 0]),
    matrix(["X PIX PIX PIX", "PIX X PIX PIX", "PIX PIX X PIX", "PIX PIX PIX X"], [0, 0, 0, 0]),
  ],
];

describe("topo", { concurrency: 4 }, () => {
  for (const [machine, assign, before, after] of MATRICES) {
    test(`the matrix of ${machine} is exactly that of nvidia-smi, before the fence and after`, async () => {
      const out = folder.path(`${machine}.json`);
      await json<FenceJson>(0, "fence", "--machine", machine, ...assign, "--out", out);
      const sources = [
        ["--machine", machine, before],
        ["--capture", out, after],
      ] as const;
      for (const [option, name, expected] of sources) {
        const whole = await linkfence("topo", option, name);
        assert.ok(whole.stdout.startsWith(`${expected}\n`), whole.stdout);
        const [of, drawn] = [parseTopoMatrix(expected), parseTopoMatrix(whole.stdout)];
        assert.deepEqual(drawn, of, "the drawing below it is not taken for a matrix");
        const ran = await linkfence("topo", option, name, "--format", "matrix");
        assert.equal(ran.stdout, expected);
        assert.equal(ran.stderr, `linkfence: ${machine} is virtual hardware\n`, "said where it is not in the matrix");
        const parsed = parseTopoMatrix(ran.stdout);
        const topo = await json<TopoJson>(0, "topo", option, name);
        assert.deepEqual(
          parsed?.gpus.map((gpu) => [...(parsed.cells.get(gpu)?.values() ?? [])]),
          topo.matrix,
          "the parser of nvidia-smi's matrix reads ours",
        );
        assert.equal(topo.virtual, true);
      }
    });
  }

  test("dgx1v is the hybrid cube mesh", async () => {
    const { matrix: cells } = await json<TopoJson>(0, "topo", "--machine", "dgx1v");
    const links = cells.map((row) => row.map((cell) => (cell.startsWith("NV") ? cell.slice(2) : ".")).join(""));
    assert.deepEqual(links, [
      ".1122...",
      "1.21.2..",
      "12.2..1.",
      "212....1",
      "2....112",
      ".2..1.21",
      "..1.12.2",
      "...1212.",
    ]);
  });

  test("the tree shows every GPU with its links, and says which are cut", async () => {
    const text = await printed(0, "topo", "--machine", "sequoia", "--format", "tree");
    assert.equal([...text.matchAll(/GPU\d GV100$/gm)].length, 6);
    assert.equal([...text.matchAll(/^.*link \d → .*: up/gm)].length, 36);
    const out = folder.path("tree.json");
    await json<FenceJson>(0, "fence", "--machine", "c4140", ...APART, "--out", out);
    const cut = await printed(0, "topo", "--capture", out, "--format", "tree");
    assert.equal([...cut.matchAll(/cut at both ends/g)].length, 24);
  });
});

/** Runs the command line with a reader that goes away after the first bytes. */
function readAndLeave(...args: string[]): Promise<{ status: number | null; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.stdout.once("data", () => child.stdout.destroy());
    child.on("error", reject).on("close", (status) => resolve({ status, stderr }));
  });
}

describe("standard output", { concurrency: 4 }, () => {
  test("a reader that leaves early is no failure, and the exit code is that of the whole", async () => {
    const runs: [number, ...string[]][] = [
      [0, "capture", "--machine", "dgx1v"],
      [1, "audit", "--machine", "dgx1v", "--json"],
      [0, "groups", "--machine", "dgx1v"],
      [0, "fence", "--machine", "dgx1v", "--assign", "a=GPU0"],
    ];
    for (const [status, ...args] of runs) {
      assert.deepEqual(await readAndLeave(...args), { status, stderr: "" }, args.join(" "));
    }
  });

  test("a reader that leaves early does not keep a fence from being finished and written down", async () => {
    const out = folder.path("left.json");
    await readAndLeave("fence", "--machine", "c4140", ...APART, "--out", out);
    assert.deepEqual((await json<AuditJson>(0, "audit", "--capture", out)).findings, []);
  });

  test("a full disk is a failure of one line", { skip: !existsSync("/dev/full") && "no /dev/full" }, async () => {
    for (const command of ["audit", "capture"]) {
      const ran = await run("sh", [
        "-c",
        `exec "$0" "$1" ${command} --machine redbud > /dev/full`,
        process.execPath,
        MAIN,
      ]);
      assert.match(refused(ran, command), /no space left/i);
    }
  });

  const texts = [
    ["audit", "--machine", "c4140"],
    ["groups", "--machine", "c4140"],
    ["topo", "--machine", "c4140"],
    ["topo", "--machine", "c4140", "--format", "tree"],
    ["plan", "--machine", "c4140", "--assign", "a=GPU0"],
    ["fence", "--machine", "c4140", "--assign", "a=GPU0"],
    ["verify", "--machine", "c4140", "--assign", "a=GPU0"],
  ];
  for (const args of texts) {
    test(`${args.join(" ")} has no colours where no terminal is, nor blanks at the ends of lines`, async () => {
      const process = await linkfenceProcess(...args);
      assert.deepEqual(await linkfence(...args), process, "what other tests go by is what a process prints");
      const { stdout, status } = process;
      assert.ok(status === 0 || status === 1);
      assert.ok(stdout.length > 100);
      assert.ok(!stdout.includes("\x1b"));
      assert.doesNotMatch(stdout, /[ \r]\n|undefined|\[object|NaN/);
    });
  }

  test("a name that turns the order of letters turns nothing", async () => {
    const { gpus, ...rest } = builtinMachine("c4140");
    const named = gpus.map((gpu) => ({ ...gpu, name: `\u202e${gpu.name}\u2066` }));
    const file = folder.file("turning.json", writeCapture({ ...rest, name: "\u202egnp", gpus: named }, "2026-01-01"));
    const commands = [
      "audit",
      "groups",
      "topo",
      "topo --format tree",
      "topo --format drawing",
      "plan --assign a=0000:1a:00.0",
    ];
    for (const command of commands) {
      const { stdout } = await linkfence(...command.split(" "), "--capture", file);
      assert.match(stdout, /\?GPU0/, command);
      assert.doesNotMatch(stdout, /[\u202e\u2066]/, command);
    }
  });

  const noScript = spawnSync("script", ["--version"]).error !== undefined && "script is not installed";
  test("a terminal gets colours, unless NO_COLOR says no", { skip: noScript }, async () => {
    const command = `stty cols 400; "${process.execPath}" "${MAIN}" audit --machine c4140`;
    const onTerminal = (...environment: string[]) =>
      run("env", ["-u", "NO_COLOR", "-u", "CI", "TERM=xterm", ...environment, "script", "-qec", command, "/dev/null"]);
    const plain = await linkfence("audit", "--machine", "c4140");
    const [coloured, without] = await Promise.all([onTerminal(), onTerminal("NO_COLOR=1")]);
    assert.ok(coloured.stdout.includes("\x1b[31mFINDING"), coloured.stdout);
    assert.equal(without.stdout.replaceAll("\r", ""), plain.stdout);
    assert.equal(stripVTControlCharacters(coloured.stdout).replaceAll("\r", ""), plain.stdout);
  });

  test("--out writes into a pipe and a device as they are, and over a file", async () => {
    const out = folder.file("old.json", "old");
    await json(0, "capture", "--machine", "redbud", "--out", out);
    assert.ok(readFileSync(out, "utf8").startsWith('{\n  "linkfence": "capture"'));
    const fifo = folder.path("fifo");
    if (spawnSync("mkfifo", [fifo]).status === 0) {
      const [reader] = await Promise.all([
        run("cat", [fifo]),
        printed(0, "capture", "--machine", "redbud", "--out", fifo),
      ]);
      conforming("capture-file", reader.stdout);
      assert.ok(statSync(fifo).isFIFO(), "no file in its place");
    }
  });
});

describe("help and start", { concurrency: 4 }, () => {
  test("help names every command and exit code, with one look or with none", async () => {
    const [bare, long, word] = await Promise.all([printed(0), printed(0, "--help"), printed(0, "help")]);
    assert.deepEqual([long, word], [bare, bare]);
    for (const command of ["audit", "topo", "groups", "plan", "fence", "verify", "capture", "firmware"]) {
      assert.match(bare, new RegExp(`^ +${command} `, "m"));
    }
    assert.match(bare, /Exit codes: 0 fine, 1 a finding, 2 bad input or failure/);
    assert.match(await printed(0, "--version"), /^\d+\.\d+\.\d+\n$/);
  });

  for (const command of ["audit", "fence", "capture"]) {
    test(`${command} --help names the sources`, async () => {
      const text = await printed(0, command, "--help");
      for (const option of ["--live", "--machine", "--device-tree", "--capture", "--lspci", "--sysfs", "--json"]) {
        assert.ok(text.includes(option), option);
      }
    });
  }

  test("npm start fences the virtual Sequoia for two VMs, shows it, and serves them until Ctrl-C", async () => {
    const elsewhere = folder.path("elsewhere");
    mkdirSync(elsewhere);
    const start = new ServingProcess([START], { cwd: elsewhere, env: { ...process.env, TMPDIR: elsewhere } });
    await start.line((line) => line.startsWith("Ctrl-C"));
    const stdout = start.lines.join("\n");
    const [, , before, after] = MATRICES[0] ?? [];
    const rows = (text = "") => text.slice(0, text.indexOf("\n\n"));
    assert.ok(stdout.indexOf(rows(before)) > 0, "the matrix before");
    assert.ok(stdout.indexOf(rows(after)) > stdout.indexOf(rows(before)), "the matrix after");
    for (const line of [
      /GPU0 and GPU1 go to vm1, GPU2 to vm2/,
      /GPU0 .*sequence: cut links 2, 3 of GPU0 \(mask 0x000c0000\)/,
      /GPU2 .*sequence: cut links 0, 1, 2, 4 of GPU2 \(mask 0x00170000\)/,
      /4 links cut at both ends/,
      /fenced, serving 9 functions: vm1 \(GPU0 GPU1\), vm2 \(GPU2\)/,
      /virtual hardware/,
      /^look: http:\/\/127\.0\.0\.1:\d+\/$/m,
      /npx linkfence audit --live/,
    ]) {
      assert.match(stdout, line);
    }
    const [, page = ""] = /^look: (.*)$/m.exec(stdout) ?? [];
    assert.match(await (await fetch(page)).text(), /^<!doctype html>/i);
    const [status = ""] = /linkfence status --socket-dir \S+/.exec(stdout) ?? [];
    assert.match(await printed(0, ...status.split(" ").slice(1)), /^sequoia \(virtual\)/);
    assert.deepEqual(await start.end("SIGINT"), { status: 0, signal: null });
    assert.deepEqual(readdirSync(elsewhere), [], "nothing is left behind");
  });
});
