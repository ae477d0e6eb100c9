import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, describe, test } from "node:test";
import { conforming, json } from "./json_schema.js";
import type { AuditJson, CaptureJson, FenceJson, LinkJson, PlanJson, VerifyJson } from "./json_shapes.js";
import { printed, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
const ALL_APART = ["--assign", "a=GPU0", "--assign", "b=GPU1", "--assign", "c=GPU2", "--assign", "d=GPU3"];
const PAIR = ["--assign", "pair=GPU0,GPU1", "--assign", "c=GPU2", "--assign", "d=GPU3"];

/** Fences a machine and returns the path of the capture of what it is afterwards. */
async function fenced(name: string, ...args: string[]): Promise<string> {
  const out = folder.path(`${name}.json`);
  await json<FenceJson>(0, "fence", ...args, "--out", out);
  return out;
}

function readCapture(path: string): CaptureJson {
  return conforming<CaptureJson>("capture-file", readFileSync(path, "utf8"));
}

/** The capture with each link changed that the filter takes. */
function withLinks(
  path: string,
  name: string,
  change: (link: LinkJson) => void,
  filter: (gpu: string, link: LinkJson) => boolean = () => true,
): string {
  const file = readCapture(path);
  for (const gpu of file.machine.gpus) {
    for (const link of gpu.links) if (filter(gpu.name, link)) change(link);
  }
  return folder.file(`${name}.json`, JSON.stringify(file));
}

function setRegister(link: LinkJson, offset: string, value: string): void {
  const register = link.evidence?.registers.find((each) => each.offset === offset);
  assert.ok(register, `register ${offset} is in the evidence`);
  register.value = value;
}

let apart = "";
let pair = "";
let a100 = "";
before(async () => {
  [apart, pair, a100] = await Promise.all([
    fenced("apart", "--machine", "c4140", ...ALL_APART),
    fenced("pair", "--machine", "c4140", ...PAIR),
    fenced("a100", "--machine", "hgx-a100-4", ...ALL_APART),
  ]);
});

describe("a capture of a fenced machine", { concurrency: 4 }, () => {
  test("of four GPUs that are all apart audits clean and verifies by its own assignments", async () => {
    const audit = await json<AuditJson>(0, "audit", "--capture", apart);
    assert.deepEqual(audit.findings, []);
    const verify = await json<VerifyJson>(0, "verify", "--capture", apart);
    assert.equal(verify.open, false);
    assert.deepEqual(
      verify.gpus.map(({ expected, actual, readable }) => [expected, actual, readable]),
      Array(4).fill(["0x003f0000", "0x003f0000", true]),
    );
  });

  test("with GPU0 and GPU1 together audits clean for that assignment, not for another", async () => {
    assert.deepEqual((await json<AuditJson>(0, "audit", "--capture", pair)).findings, []);
    const split = await json<AuditJson>(1, "audit", "--capture", pair, ...ALL_APART);
    assert.deepEqual(
      split.findings.map(({ kind, functions, links }) => [
        kind,
        functions,
        links.map(({ gpu, link }) => `${gpu}:${link}`),
      ]),
      [["nvlink", ["0000:1a:00.0", "0000:1c:00.0"], ["GPU0:0", "GPU0:1", "GPU1:0", "GPU1:1"]]],
    );
  });

  test("verifies open when another assignment wants more cut than is", async () => {
    const verify = await json<VerifyJson>(1, "verify", "--capture", pair, ...ALL_APART);
    assert.equal(verify.open, true);
    assert.deepEqual(
      verify.gpus.map(({ name, open, expected, actual }) => [name, open, expected, actual]),
      [
        ["GPU0", true, "0x003f0000", "0x003c0000"],
        ["GPU1", true, "0x003f0000", "0x003c0000"],
        ["GPU2", false, "0x003f0000", "0x003f0000"],
        ["GPU3", false, "0x003f0000", "0x003f0000"],
      ],
    );
  });

  test("carries the registers that prove each cut link, and the assignments", () => {
    const { machine } = readCapture(apart);
    assert.deepEqual(
      machine.assignments?.map(({ name, members }) => [name, members]),
      [
        ["a", ["0000:1a:00.0"]],
        ["b", ["0000:1c:00.0"]],
        ["c", ["0000:1d:00.0"]],
        ["d", ["0000:1e:00.0"]],
      ],
    );
    for (const link of machine.gpus.flatMap((gpu) => gpu.links)) {
      assert.equal(link.state, "cut");
      const values = Object.fromEntries(link.evidence?.registers.map(({ offset, value }) => [offset, value]) ?? []);
      assert.equal(values["0xa00148"], "0x3f0000");
      assert.equal(Number(values["0x200"]) & 0x02000000, 0x02000000, "the NVLink engine is on");
    }
  });
});

/** What may be done to the evidence of every link, so that nothing proves it cut any more. */
const FALSIFIED: [string, (link: LinkJson) => void][] = [
  ["is removed though the word cut stays", (link) => delete link.evidence],
  ["has no registers", (link) => (link.evidence = { registers: [] })],
  ["reads all ones", (link) => setRegister(link, "0xa00148", "0xffffffff")],
  ["reads 0xbadf1234", (link) => setRegister(link, "0xa00148", "0xbadf1234")],
  ["reads 0xbadf0000, whose low bits are no link bits", (link) => setRegister(link, "0xa00148", "0xbadf0000")],
  ["reads 0xbad0003f", (link) => setRegister(link, "0xa00148", "0xbad0003f")],
  ["has an empty mask", (link) => setRegister(link, "0xa00148", "0x0")],
  ["has the NVLink engine off", (link) => setRegister(link, "0x200", "0x120")],
  ["has an unreadable NV_PMC_ENABLE", (link) => setRegister(link, "0x200", "0xbadf0200")],
  ["is of another register", (link) => (link.evidence = { registers: [{ offset: "0xa0014c", value: "0x3f0000" }] })],
  [
    "has the register twice with different values",
    (link) => link.evidence?.registers.push({ offset: "0xa00148", value: "0x0" }),
  ],
];

describe("a capture whose evidence proves nothing", { concurrency: 4 }, () => {
  for (const [index, [what, change]] of FALSIFIED.entries()) {
    test(`is never clean: its evidence ${what}`, async () => {
      const path = withLinks(apart, `falsified-${index}`, change);
      const audit = await json<AuditJson>(1, "audit", "--capture", path);
      assert.equal(audit.findings.length, 6, "every pair of the mesh");
      const verify = await json<VerifyJson>(1, "verify", "--capture", path);
      assert.deepEqual(
        verify.gpus.map((gpu) => gpu.open),
        [true, true, true, true],
      );
    });
  }

  test("is found link by link: one link without evidence at both ends is one finding", async () => {
    const between = (gpu: string, { number }: LinkJson) => number === 0 && (gpu === "GPU0" || gpu === "GPU1");
    const path = withLinks(apart, "one-link", (link) => delete link.evidence, between);
    const { findings } = await json<AuditJson>(1, "audit", "--capture", path);
    assert.deepEqual(
      findings.map(({ functions, links }) => [functions, links.map(({ gpu, link }) => `${gpu}:${link}`)]),
      [
        [
          ["0000:1a:00.0", "0000:1c:00.0"],
          ["GPU0:0", "GPU1:0"],
        ],
      ],
    );
  });

  test("of an A100 needs block and lock to read one, both", async () => {
    assert.deepEqual((await json<AuditJson>(0, "audit", "--capture", a100)).findings, []);
    const verify = await json<VerifyJson>(0, "verify", "--capture", a100);
    assert.match(verify.gpus[0]?.actual ?? "", /^links 0,1,2,3,4,5,6,7,8,9,10,11$/);
    for (const which of [0, 1]) {
      const path = withLinks(a100, `a100-${which}`, ({ evidence }) => {
        const [, ...values] = evidence?.registers ?? [];
        const register = (values.length === 2 ? values : (evidence?.registers ?? [])).at(which);
        assert.equal(register?.value, "0x1");
        if (register) register.value = "0x0";
      });
      assert.equal((await json<AuditJson>(1, "audit", "--capture", path)).findings.length, 6);
      assert.equal((await json<VerifyJson>(1, "verify", "--capture", path)).open, true);
    }
  });

  test("makes no difference to what is virtual hardware fresh from reset: that is open before a fence", async () => {
    const verify = await json<VerifyJson>(1, "verify", "--machine", "c4140", ...ALL_APART);
    assert.deepEqual(
      verify.gpus.map(({ actual, open }) => [actual, open]),
      Array(4).fill(["0x00000000", true]),
    );
    assert.equal(verify.virtual, true);
  });
});

describe("assigning anew after a fence", { concurrency: 4 }, () => {
  test("resets only the GPUs whose links come back, each behind its far ends", async () => {
    const plan = await json<PlanJson>(0, "plan", "--capture", apart, ...PAIR);
    assert.deepEqual(
      plan.gpus.map((gpu) => gpu.resetNeeded),
      [true, true, false, false],
    );
    const resets = plan.steps.filter((step) => step.action === "reset-and-cut");
    assert.deepEqual(
      resets.map(({ gpu, farEndsFirst }) => [gpu, new Set(farEndsFirst.map((end) => end.gpu))]),
      ["0000:1a:00.0", "0000:1c:00.0"].map((gpu) => [gpu, new Set(["0000:1d:00.0", "0000:1e:00.0"])]),
    );
    const order = plan.steps.map((step) => step.action);
    assert.ok(order.lastIndexOf("cut") < order.indexOf("reset-and-cut"), "all cuts come before the first reset");

    const out = folder.path("again.json");
    const fence = await json<FenceJson>(0, "fence", "--capture", apart, ...PAIR, "--out", out);
    assert.deepEqual(
      fence.gpus.map(({ reset, verified, before: was, after: is }) => [
        reset,
        verified,
        was.disableMask,
        is.disableMask,
      ]),
      [
        [true, true, "0x003f0000", "0x003c0000"],
        [true, true, "0x003f0000", "0x003c0000"],
        [false, true, "0x003f0000", "0x003f0000"],
        [false, true, "0x003f0000", "0x003f0000"],
      ],
    );
    assert.deepEqual(fence.gpus[0]?.after.linksUp, [0, 1]);
    await json<AuditJson>(0, "audit", "--capture", out);
    await json<VerifyJson>(0, "verify", "--capture", out);
    await json<AuditJson>(1, "audit", "--capture", out, ...ALL_APART);
  });

  test("needs no reset where links are only taken away", async () => {
    const fence = await json<FenceJson>(0, "fence", "--capture", pair, ...ALL_APART);
    assert.deepEqual(
      fence.gpus.map(({ reset, verified, after: is }) => [reset, verified, is.disableMask]),
      Array(4).fill([false, true, "0x003f0000"]),
    );
  });

  test("the same assignment again changes nothing", async () => {
    const fence = await json<FenceJson>(0, "fence", "--capture", pair);
    for (const { name, before: was, after: is, reset } of fence.gpus) {
      assert.deepEqual([was.disableMask, reset], [is.disableMask, false], name);
    }
  });

  test("an A100's block and lock go by a reset too", async () => {
    const fence = await json<FenceJson>(0, "fence", "--capture", a100, ...PAIR);
    assert.deepEqual(
      fence.gpus.map(({ reset, verified, after: is }) => [reset, verified, is.cut]),
      [
        [true, true, [4, 5, 6, 7, 8, 9, 10, 11]],
        [true, true, [4, 5, 6, 7, 8, 9, 10, 11]],
        [false, true, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
        [false, true, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
      ],
    );
  });

  test("a Sequoia's GPUs with NPU bridges keep their CPU links through the reset", async () => {
    const alone = ["--assign", "a=GPU0", "--assign", "b=GPU1", "--assign", "c=GPU2"];
    const first = await fenced("sequoia", "--machine", "sequoia", ...alone);
    const fence = await json<FenceJson>(
      0,
      "fence",
      "--capture",
      first,
      "--assign",
      "a=GPU0,GPU1",
      "--assign",
      "c=GPU2",
    );
    assert.deepEqual(
      fence.gpus.slice(0, 3).map(({ reset, verified, after: is }) => [reset, verified, is.disableMask, is.linksUp]),
      [
        [true, true, "0x000c0000", [0, 1, 4, 5]],
        [true, true, "0x000c0000", [0, 1, 4, 5]],
        [false, true, "0x00170000", [3, 5]],
      ],
    );
  });
});

describe("capture and back", { concurrency: 4 }, () => {
  for (const machine of ["redbud", "sequoia", "minsky", "c4140", "dgx1v", "hgx-a100-4"]) {
    test(`${machine} read back from its capture is the same machine`, async () => {
      const first = folder.path(`first-${machine}.json`);
      const summary = await json<{ out: string }>(0, "capture", "--machine", machine, "--out", first);
      assert.deepEqual(summary, { machine, virtual: true, out: first });
      const again = conforming<CaptureJson>("capture-file", await printed(0, "capture", "--capture", first));
      assert.deepEqual(again.machine, readCapture(first).machine);
    });
  }

  test("assignments given to capture are in it, and stand until others are given", async () => {
    const out = folder.path("assigned.json");
    await json(0, "capture", "--machine", "c4140", ...PAIR, "--out", out);
    const audit = await json<AuditJson>(1, "audit", "--capture", out);
    assert.equal(audit.findings.length, 5, "every pair of the mesh but GPU0 and GPU1");
    assert.equal((await json<AuditJson>(1, "audit", "--capture", out, ...ALL_APART)).findings.length, 6);
  });

  test("a GPU of another generation is fenced like it: P100s by the mask of four links", async () => {
    const path = await fenced("minsky", "--machine", "minsky", "--assign", "a=GPU1", "--assign", "b=GPU2");
    await json<AuditJson>(0, "audit", "--capture", path);
    const verify = await json<VerifyJson>(0, "verify", "--capture", path);
    assert.deepEqual(
      verify.gpus.map((gpu) => gpu.actual),
      ["0x000c0000", "0x000c0000", "0x00000000", "0x00000000"],
    );
  });

  test("a DGX-1V split into its halves is clean, and open again for eight owners", async () => {
    const halves = ["--assign", "left=GPU0,GPU1,GPU2,GPU3", "--assign", "right=GPU4,GPU5,GPU6,GPU7"];
    const path = await fenced("dgx1v", "--machine", "dgx1v", ...halves);
    await json<AuditJson>(0, "audit", "--capture", path);
    const eight = Array.from({ length: 8 }, (_, i) => ["--assign", `vm${i}=GPU${i}`]).flat();
    const audit = await json<AuditJson>(1, "audit", "--capture", path, ...eight);
    assert.equal(audit.findings.length, 12, "six pairs in each half");
  });
});
