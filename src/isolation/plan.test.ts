import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { gpu, machineOf, made, port, portWithoutAcs, to, withMask } from "../../test/made_up_machine.js";
import { BUILTIN_MACHINES, builtinMachine } from "../machine/builtin.js";
import type { Gpu, Machine } from "../machine/machine.js";
import { parseAssignments } from "./assignment.js";
import { audit } from "./findings.js";
import { LinkGraph } from "./links.js";
import { makePlan, type Plan, type PlanOptions } from "./plan.js";

const [A, B, C] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"];

function plan(machine: Machine | string, assign: string[], options?: PlanOptions): Plan {
  const described = typeof machine === "string" ? builtinMachine(machine) : machine;
  return makePlan(described, parseAssignments(described, assign), options);
}

function masks(of: Plan): string {
  return of.gpus.map((one) => (one.disableMask ?? -1).toString(16).padStart(6, "0")).join(" ");
}

function bound(machine: Machine, address: string, driver: string): Machine {
  const functions = machine.functions.map((fn) => (fn.address === address ? { ...fn, driver } : fn));
  return { ...machine, functions };
}

const alone = (machine: Machine) => machine.gpus.map((one) => `${one.name}=${one.name}`);

test("the known answers of the AC922 hold", () => {
  const socket = "1d0000 1d0000 170000";
  assert.equal(masks(plan("sequoia", alone(builtinMachine("sequoia")))), `${socket} ${socket}`);
  assert.equal(masks(plan("redbud", alone(builtinMachine("redbud")))), "150000 150000 150000 150000");
  assert.equal(masks(plan("sequoia", ["a=GPU0,GPU1", "b=GPU2"])), "0c0000 0c0000 170000 000000 000000 000000");
});

test("every GPU alone on a full mesh loses every link", () => {
  assert.equal(masks(plan("c4140", alone(builtinMachine("c4140")))), "3f0000 3f0000 3f0000 3f0000");
  assert.equal(masks(plan("minsky", alone(builtinMachine("minsky")))), "0c0000 0c0000 0c0000 0c0000");
  assert.equal(masks(plan("c4140", ["a=GPU0,GPU1", "b=GPU2,GPU3"])), "3c0000 3c0000 0f0000 0f0000");
});

test("a GA100 has no mask, only links to block", () => {
  const { gpus } = plan("hgx-a100-4", ["a=GPU0,GPU1", "b=GPU2", "c=GPU3"]);
  assert.deepEqual(
    gpus.map((one) => [one.disableMask, one.keptLinks.length, one.cutLinks.length]),
    [
      [null, 4, 8],
      [null, 4, 8],
      [null, 0, 12],
      [null, 0, 12],
    ],
  );
});

test("links that a description leaves out are cut with the rest", () => {
  assert.equal(masks(plan(machineOf([gpu(A, "a", [to(B)]), gpu(B, "b", [to(A)])]), ["x=a,b"])), "3e0000 3e0000");
});

test("a link to nobody knows where is cut and noted, and no problem", () => {
  const result = plan(machineOf([gpu(A, "a", [to(B), { kind: "unknown" }]), gpu(B, "b", [to(A)])]), ["x=a,b"]);
  assert.equal(masks(result), "3e0000 3e0000");
  assert.equal(result.isolated, true);
  assert.match(result.notes.join("\n"), /far ends not known, so these links are cut: a/);
});

test("an override that makes groups look better than the hardware is said beside the plan", () => {
  const functions = [portWithoutAcs("0000:00:01.0", "root-port", 1), made(A)];
  const one = { ...gpu(A, "a", []), nvlink: "none" as const };
  const noted = (commandLine: string) => plan(machineOf([one], { functions, kernel: { commandLine } }), ["x=a"]).notes;
  assert.match(noted("pcie_acs_override=downstream").join("\n"), /pcie_acs_override=downstream weakens the path of a/);
  assert.deepEqual(noted("quiet"), []);
});

