import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { json } from "./json_schema.js";
import type { FenceJson, GroupsJson, PlanJson } from "./json_shapes.js";
import { sharedFile } from "./linkfence.js";

const FIRMWARE_TREE = sharedFile("data/op920.wsp.dtb");

/** `a=GPU0` for every GPU, each alone with an owner of its own. */
function eachAlone(...gpus: string[]): string[] {
  return gpus.flatMap((gpu) => ["--assign", `of-${gpu}=${gpu}`]);
}

function masks(plan: PlanJson): Record<string, string | null> {
  return Object.fromEntries(plan.gpus.map((gpu) => [gpu.name, gpu.disableMask]));
}

/** Plans that anybody can check against the wiring tables: machine, options, mask of each GPU. */
const PLANS: [string, string[], Record<string, string | null>][] = [
  [
    "sequoia",
    ["--assign", "a=GPU0,GPU1", "--assign", "b=GPU2"],
    {
      GPU0: "0x000c0000",
      GPU1: "0x000c0000",
      GPU2: "0x00170000",
      GPU3: "0x00000000",
      GPU4: "0x00000000",
      GPU5: "0x00000000",
    },
  ],
  [
    "sequoia",
    eachAlone("GPU0", "GPU1", "GPU2", "GPU3", "GPU4", "GPU5"),
    {
      GPU0: "0x001d0000",
      GPU1: "0x001d0000",
      GPU2: "0x00170000",
      GPU3: "0x001d0000",
      GPU4: "0x001d0000",
      GPU5: "0x00170000",
    },
  ],
  [
    "redbud",
    eachAlone("GPU0", "GPU1", "GPU3", "GPU4"),
    { GPU0: "0x00150000", GPU1: "0x00150000", GPU3: "0x00150000", GPU4: "0x00150000" },
  ],
  [
    "minsky",
    eachAlone("GPU1", "GPU2", "GPU3", "GPU4"),
    { GPU1: "0x000c0000", GPU2: "0x000c0000", GPU3: "0x000c0000", GPU4: "0x000c0000" },
  ],
  [
    "c4140",
    ["--assign", "a=GPU0,GPU1", ...eachAlone("GPU2", "GPU3")],
    { GPU0: "0x003c0000", GPU1: "0x003c0000", GPU2: "0x003f0000", GPU3: "0x003f0000" },
  ],
  [
    "dgx1v",
    ["--assign", "a=GPU0,GPU3", ...eachAlone("GPU1", "GPU2", "GPU4", "GPU5", "GPU6", "GPU7")],
    {
      GPU0: "0x00330000",
      GPU1: "0x003f0000",
      GPU2: "0x003f0000",
      GPU3: "0x003c0000",
      GPU4: "0x003f0000",
      GPU5: "0x003f0000",
      GPU6: "0x003f0000",
      GPU7: "0x003f0000",
    },
  ],
  [
    "hgx-a100-4",
    ["--assign", "a=GPU0,GPU1", ...eachAlone("GPU2", "GPU3")],
    { GPU0: null, GPU1: null, GPU2: null, GPU3: null },
  ],
];

