import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { missing } from "../device_tree_sample.js";
import { madeUpConfig, madeUpFunction, madeUpHost } from "../made_up_host.js";
import { conforming, json } from "./json_schema.js";
import type { AuditJson, CaptureJson, FenceJson, GroupsJson, PlanJson, TopoJson } from "./json_shapes.js";
import { linkfence, MAIN, printed, run, scratchFolder, sharedFile } from "./linkfence.js";

const folder = scratchFolder();
const MAIL = sharedFile("seeds/000_4eafd4601dd51eac.txt");
const FIRMWARE_TREE = sharedFile("data/op920.wsp.dtb");
const NO_FIRMWARE_TREE = FIRMWARE_TREE === undefined && "op920.wsp.dtb is not at hand";

function testData(name: string): string {
  return fileURLToPath(new URL(`../data/${name}`, import.meta.url));
}

/** How lspci -Dv shows four V100s, each in a group of its own. */
const FOUR_V100S = ["1a", "1c", "1d", "1e"]
  .map(
    (bus, index) =>
      `0000:${bus}:00.0 3D controller [0302]: NVIDIA Corporation GV100GL [Tesla V100 SXM2 16GB] [10de:1db1] (rev a1)\n` +
      `\tFlags: bus master, fast devsel, latency 0, IRQ 11, NUMA node 0, IOMMU group ${30 + index}\n` +
      `\tMemory at 9${index}000000 (32-bit, non-prefetchable) [size=16M]\n\tKernel driver in use: vfio-pci\n`,
  )
  .join("\n");

describe("audit of built-in machines", { concurrency: 4 }, () => {
  test("c4140: exit 1, and a line for each pair that groups separate and NVLink joins", async () => {
    const text = await printed(1, "audit", "--machine", "c4140");
    const pairs = [...text.matchAll(/^FINDING nvlink: IOMMU groups separate (GPU\d) and (GPU\d), NVLink joins them/gm)];
    assert.deepEqual(
      pairs.map(([, a, b]) => `${a} ${b}`),
      ["GPU0 GPU1", "GPU0 GPU2", "GPU0 GPU3", "GPU1 GPU2", "GPU1 GPU3", "GPU2 GPU3"],
    );
    assert.equal([...text.matchAll(/→ cut links \d, \d of GPU\d/g)].length, 6, "each says what would separate them");
    assert.match(text, /c4140 \(virtual\)/);
  });

  const counts: [string, number][] = [
    ["redbud", 0],
    ["sequoia", 0],
    ["minsky", 2],
    ["c4140", 6],
    ["dgx1v", 16],
    ["hgx-a100-4", 6],
  ];
  for (const [machine, count] of counts) {
    test(`${machine} has ${count} findings`, async () => {
      const audit = await json<AuditJson>(count > 0 ? 1 : 0, "audit", "--machine", machine);
      assert.equal(audit.findings.length, count);
      assert.ok(audit.findings.every(({ kind, functions }) => kind === "nvlink" && functions.length === 2));
      assert.equal(audit.virtual, true);
    });
  }

  test("with assignments each is an owner, and what one owner holds is no finding", async () => {
    const halves = ["--assign", "a=GPU0,GPU1", "--assign", "b=GPU2,GPU3"];
    assert.equal((await json<AuditJson>(1, "audit", "--machine", "c4140", ...halves)).findings.length, 4);
    await json<AuditJson>(0, "audit", "--machine", "c4140", "--assign", "all=GPU0,GPU1,GPU2,GPU3");
    await json<AuditJson>(1, "audit", "--machine", "sequoia", "--assign", "a=GPU0");
    await json<AuditJson>(0, "audit", "--machine", "sequoia", "--assign", "a=GPU0,GPU1,GPU2");
  });

  const truths: [string, number][] = [
    ["--isolate-nvlink", 1],
    ["--isolate-nvlink=1", 1],
    ["--isolate-nvlink=oN", 1],
    ["--isolate-nvlink=nonsense", 0],
    ["--isolate-nvlink=F", 0],
    ["--isolate-nvlink=of", 0],
  ];
  for (const [option, status] of truths) {
    test(`sequoia with ${option}, as the kernel reads it, exits ${status}`, async () => {
      const audit = await json<AuditJson>(status, "audit", "--machine", "sequoia", option);
      assert.equal(audit.findings.length, 6 * status);
    });
  }

  test("sequoia with isolate_nvlink is clean once it is fenced", async () => {
    const out = folder.path("isolated.json");
    const alone = [0, 1, 2, 3, 4, 5].flatMap((gpu) => ["--assign", `vm${gpu}=GPU${gpu}`]);
    await json<FenceJson>(0, "fence", "--machine", "sequoia", "--isolate-nvlink", ...alone, "--out", out);
    await json<AuditJson>(0, "audit", "--capture", out, "--isolate-nvlink");
  });
});