test("a bridge of another GPU is no bridge to keep", () => {
  const one: Gpu = { ...gpu(A, "a", [{ kind: "bridge", bridge: "0006:00:00.0" }]), bridges: ["0006:00:00.0"] };
  const bridge = { address: "0006:00:00.0", linkIndex: 0, npu: "n", origin: "wiring" as const };
  assert.equal(masks(plan(machineOf([one], { bridges: [{ ...bridge, gpu: A }] }), ["x=a"])), "3e0000");
  assert.equal(masks(plan(machineOf([one], { bridges: [{ ...bridge, gpu: B }] }), ["x=a"])), "3f0000");
});

test("links into an NVSwitch stay only while all GPUs on it have one owner", () => {
  const on = { kind: "switch" as const, switch: "s0" };
  const machine = machineOf([gpu(A, "a", [on]), gpu(B, "b", [on])]);
  assert.equal(masks(plan(machine, ["x=a,b"])), "3e0000 3e0000");
  assert.equal(masks(plan(machine, ["x=a", "y=b"])), "3f0000 3f0000");
});

test("only a link that is cut and is to stay needs a reset, behind the cuts of all far ends", () => {
  const fenced = machineOf([
    withMask(gpu(A, "a", [to(B, 0), to(C, 0)]), 0x3f0000),
    withMask(gpu(B, "b", [to(A, 0), to(C, 1)]), 0x3f0000),
    withMask(gpu(C, "c", [to(A, 1), to(B, 1)]), 0x3f0000),
  ]);
  const result = plan(fenced, ["x=a,b", "y=c"]);
  assert.deepEqual(
    result.gpus.map((one) => one.resetNeeded),
    [true, true, false],
  );
  assert.deepEqual(result.steps, [
    { action: "cut", gpu: A, farEndsFirst: [] },
    { action: "cut", gpu: B, farEndsFirst: [] },
    { action: "cut", gpu: C, farEndsFirst: [] },
    { action: "reset-and-cut", gpu: A, farEndsFirst: [{ gpu: C, link: 0 }] },
    { action: "reset-and-cut", gpu: B, farEndsFirst: [{ gpu: C, link: 1 }] },
  ]);
  assert.ok(plan(fenced, ["x=a", "y=b", "z=c"]).gpus.every((one) => !one.resetNeeded));
});

test("a GPU in two assignments is an error", () => {
  const result = plan("sequoia", ["a=GPU0,GPU1", "b=GPU1"]);
  assert.equal(result.isolated, false);
  assert.deepEqual(
    result.problems.map(({ kind, severity, gpus }) => [kind, severity, gpus]),
    [["gpu-in-two-assignments", "error", ["GPU1"]]],
  );
});

test("a part without a fence strategy is refused when it is handed out, unless it has no NVLink", () => {
  const machine = machineOf([gpu(A, "a", [to(B, 0)], "unknown"), gpu(B, "b", [to(A, 0)])]);
  assert.deepEqual(
    plan(machine, ["x=a", "y=b"]).problems.map(({ kind }) => kind),
    ["part-without-fence"],
  );
  assert.equal(plan(machine, ["y=b"]).isolated, true);
  const k80: Gpu = { ...gpu(A, "a", [], "unknown"), nvlink: "none" };
  assert.equal(plan(machineOf([k80]), ["x=a"]).isolated, true);
});

test("two parts without a fence on one link cannot be isolated", () => {
  const machine = machineOf([gpu(A, "a", [to(B, 0)], "unknown"), gpu(B, "b", [to(A, 0)], "unknown")]);
  const kinds = plan(machine, ["x=a"]).problems.map(({ kind }) => kind);
  assert.ok(kinds.includes("link-cannot-be-cut"));
});

test("a bridge in another assignment than its GPU is an error", () => {
  const result = plan("sequoia", ["a=GPU0", "b=GPU1,0006:00:00.0"]);
  assert.deepEqual(
    result.problems.map(({ kind, gpus }) => [kind, gpus]),
    [["bridge-in-another-assignment", ["GPU0"]]],
  );
  assert.equal(result.isolated, false);
});