describe("known answers of plan", { concurrency: 4 }, () => {
  for (const [machine, assign, expected] of PLANS) {
    const sets = assign.filter((word) => word !== "--assign").join(" ");
    test(`plan gives the masks of ${machine} for ${sets}`, async () => {
      const plan = await json<PlanJson>(0, "plan", "--machine", machine, ...assign);
      assert.deepEqual(masks(plan), expected);
      assert.equal(plan.machine, machine);
      assert.equal(plan.virtual, true);
      assert.equal(plan.isolated, true);
      assert.deepEqual(plan.problems, []);
    });
  }

  test("a mask has exactly the bits of the links that are cut, and keeps every link to the GPU's own CPU", async () => {
    const plan = await json<PlanJson>(0, "plan", "--machine", "sequoia", ...eachAlone("GPU0", "GPU1", "GPU2"));
    for (const { name, disableMask, keptLinks, cutLinks } of plan.gpus.slice(0, 3)) {
      const bits = cutLinks.reduce((sum, link) => sum + 2 ** (16 + link), 0);
      assert.equal(Number(disableMask), bits, name);
      assert.deepEqual(
        [...keptLinks, ...cutLinks].sort((a, b) => a - b),
        [0, 1, 2, 3, 4, 5],
        name,
      );
    }
    assert.deepEqual(
      plan.gpus.slice(0, 3).map((gpu) => gpu.keptLinks),
      [
        [1, 5],
        [1, 5],
        [3, 5],
      ],
    );
  });

  test("an A100 has no mask but links to block and lock: 4 per peer", async () => {
    const plan = await json<PlanJson>(0, "plan", "--machine", "hgx-a100-4", "--assign", "a=GPU0,GPU1");
    assert.deepEqual(
      plan.gpus.map((gpu) => [gpu.part, gpu.assignment, gpu.keptLinks, gpu.cutLinks]),
      [
        ["GA100", "a", [0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11]],
        ["GA100", "a", [0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11]],
        ["GA100", "host", [8, 9, 10, 11], [0, 1, 2, 3, 4, 5, 6, 7]],
        ["GA100", "host", [8, 9, 10, 11], [0, 1, 2, 3, 4, 5, 6, 7]],
      ],
    );
  });

  test("the P100's mask is called inferred", async () => {
    const plan = await json<PlanJson>(0, "plan", "--machine", "minsky", "--assign", "a=GPU1");
    assert.match(plan.notes.join("\n"), /0x000f0000.*not seen on a P100/);
  });

  test("GPUs go by label in any case and by address", async () => {
    const byLabel = await json<PlanJson>(0, "plan", "--machine", "sequoia", "--assign", "a=GPU0,GPU1");
    const byOther = await json<PlanJson>(0, "plan", "--machine", "sequoia", "--assign", "a=gpu0,0004:05:00.0");
    assert.deepEqual(byOther, byLabel);
  });

  test("a GPU in two assignments is a plan with problems, exit 1", async () => {
    const plan = await json<PlanJson>(
      1,
      "plan",
      "--machine",
      "sequoia",
      "--assign",
      "a=GPU0",
      "--assign",
      "b=GPU0,GPU2",
    );
    assert.equal(plan.isolated, false);
    assert.deepEqual(
      plan.problems.map(({ kind, severity, gpus }) => ({ kind, severity, gpus })),
      [{ kind: "gpu-in-two-assignments", severity: "error", gpus: ["GPU0"] }],
    );
  });

  test("an NPU bridge in another assignment than its GPU is a plan with problems, exit 1", async () => {
    const assign = ["--assign", "a=GPU0", "--assign", "b=0006:00:00.0"];
    const plan = await json<PlanJson>(1, "plan", "--machine", "sequoia", ...assign);
    assert.deepEqual(
      plan.problems.map(({ kind, severity }) => ({ kind, severity })),
      [{ kind: "bridge-in-another-assignment", severity: "error" }],
    );
  });

  test("IOVA holes are the BARs of an assignment's GPUs, without overlap and ascending", async () => {
    const plan = await json<PlanJson>(0, "plan", "--machine", "c4140", "--assign", "a=GPU0,GPU1", "--assign", "b=GPU2");
    assert.deepEqual(
      plan.iovaHoles.map(({ assignment }) => assignment),
      ["a", "b"],
    );
    const [together, alone] = plan.iovaHoles;
    const gpus = new Set(together?.holes.flatMap((hole) => hole.functions));
    assert.deepEqual([...gpus].sort(), ["0000:1a:00.0", "0000:1c:00.0"]);
    assert.deepEqual(alone?.holes, [], "a GPU alone reaches nobody's BARs");
    for (const { holes } of plan.iovaHoles) {
      const ends = holes.flatMap(({ start, end }) => [BigInt(start), BigInt(end)]);
      assert.deepEqual(
        ends,
        [...ends].sort((x, y) => (x < y ? -1 : 1)),
      );
    }
  });
});