describe("lspci and nvidia-smi", { concurrency: 4 }, () => {
  test("a mail with three listings names three GPUs and what is not known about them", {
    skip: MAIL === undefined && "the mail with the listings is not at hand",
  }, async () => {
    const text = await printed(1, "audit", "--lspci", MAIL ?? "");
    for (const gpu of [/0000:03:00\.0 .*K80.*no NVLink/, /000a:01:00\.0 .*4 NVLinks/, /0035:03:00\.0 .*6 NVLinks/]) {
      assert.match(text, gpu);
    }
    const audit = await json<AuditJson>(1, "audit", "--lspci", MAIL ?? "");
    assert.deepEqual(
      audit.findings.map(({ kind, functions, links }) => [kind, functions, links.length]),
      [
        ["unknown-far-end", ["000a:01:00.0"], 4],
        ["unknown-far-end", ["0035:03:00.0"], 6],
      ],
    );
    const told = new Set(audit.unknown.flatMap((unknown) => unknown.functions));
    assert.deepEqual([...told].sort(), ["0000:03:00.0", "000a:01:00.0", "0035:03:00.0"]);
    assert.equal("virtual" in audit, false, "a listing is of real hardware");
  });

  test("standard input is read as a file is", async () => {
    const path = folder.file("v100s.txt", FOUR_V100S);
    const fromFile = await json<AuditJson>(1, "audit", "--lspci", path);
    const piped = await run(process.execPath, [MAIN, "audit", "--lspci", "-", "--json"], FOUR_V100S);
    assert.deepEqual(conforming("audit", piped.stdout), fromFile);
    assert.equal(fromFile.findings.length, 4);
    assert.ok(fromFile.findings.every(({ kind }) => kind === "unknown-far-end"));
  });

  test("far ends from nvidia-smi turn unknown links into pairs, and a matrix that agrees adds nothing", async () => {
    const args = ["--lspci", folder.file("told.txt", FOUR_V100S)];
    for (const form of ["nvlink-pci", "nvlink-remote"]) {
      args.push(
        "--nvlink",
        testData(`nvidia-smi/c4140-${form}.txt`),
        "--nvlink",
        testData("nvidia-smi/c4140-topo.txt"),
      );
      const audit = await json<AuditJson>(1, "audit", ...args);
      assert.deepEqual(
        audit.findings.map(({ kind }) => kind),
        Array(6).fill("nvlink"),
        form,
      );
    }
  });

  test("GPUs that nothing shows to be apart on PCIe, or whose part nobody can fence, make a plan with problems", async () => {
    const groupless = FOUR_V100S.replaceAll(/, IOMMU group \d+/g, "");
    const unknownPart = FOUR_V100S.replaceAll("GV100GL [Tesla V100 SXM2 16GB] [10de:1db1]", "Device [10de:2330]");
    const cases: [string, string][] = [
      ["pcie-not-separated", folder.file("groupless.txt", groupless)],
      ["part-without-fence", folder.file("unknown-part.txt", unknownPart)],
    ];
    for (const [kind, path] of cases) {
      const assign = ["--assign", "a=0000:1a:00.0", "--assign", "b=0000:1c:00.0"];
      const plan = await json<PlanJson>(1, "plan", "--lspci", path, ...assign);
      assert.ok(
        plan.problems.some((problem) => problem.kind === kind && problem.severity === "error"),
        kind,
      );
    }
  });

  test("far ends that are told count although nothing is known of IOMMU groups", async () => {
    const path = folder.file("no-groups.txt", FOUR_V100S.replaceAll(/, IOMMU group \d+/g, ""));
    const links = testData("nvidia-smi/c4140-nvlink-remote.txt");
    const audit = await json<AuditJson>(1, "audit", "--lspci", path, "--nvlink", links);
    assert.equal(audit.findings.filter(({ kind }) => kind === "nvlink").length, 6);
    assert.ok(!JSON.stringify(audit.unknown).includes("far ends"));
  });

  test("our own matrix is a cross-check: none of before the fence, all pairs of after it", async () => {
    const out = folder.path("fenced.json");
    const alone = [0, 1, 2, 3].flatMap((gpu) => ["--assign", `vm${gpu}=GPU${gpu}`]);
    await json<FenceJson>(0, "fence", "--machine", "c4140", ...alone, "--out", out);
    const matrices = [
      (await linkfence("topo", "--machine", "c4140")).stdout,
      (await linkfence("topo", "--capture", out)).stdout,
    ];
    const counts = matrices.map(async (matrix, index) => {
      const path = folder.file(`matrix-${index}.txt`, matrix);
      const audit = await json<AuditJson>(1, "audit", "--machine", "c4140", "--nvlink", path);
      return audit.findings.filter(({ kind }) => kind === "disagreement").length;
    });
    assert.deepEqual(await Promise.all(counts), [0, 6]);
  });
});