test("a host GPU with a driver is left alone and its links are cut at one end, unless included", () => {
  const machine = bound(builtinMachine("sequoia"), "0004:06:00.0", "nvidia");
  const left = plan(machine, ["a=GPU0,GPU1"]);
  assert.equal(left.isolated, true);
  assert.deepEqual(
    left.problems.map(({ kind, severity, gpus }) => [kind, severity, gpus]),
    [["host-gpu-bound", "warning", ["GPU2"]]],
  );
  assert.ok(left.crossLinks.length === 4 && left.crossLinks.every((link) => link.cutAt === "one"));
  assert.ok(!left.steps.some((step) => step.gpu === "0004:06:00.0"));
  const included = plan(machine, ["a=GPU0,GPU1"], { includeHost: true });
  assert.ok(included.crossLinks.every((link) => link.cutAt === "both"));
  assert.deepEqual(included.problems, []);
});

test("a driver on an assigned GPU changes nothing", () => {
  assert.equal(plan(bound(builtinMachine("c4140"), "0000:1a:00.0", "vfio-pci"), ["a=GPU0"]).problems.length, 0);
});

test("a reset whose far end cannot be cut first is an error", () => {
  const machine = machineOf([
    withMask(gpu(A, "a", [to(B, 0), to(C, 0)]), 0x3f0000),
    gpu(B, "b", [to(A, 0)]),
    gpu(C, "c", [to(A, 1)]),
  ]);
  const result = plan(bound(machine, C, "nvidia"), ["x=a,b"]);
  assert.ok(result.problems.some(({ kind }) => kind === "far-end-cannot-be-cut-first"));
  assert.equal(result.isolated, false);
});

test("a reset is refused that may join what no step can cut first", () => {
  const on = { kind: "switch" as const, switch: "s0" };
  const unknown = { kind: "unknown" as const };
  const kinds = (machine: Machine) =>
    plan(machine, ["x=a,b"]).problems.map(({ kind, severity, message }) => `${kind} ${severity} ${message}`);
  const three = (a: Gpu["links"][number]["far"], c: Gpu["links"][number]["far"], third = C) =>
    machineOf([
      withMask(gpu(A, "a", [to(B, 0), a]), 0x3f0000),
      gpu(B, "b", [to(A, 0)]),
      withMask(gpu(third, "c", [c]), 0x3f0000),
    ]);
  assert.deepEqual(kinds(three({ kind: "none" }, { kind: "none" })), []);
  assert.match(
    kinds(three(unknown, unknown)).join(),
    /^far-end-cannot-be-cut-first error a .* link 1 again, and nobody/,
  );
  assert.deepEqual(kinds(three(unknown, { kind: "none" })), []);
  assert.match(kinds(three(on, on)).join(), /error a needs a reset, which joins it to other owners on NVSwitch s0/);
  const beside = "0000:01:01.0";
  assert.match(kinds(three({ kind: "none" }, { kind: "none" }, beside)).join(), /resets c on the same bus as well/);
});

test("with all resets planned, every GPU of an assignment is reset behind its far ends, and none of the host's", () => {
  const { steps, isolated, gpus } = plan("sequoia", ["a=GPU0,GPU1", "b=GPU2"], { resetAll: true });
  const resets = steps.filter((step) => step.action === "reset-and-cut");
  assert.equal(isolated, true);
  assert.deepEqual(
    resets.map((step) => step.gpu),
    gpus.slice(0, 3).map((gpu) => gpu.address),
  );
  const third = gpus[2]?.address;
  assert.deepEqual(resets[0]?.farEndsFirst, [
    { gpu: third, link: 1 },
    { gpu: third, link: 4 },
  ]);
  assert.deepEqual(
    gpus.map((gpu) => gpu.resetNeeded),
    gpus.map(() => false),
  );
  assert.ok(steps.findLastIndex((step) => step.action === "cut") < steps.indexOf(resets[0] ?? assert.fail()));
});