describe("known answers of fence and groups", { concurrency: 4 }, () => {
  test("a Redbud is recognised in its firmware's tree, fenced and verified", {
    skip: FIRMWARE_TREE === undefined && "op920.wsp.dtb is not at hand",
  }, async () => {
    const assign = ["--assign", "a=GPU0", "--assign", "b=GPU1"];
    const fence = await json<FenceJson>(0, "fence", "--device-tree", FIRMWARE_TREE ?? "", ...assign);
    assert.deepEqual(
      fence.gpus.map(({ name, assignment, verified, after }) => [name, assignment, verified, after.disableMask]),
      [
        ["GPU0", "a", true, "0x00150000"],
        ["GPU1", "b", true, "0x00150000"],
        ["GPU3", "host", true, "0x00000000"],
        ["GPU4", "host", true, "0x00000000"],
      ],
    );
    assert.match(fence.machine, /redbud/i);
    assert.deepEqual([fence.virtual, fence.verified], [true, true]);
  });

  test("fence tells before from after, and only planned links are down", async () => {
    const assign = ["--assign", "a=GPU0,GPU1", "--assign", "b=GPU2"];
    const fence = await json<FenceJson>(0, "fence", "--machine", "sequoia", ...assign);
    assert.equal(fence.virtual, true);
    for (const gpu of fence.gpus) {
      assert.deepEqual(gpu.before, { disableMask: "0x00000000", cut: [], linksUp: [0, 1, 2, 3, 4, 5] }, gpu.name);
      assert.deepEqual(
        gpu.after,
        { disableMask: gpu.disableMask, cut: gpu.cutLinks, linksUp: gpu.keptLinks },
        gpu.name,
      );
      assert.deepEqual([gpu.verified, gpu.reset], [true, false], gpu.name);
    }
  });

  test("an A100 is fenced without a mask", async () => {
    const fence = await json<FenceJson>(
      0,
      "fence",
      "--machine",
      "hgx-a100-4",
      "--assign",
      "a=GPU0",
      "--assign",
      "b=GPU1",
    );
    assert.equal(fence.verified, true);
    assert.deepEqual(
      fence.gpus.map(({ after }) => [after.disableMask, after.cut?.length]),
      [
        [null, 12],
        [null, 12],
        [null, 8],
        [null, 8],
      ],
    );
  });

  test("a Sequoia's sockets are two compound groups, and six with isolate_nvlink: GPU first, then its bridges", async () => {
    const off = await json<GroupsJson>(0, "groups", "--machine", "sequoia");
    const on = await json<GroupsJson>(0, "groups", "--machine", "sequoia", "--isolate-nvlink");
    const first = ["0004:04:00.0", "0006:00:00.0", "0006:00:00.1"];
    assert.equal(off.kernel.length, 2);
    assert.deepEqual(off.kernel[0]?.slice(0, 4), [...first, "0004:05:00.0"]);
    assert.equal(on.kernel.length, 6);
    assert.deepEqual(on.kernel[0], first);
    assert.deepEqual(
      [off, on].map(({ now }) => now.filter((set) => set.includes("0004:04:00.0")).map((set) => set.length)),
      [[9], [9]],
      "what NVLink joins now does not depend on groups",
    );
  });

  test("groups gives reason and action for each pair that NVLink joins, and possible sets are the GPUs alone", async () => {
    const groups = await json<GroupsJson>(0, "groups", "--machine", "c4140");
    const pairs = groups.pairs.filter((pair) => pair.via === "nvlink");
    assert.equal(pairs.length, 6);
    for (const { reason, action } of pairs) {
      assert.match(reason, /2 NVLinks between GPU\d and GPU\d not cut/);
      assert.match(action ?? "", /^cut links \d, \d of GPU\d$/);
    }
    const gpus = ["0000:1a:00.0", "0000:1c:00.0", "0000:1d:00.0", "0000:1e:00.0"];
    const setOf = (sets: string[][], gpu: string) => sets.find((set) => set.includes(gpu));
    assert.ok(gpus.every((gpu) => setOf(groups.now, "0000:1a:00.0")?.includes(gpu)));
    for (const gpu of gpus) assert.deepEqual(setOf(groups.possible, gpu), [gpu]);
    assert.equal(groups.virtual, true);
  });
});