describe("Linux hosts", { concurrency: 4 }, () => {
  const nobody = process.getuid?.() === 0 && existsSync("/usr/bin/setpriv");

  test("this host is audited as it is, whatever it has", async () => {
    for (const command of ["audit", "groups", "topo"]) {
      const ran = await linkfence(command, "--live", "--json");
      assert.ok(ran.status === 0 || (command === "audit" && ran.status === 1), ran.stderr);
      assert.equal(ran.stderr, "");
      assert.equal("virtual" in conforming<AuditJson | GroupsJson | TopoJson>(command, ran.stdout), false);
    }
  });

  test("an ordinary user may audit it too", {
    skip: !nobody && "not root, so the others are of an ordinary user",
  }, async (t) => {
    const user = ["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath];
    if (spawnSync("setpriv", [...user, "-e", `require("fs").accessSync("${MAIN}")`]).status !== 0) {
      t.skip("nobody may not read this folder");
      return;
    }
    const ran = await run("setpriv", [...user, MAIN, "audit", "--live", "--json"]);
    assert.ok(ran.status === 0 || ran.status === 1, ran.stderr);
    assert.equal(ran.stderr, "");
    conforming("audit", ran.stdout);
  });

  test("a host without PCI is a machine without functions", async (t) => {
    const root = madeUpHost(t, { sys: "folder/" });
    const audit = await json<AuditJson>(0, "audit", "--sysfs", root);
    assert.deepEqual(audit.findings, []);
    assert.deepEqual((await json<GroupsJson>(0, "groups", "--sysfs", root)).now, []);
    assert.deepEqual((await json<TopoJson>(0, "topo", "--sysfs", root)).matrix, []);
    assert.match(await printed(0, "audit", "--sysfs", root), /no GPUs/);
  });

  test("a host with two V100s: groups are the kernel's, links are found by nvidia-smi, and a bound GPU is not touched", async (t) => {
    const files = (bar0: number) => ({
      config: madeUpConfig({ size: 64, ids: [0x10de, 0x1db1], classCode: 0x030200, bar0 }),
      vendor: "0x10de\n",
      device: "0x1db1\n",
      class: "0x030200\n",
    });
    const root = madeUpHost(t, {
      ...madeUpFunction("pci0000:00", "0000:1a:00.0", {
        ...files(0x90000000),
        driver: { link: "../../../bus/pci/drivers/nvidia" },
      }),
      ...madeUpFunction("pci0000:17", "0000:1c:00.0", files(0xa0000000)),
      "sys/bus/pci/drivers/nvidia": "folder/",
      "sys/kernel/iommu_groups/7/devices/0000:1a:00.0": { link: "../../../../devices/pci0000:00/0000:1a:00.0" },
      "sys/kernel/iommu_groups/8/devices/0000:1c:00.0": { link: "../../../../devices/pci0000:17/0000:1c:00.0" },
      "proc/cmdline": "quiet\n",
    });
    const far = (bus: string) =>
      [0, 1].map((link) => `\t Link ${link}: Remote Device 00000000:${bus}:00.0: Link ${link}`);
    const name = "Tesla V100-SXM2-16GB (UUID: GPU-c0ffee00-0000-4000-8000-000000000000)";
    const links = folder.file(
      "two.txt",
      [`GPU 0: ${name}`, ...far("1C"), `GPU 1: ${name}`, ...far("1A"), ""].join("\n"),
    );
    const groups = await json<GroupsJson>(0, "groups", "--sysfs", root);
    assert.deepEqual(groups.kernel, [["0000:1a:00.0"], ["0000:1c:00.0"]]);

    const unknown = await json<AuditJson>(1, "audit", "--sysfs", root);
    assert.deepEqual(
      unknown.findings.map(({ kind }) => kind),
      ["unknown-far-end", "unknown-far-end"],
    );
    const source = ["--sysfs", root, "--nvlink", links];
    const audit = await json<AuditJson>(1, "audit", ...source);
    assert.deepEqual(
      audit.findings.filter(({ kind }) => kind === "nvlink").map(({ functions }) => functions),
      [["0000:1a:00.0", "0000:1c:00.0"]],
    );

    const kept = await json<PlanJson>(0, "plan", ...source, "--assign", "vm=0000:1c:00.0");
    assert.deepEqual(
      kept.gpus.map(({ untouched, cutLinks }) => [untouched, cutLinks.slice(0, 2)]),
      [
        [true, [0, 1]],
        [false, [0, 1]],
      ],
    );
    assert.ok(kept.problems.some(({ kind, severity }) => kind === "host-gpu-bound" && severity === "warning"));
    const taken = await json<PlanJson>(0, "plan", ...source, "--assign", "vm=0000:1c:00.0", "--include-host");
    assert.deepEqual(
      taken.gpus.map(({ untouched }) => untouched),
      [false, false],
    );

    const out = folder.path("host.json");
    await json(0, "capture", ...source, "--out", out);
    const again = conforming<CaptureJson>("capture-file", await printed(0, "capture", "--capture", out));
    assert.deepEqual(again.machine, JSON.parse(readFileSync(out, "utf8")).machine);
  });
});

describe("device trees", { concurrency: 4 }, () => {
  const socket = testData("devicetree/sequoia-socket.dtb");

  test("a full tree of one socket gives the masks that its wiring says", async () => {
    const plan = await json<PlanJson>(
      0,
      "plan",
      "--device-tree",
      socket,
      "--assign",
      "a=GPU0,GPU1",
      "--assign",
      "b=GPU2",
    );
    assert.deepEqual(
      plan.gpus.map(({ name, disableMask }) => [name, disableMask]),
      [
        ["GPU0", "0x000c0000"],
        ["GPU1", "0x000c0000"],
        ["GPU2", "0x00170000"],
      ],
    );
    await json<AuditJson>(0, "audit", "--device-tree", socket);
    await json<AuditJson>(1, "audit", "--device-tree", socket, "--isolate-nvlink");
  });

  test("source and blob of a tree are one machine", { skip: missing("dtc") }, async () => {
    const [blob, source] = await Promise.all(
      ["dtb", "dts"].map((form) =>
        json<GroupsJson>(0, "groups", "--device-tree", testData(`devicetree/sequoia-socket.${form}`)),
      ),
    );
    assert.deepEqual(source, blob);
  });

  test("a tree that is full already is refused by firmware", async () => {
    const ran = await linkfence("firmware", "--device-tree", socket, "--out", folder.path("again.dtb"));
    assert.deepEqual([ran.status, ran.stdout], [2, ""]);
    assert.match(ran.stderr, /^linkfence: [^\n]*no AC922 firmware tree[^\n]*\n$/);
    assert.equal(existsSync(folder.path("again.dtb")), false);
  });

  test("firmware writes a full tree that plans like the one it was made from", { skip: NO_FIRMWARE_TREE }, async () => {
    const out = folder.path("full.dtb");
    const summary = await json<object>(0, "firmware", "--device-tree", FIRMWARE_TREE ?? "", "--out", out);
    const bytes = readFileSync(out).length;
    assert.deepEqual(summary, {
      machine: "redbud",
      virtual: true,
      out,
      bytes,
      gpus: ["GPU0", "GPU1", "GPU3", "GPU4"],
      bridges: 12,
    });
    const assign = ["--assign", "a=GPU0", "--assign", "b=GPU1"];
    const [given, made] = await Promise.all(
      [FIRMWARE_TREE ?? "", out].map((tree) => json<PlanJson>(0, "plan", "--device-tree", tree, ...assign)),
    );
    assert.deepEqual(made, given);

    const piped = spawnSync(process.execPath, [MAIN, "firmware", "--device-tree", FIRMWARE_TREE ?? ""]);
    assert.ok(piped.stdout.equals(readFileSync(out)), "without --out the blob goes to standard output");
  });

  test("dtc and fdtget read what firmware writes", {
    skip: NO_FIRMWARE_TREE || missing("dtc") || missing("fdtget"),
  }, async () => {
    const out = folder.path("read.dtb");
    await json<object>(0, "firmware", "--device-tree", FIRMWARE_TREE ?? "", "--out", out);
    const dtc = await run("dtc", ["-q", "-I", "dtb", "-O", "dts", out]);
    assert.equal(dtc.status, 0, dtc.stderr);
    assert.equal([...dtc.stdout.matchAll(/compatible = "ibm,coherent-device-memory"/g)].length, 4);
    assert.equal([...dtc.stdout.matchAll(/^\s*ibm,nvlink-peers = /gm)].length, 4);
    assert.equal([...dtc.stdout.matchAll(/^\s*ibm,device-tgt-addr = /gm)].length, 12);
    const property = (node: string, name: string) =>
      spawnSync("fdtget", ["-t", "x", out, node, name], { encoding: "utf8" }).stdout.trim();
    const [memory] = /^\tmemory@3e000000000\b/m.exec(dtc.stdout) ?? [];
    assert.ok(memory, "GPU0's memory is 128 GiB below 4 TiB");
    assert.equal(property("/memory@3e000000000", "reg"), "3e0 0 20 0");
  });
});