test("with all resets planned, whatever makes one unsafe is an error although nothing is cut yet", () => {
  const unknown = { kind: "unknown" as const };
  const on = { kind: "switch" as const, switch: "s0" };
  const mesh = (a: Gpu["links"][number]["far"][], b: Gpu["links"][number]["far"][], at = B) =>
    machineOf([gpu(A, "a", a), gpu(at, "b", b)]);
  const why = (machine: Machine, options?: PlanOptions) =>
    plan(machine, ["x=a", "y=b"], { resetAll: true, ...options })
      .problems.map(({ severity, message }) => `${severity}: ${message}`)
      .join("\n");
  assert.equal(why(mesh([to(B, 0)], [to(A, 0)])), "");
  assert.match(
    why(mesh([unknown], [unknown])),
    /error: a is reset while it is served, which joins its link 0 again, and nobody/,
  );
  assert.match(why(mesh([], [])), /error: a is reset while it is served, which joins its links again, and nobody/);
  assert.match(why(mesh([], [unknown])), /error: b .* link 0 again/);
  assert.match(why(mesh([on], [on])), /on NVSwitch s0/);
  assert.match(why(mesh([to("0000:01:01.0", 0)], [to(A, 0)], "0000:01:01.0")), /resets b on the same bus/);
  const host = bound(mesh([to(B, 0)], [to(A, 0)]), B, "nvidia");
  const refused = plan(host, ["x=a"], { resetAll: true });
  assert.match(refused.problems.map((each) => each.message).join(), /joins its links to b again until it is fenced/);
  assert.equal(refused.isolated, false);
  assert.equal(plan(host, ["x=a"], { resetAll: true, includeHost: true }).isolated, true);
  assert.equal(plan(host, ["x=a"]).isolated, true, "no reset, no danger");
});

test("a GPU without NVLinks is reset as it is, and a far end that only the other side lists is proven too", () => {
  const none: Gpu = { ...gpu(A, "a", []), nvlink: "none" };
  assert.equal(plan(machineOf([none, gpu(B, "b", [{ kind: "unknown" }])]), ["x=a"], { resetAll: true }).isolated, true);
  const oneSided = plan(machineOf([gpu(A, "a", [to(B)]), gpu(B, "b", [])]), ["x=a", "y=b"], { resetAll: true });
  const reset = oneSided.steps.find((step) => step.action === "reset-and-cut" && step.gpu === B);
  assert.deepEqual(reset?.farEndsFirst, [{ gpu: A, link: 0 }]);
});

test("of a far end that does not list the link, all that is cut there is read back before a reset", () => {
  const machine = machineOf([
    withMask(gpu(A, "a", [to(B, 0), to(C)]), 0x3f0000),
    gpu(B, "b", [to(A, 0)]),
    gpu(C, "c", []),
  ]);
  const reset = plan(machine, ["x=a,b"]).steps.find((step) => step.action === "reset-and-cut");
  assert.deepEqual(
    reset?.farEndsFirst,
    [0, 1, 2, 3, 4, 5].map((link) => ({ gpu: C, link })),
  );
});

test("a link to a bridge that the machine does not have, or with a second claim on it, is not kept", () => {
  const bridge = { kind: "bridge" as const, bridge: "0006:00:00.0" };
  const one: Gpu = { ...gpu(A, "a", [bridge]), bridges: ["0006:00:00.0"] };
  assert.equal(masks(plan(machineOf([one]), ["x=a"])), "3f0000");
});

test("what sources disagree about is noted", () => {
  const machine = {
    ...builtinMachine("c4140"),
    disagreements: [{ gpus: [A, B] as [string, string], reason: "2 against 4" }],
  };
  assert.match(plan(machine, ["a=GPU0"]).notes.join("\n"), /sources disagree: 2 against 4/);
});

test("a link number that the part does not have is an error", () => {
  const many = Array.from({ length: 7 }, (_, link) => to(B, link));
  const result = plan(machineOf([gpu(A, "a", many), gpu(B, "b", [to(A, 0)])]), ["x=a"]);
  assert.ok(result.problems.some(({ kind }) => kind === "link-out-of-range"));
});

test("two assignments that PCIe does not separate are an error, one and the host a warning", () => {
  const functions = [
    portWithoutAcs("0000:00:01.0", "root-port", 1),
    port("0000:01:00.0", "upstream-port", 2),
    ...[3, 4, 5].flatMap((bus) => [port(`0000:02:0${bus}.0`, "downstream-port", bus), made(`0000:0${bus}:00.0`)]),
  ];
  const gpus = [3, 4].map((bus) => ({ ...gpu(`0000:0${bus}:00.0`, `g${bus}`, []), nvlink: "none" as const }));
  const machine = machineOf(gpus, { functions });
  const severities = (assign: string[]) =>
    plan(machine, assign).problems.map(({ kind, severity }) => `${kind} ${severity}`);
  assert.deepEqual(severities(["x=g3", "y=g4"]), ["pcie-not-separated error"]);
  assert.deepEqual(severities(["x=g3,g4"]), ["pcie-not-separated warning"]);
  assert.deepEqual(severities(["x=g3,g4,05:00.0"]), []);
});

test("holes are the BARs of what an assignment's functions reach past the IOMMU, merged and sorted", () => {
  const c4140 = builtinMachine("c4140");
  const [together, apart] = plan(c4140, ["a=GPU0,GPU1", "b=GPU2"]).iovaHoles;
  const bars = c4140.functions
    .filter((fn) => ["0000:1a:00.0", "0000:1c:00.0"].includes(fn.address))
    .flatMap((fn) => fn.bars);
  assert.ok(bars.length > 0);
  for (const bar of bars) {
    const inside = together?.holes.some(
      (hole) => hole.start <= bar.address && bar.address + (bar.size ?? 0n) <= hole.end,
    );
    assert.ok(inside, `BAR at ${bar.address.toString(16)}`);
  }
  const holes = together?.holes ?? [];
  assert.ok(holes.every((hole, i) => i === 0 || (holes[i - 1]?.end ?? 0n) < hole.start));
  assert.deepEqual(apart, { assignment: "b", holes: [] });
});

test("paths that are as long as a file makes them, and sets that all assignments share, do not stall a plan", {
  timeout: 60_000,
}, () => {
  const count = 10_000;
  const at = (i: number) =>
    `${(i >> 13).toString(16).padStart(4, "0")}:${((i >> 5) & 255).toString(16).padStart(2, "0")}:${(i & 31).toString(16).padStart(2, "0")}.0`;
  const bar = { index: 0, kind: "memory", size: 0x1000n, width: 64, prefetchable: false, disabled: false } as const;
  const functions = Array.from({ length: count }, (_, i) =>
    i < count / 2
      ? { ...portWithoutAcs(at(i), "downstream-port", 0), parent: i === 0 ? null : at(i - 1) }
      : made(at(i), { parent: at(count / 2 - 1), bars: [{ ...bar, address: BigInt(i) << 20n }] }),
  );
  const gpus = functions
    .slice(count / 2)
    .map(({ address }) => ({ ...gpu(address, address, []), nvlink: "none" as const }));
  const machine = machineOf(gpus, { functions, kernel: { commandLine: "pcie_acs_override=downstream" } });
  const assignments = gpus.map(({ address }, i) => ({ name: `a${i}`, members: [address] }));
  assert.equal(makePlan(machine, assignments).isolated, false);
  assert.equal(audit(machine, []).findings[0]?.functions.length, count / 2);
});

test("whatever the assignment, links between owners are cut at both ends and links within stay", () => {
  const names = BUILTIN_MACHINES.map(({ name }) => name);
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.array(fc.nat(3), { minLength: 8, maxLength: 8 }), (name, owners) => {
      const machine = builtinMachine(name);
      const members = [1, 2, 3].map((owner) =>
        machine.gpus.filter((_, i) => owners[i] === owner).map((one) => one.name),
      );
      const assign = members.flatMap((gpus, i) => (gpus.length > 0 ? [`o${i}=${gpus.join(",")}`] : []));
      const result = plan(machine, assign);
      const ownerOf = new Map(result.gpus.map((one) => [one.address, one.assignment]));
      for (const one of machine.gpus) {
        const kept = new Set(result.gpus.find(({ address }) => address === one.address)?.keptLinks);
        for (const { number, far } of one.links) {
          const inside =
            far.kind === "bridge" || (far.kind === "gpu" && ownerOf.get(far.gpu) === ownerOf.get(one.address));
          assert.equal(kept.has(number), inside, `${name} ${one.name} link ${number}`);
        }
      }
      const graph = new LinkGraph(machine);
      const crossing = graph.pairs.filter(({ a, b }) => ownerOf.get(a.address) !== ownerOf.get(b.address));
      assert.equal(
        result.crossLinks.length,
        crossing.reduce((sum, pair) => sum + pair.atA.length, 0),
      );
      assert.ok(result.crossLinks.every((link) => link.cutAt === "both"));
      assert.equal(result.isolated, true);
    }),
    { numRuns: 200, seed: 922 },
  );
});
