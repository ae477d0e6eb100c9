import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import fc from "fast-check";
import { builtinMachine } from "./builtin.js";
import type { Gpu, Link, Machine } from "./machine.js";
import { applyNvlink } from "./nvidia_smi.js";
import { partFacts } from "./part.js";

function sample(name: string): string {
  return readFileSync(new URL(`../../test/data/nvidia-smi/${name}`, import.meta.url), "utf8");
}

/** As sysfs shows the machine: GPUs by address, links whose far ends nobody knows. */
function asSysfsShows(name: string): Machine {
  const machine = builtinMachine(name);
  const gpus = machine.gpus.map((gpu): Gpu => {
    const links = gpu.links.map(
      ({ number }): Link => ({ number, far: { kind: "unknown" }, state: "unknown", origin: "sysfs" }),
    );
    return { ...gpu, name: gpu.address, links, origin: "sysfs" };
  });
  return { ...machine, gpus };
}

/** What nvidia-smi prints on a machine whose links are known. */
function printNvlink(machine: Machine, option: "-p" | "-R"): string {
  const lines = machine.gpus.flatMap(({ links }, index) => [
    `GPU ${index}: NVIDIA Device (UUID: GPU-${index})`,
    ...links.flatMap(({ number, far }) => {
      if (far.kind !== "gpu") return [];
      const remote = `0000${far.gpu.toUpperCase()}`;
      return option === "-p"
        ? `\t Link ${number}: ${remote}`
        : `\t Link ${number}: Remote Device ${remote}: Link ${far.link}`;
    }),
  ]);
  return `${lines.join("\n")}\n`;
}

function printMatrix(machine: Machine): string {
  const names = machine.gpus.map((_, index) => `GPU${index}`);
  const rows = machine.gpus.map((from, row) => {
    const cells = machine.gpus.map((to, column) => {
      const count = from.links.filter(({ far }) => far.kind === "gpu" && far.gpu === to.address).length;
      return row === column ? " X " : count > 0 ? `NV${count}` : "SYS";
    });
    return `GPU${row}\t${cells.join("\t")}\t0-7`;
  });
  return `\t${names.join("\t")}\tCPU Affinity\n${rows.join("\n")}\n`;
}

function farEnds(machine: Machine): [string, [number, Link["far"]][]][] {
  return machine.gpus.map(({ name, links }) => [name, links.map(({ number, far }) => [number, far])]);
}

test("nvlink -R gives every link its far end and number, up and not assumed, and GPUs nvidia-smi's names", () => {
  const machine = applyNvlink(asSysfsShows("c4140"), { nvlink: sample("c4140-nvlink-remote.txt") });
  const [gpu0] = machine.gpus;
  assert.equal(gpu0?.name, "GPU0");
  assert.deepEqual(gpu0?.links[0], {
    number: 0,
    far: { kind: "gpu", gpu: "0000:1e:00.0", link: 3 },
    state: "up",
    origin: "nvidia-smi",
  });
  assert.deepEqual([machine.unknown, machine.disagreements], [[], undefined]);
});

test("nvlink -p pairs the links of two GPUs in ascending order and says that this is assumed", () => {
  const machine = applyNvlink(asSysfsShows("c4140"), { nvlink: sample("c4140-nvlink-pci.txt") });
  for (const gpu of machine.gpus) {
    for (const link of gpu.links) {
      assert.equal(link.assumed, true);
      const { far } = link;
      const peer = machine.gpus.find(({ address }) => far.kind === "gpu" && address === far.gpu);
      const back = peer?.links.find(({ number }) => far.kind === "gpu" && number === far.link);
      assert.deepEqual(back?.far, { kind: "gpu", gpu: gpu.address, link: link.number });
    }
  }
});

test("every built-in x86 machine comes back from what nvidia-smi would print on it", () => {
  for (const name of ["c4140", "dgx1v", "hgx-a100-4"]) {
    const wired = builtinMachine(name);
    for (const option of ["-p", "-R"] as const) {
      const read = applyNvlink(asSysfsShows(name), { nvlink: printNvlink(wired, option), topo: printMatrix(wired) });
      assert.deepEqual(farEnds(read), farEnds(wired), `${name} ${option}`);
      assert.deepEqual([read.unknown, read.disagreements], [[], undefined]);
    }
  }
});

test("one text may hold links and matrix, and may be given for both", () => {
  const wired = builtinMachine("dgx1v");
  const both = `$ nvidia-smi nvlink -R\n${printNvlink(wired, "-R")}$ nvidia-smi topo -m\n${printMatrix(wired)}`;
  const expected = farEnds(wired);
  assert.deepEqual(farEnds(applyNvlink(asSysfsShows("dgx1v"), { nvlink: both })), expected);
  assert.deepEqual(farEnds(applyNvlink(asSysfsShows("dgx1v"), { nvlink: both, topo: both })), expected);
  const links = printNvlink(wired, "-R");
  assert.deepEqual(farEnds(applyNvlink(asSysfsShows("dgx1v"), { nvlink: links, topo: links })), expected);
});

test("the machine passed in is not changed", () => {
  const before = asSysfsShows("c4140");
  const copy = structuredClone(before);
  applyNvlink(before, { nvlink: sample("c4140-nvlink-remote.txt"), topo: sample("c4140-topo.txt") });
  assert.deepEqual(before, copy);
});

test("a text with nothing of nvidia-smi's in it is an error", () => {
  for (const text of ["", "hello\n", "NVIDIA-SMI has failed\n"]) {
    assert.throws(() => applyNvlink(asSysfsShows("c4140"), { nvlink: text }), { code: "ENVIDIA_SMI" });
    assert.throws(() => applyNvlink(asSysfsShows("c4140"), { topo: text }), { code: "ENVIDIA_SMI" });
  }
});

test("an inactive link is down, never cut, and one that is not mentioned stays unknown", () => {
  const inactive = sample("c4140-nvlink-status.txt").replace("Link 0: 25.781 GB/s", "Link 0: <inactive>");
  const [gpu0] = applyNvlink(asSysfsShows("c4140"), { nvlink: inactive }).gpus;
  assert.deepEqual(
    gpu0?.links.map(({ state }) => state),
    ["down", "up", "up", "up", "up", "up"],
  );
  const oneLess = sample("c4140-nvlink-pci.txt").replace(/\t Link 0: .*\n/, "");
  const [first] = applyNvlink(asSysfsShows("c4140"), { nvlink: oneLess }).gpus;
  assert.deepEqual([first?.links[0]?.far, first?.links[0]?.state], [{ kind: "unknown" }, "unknown"]);
});

test("a GPU of which nvidia-smi says that all links are inactive has them all down", () => {
  const says = "\t NVML: Unable to retrieve Nvlink information as all links are inActive\n";
  const text = [0, 1, 2, 3].map((index) => `GPU ${index}: Tesla V100-SXM2-16GB (UUID: GPU-${index})\n${says}`).join("");
  const machine = applyNvlink(asSysfsShows("c4140"), { nvlink: text });
  assert.deepEqual(new Set(machine.gpus.flatMap(({ links }) => links.map(({ state }) => state))), new Set(["down"]));
  assert.equal(machine.disagreements, undefined);
  const contradicted = applyNvlink(asSysfsShows("c4140"), { nvlink: text, topo: sample("c4140-topo.txt") });
  assert.equal(contradicted.disagreements?.length, 6);
});

test("a link that only one end knows of is a disagreement", () => {
  const text = sample("c4140-nvlink-pci.txt").replace(
    /(GPU 1: (?:.*\n\t)*? Link \d: )00000000:1A:00.0/,
    "$100000000:1D:00.0",
  );
  assert.notEqual(text, sample("c4140-nvlink-pci.txt"));
  const { disagreements } = applyNvlink(asSysfsShows("c4140"), { nvlink: text });
  assert.deepEqual(
    disagreements?.map(({ gpus }) => gpus),
    [
      ["0000:1a:00.0", "0000:1c:00.0"],
      ["0000:1c:00.0", "0000:1d:00.0"],
    ],
  );
  assert.match(
    disagreements?.[0]?.reason ?? "",
    /^nvidia-smi nvlink: GPU0 has links .* to GPU1, but GPU1 has link .* to GPU0$/,
  );
});

test("links that do not meet are a disagreement", () => {
  const wired = builtinMachine("c4140");
  const text = printNvlink(wired, "-R").replace("1C:00.0: Link 0", "1C:00.0: Link 5");
  const { disagreements } = applyNvlink(asSysfsShows("c4140"), { nvlink: text });
  assert.deepEqual(
    disagreements?.map(({ gpus }) => gpus),
    [["0000:1a:00.0", "0000:1c:00.0"]],
  );
});

test("a matrix that gives another number of links is a disagreement with both statements", () => {
  const topo = sample("c4140-topo.txt").replace("GPU0\t X \tNV2", "GPU0\t X \tNV1").replace("GPU1\tNV2", "GPU1\tNV1");
  const { disagreements } = applyNvlink(asSysfsShows("c4140"), { nvlink: sample("c4140-nvlink-remote.txt"), topo });
  assert.deepEqual(disagreements, [
    {
      gpus: ["0000:1a:00.0", "0000:1c:00.0"],
      reason: "nvidia-smi topo -m gives 1 NVLink between GPU0 and GPU1, nvidia-smi 2 NVLinks",
    },
  ]);
});

test("a matrix that contradicts itself is a disagreement", () => {
  const topo = sample("c4140-topo.txt").replace("GPU0\t X \tNV2", "GPU0\t X \tSYS");
  const { disagreements } = applyNvlink(asSysfsShows("c4140"), { nvlink: sample("c4140-nvlink-remote.txt"), topo });
  assert.deepEqual(
    disagreements?.map(({ reason }) => reason),
    ["nvidia-smi topo -m gives no NVLink from GPU0 to GPU1 and 2 NVLinks back"],
  );
});

test("a matrix is checked against links from elsewhere too", () => {
  const wired = builtinMachine("dgx1v");
  assert.equal(applyNvlink(wired, { topo: printMatrix(wired) }).disagreements, undefined);
  const topo = printMatrix(wired).replaceAll("NV1", "NV2");
  assert.equal(applyNvlink(wired, { topo }).disagreements?.length, 8);
});

test("a matrix alone says who is joined, but not by which links: that stays unknown", () => {
  const machine = applyNvlink(asSysfsShows("c4140"), { topo: sample("c4140-topo.txt") });
  assert.deepEqual(
    machine.unknown.map(({ what, functions }) => [what, functions]),
    [
      [
        "which links of GPU0 join it to GPU1 by 2 NVLinks, GPU2 by 2 NVLinks, GPU3 by 2 NVLinks: nvidia-smi topo -m gives only how many",
        ["0000:1a:00.0"],
      ],
      [
        "which links of GPU1 join it to GPU2 by 2 NVLinks, GPU3 by 2 NVLinks: nvidia-smi topo -m gives only how many",
        ["0000:1c:00.0"],
      ],
      ["which links of GPU2 join it to GPU3 by 2 NVLinks: nvidia-smi topo -m gives only how many", ["0000:1d:00.0"]],
    ],
  );
  for (const { links } of machine.gpus) {
    assert.deepEqual(new Set(links.map(({ far }) => far.kind)), new Set(["unknown"]));
  }
});

const SWITCHES = ["0000:c4:00.0", "0000:c5:00.0", "0000:c6:00.0"];

/** Two A100 and, where asked for, the NVSwitches between them. */
function switchedMachine(withSwitches: boolean): Machine {
  const machine = asSysfsShows("hgx-a100-4");
  const gpus = machine.gpus.slice(0, 2);
  const functions = machine.functions.filter(({ address }) => gpus.some((gpu) => gpu.address === address));
  const switches = SWITCHES.map((address) => ({
    address,
    vendorId: 0x10de,
    classCode: 0x068000,
    bars: [],
    capabilities: [],
  }));
  return { ...machine, gpus, functions: withSwitches ? [...functions, ...switches] : functions };
}

test("links into NVSwitches end there, and the matrix that counts them is no disagreement", () => {
  const texts = { nvlink: sample("nvswitch-nvlink-remote.txt"), topo: sample("nvswitch-topo.txt") };
  const machine = applyNvlink(switchedMachine(true), texts);
  for (const { links } of machine.gpus) {
    assert.deepEqual(
      links.map(({ far }) => (far.kind === "switch" ? far.switch : far.kind)),
      SWITCHES.flatMap((address) => [address, address, address, address]),
    );
  }
  assert.deepEqual([machine.unknown, machine.disagreements], [[], undefined]);
  const fewer = { ...texts, topo: texts.topo.replaceAll("NV12", "NV11") };
  assert.equal(applyNvlink(switchedMachine(true), fewer).disagreements?.length, 1);
});

test("a far end that is no function of the machine is unknown, and the address is named", () => {
  const machine = applyNvlink(switchedMachine(false), { nvlink: sample("nvswitch-nvlink-remote.txt") });
  assert.deepEqual(
    new Set(machine.gpus.flatMap(({ links }) => links.map(({ far }) => far.kind))),
    new Set(["unknown"]),
  );
  assert.deepEqual(
    machine.unknown.map(({ what }) => /what is at (\S+), where NVLinks of GPU0, GPU1 lead/.exec(what)?.[1]),
    SWITCHES,
  );
});

test("links to the CPU end at NPU bridges", () => {
  const wired = builtinMachine("sequoia");
  const remote = wired.gpus.flatMap(({ links }, index) => [
    `GPU ${index}: Tesla V100-SXM2-16GB (UUID: GPU-${index})`,
    ...links.map(
      ({ number, far }) =>
        `\t Link ${number}: ${far.kind === "gpu" ? far.gpu : far.kind === "bridge" ? far.bridge : ""}`,
    ),
  ]);
  const read = applyNvlink(asSysfsShows("sequoia"), { nvlink: remote.join("\n") });
  assert.deepEqual(
    farEnds(read),
    farEnds(wired).map(([, links], index) => [`GPU${index}`, links]),
  );
});

test("far ends known from elsewhere stand, and a contradiction is a disagreement", () => {
  const wired = builtinMachine("c4140");
  const read: Machine = {
    ...wired,
    gpus: wired.gpus.map((gpu) => ({
      ...gpu,
      links: gpu.links.map(({ number, far }) => ({ number, far, state: "up", origin: "device-tree" as const })),
    })),
  };
  const agreed = applyNvlink(read, { nvlink: printNvlink(wired, "-R") });
  assert.deepEqual([farEnds(agreed), agreed.disagreements], [farEnds(wired), undefined]);
  const other = applyNvlink(read, { nvlink: sample("c4140-nvlink-remote.txt") });
  assert.deepEqual(farEnds(other), farEnds(wired));
  assert.match(
    other.disagreements?.[0]?.reason ?? "",
    /^GPU0 link 0: device-tree says 0000:1c:00.0 link 0, nvidia-smi 0000:1e:00.0$/,
  );
});

test("slot labels stay when the machine has them", () => {
  const labelled = asSysfsShows("c4140");
  for (const [index, gpu] of labelled.gpus.entries()) gpu.name = `SXM${index}`;
  const machine = applyNvlink(labelled, { nvlink: sample("c4140-nvlink-remote.txt") });
  assert.deepEqual(
    machine.gpus.map(({ name }) => name),
    ["SXM0", "SXM1", "SXM2", "SXM3"],
  );
});

test("nvidia-smi counts only the GPUs that its driver has", () => {
  const machine = asSysfsShows("c4140");
  for (const fn of machine.functions) {
    if (fn.classCode === 0x030200) fn.driver = fn.address === "0000:1a:00.0" ? "vfio-pci" : "nvidia";
  }
  const three = [1, 2, 3].map((index) => builtinMachine("c4140").gpus[index]).flatMap((gpu) => gpu ?? []);
  const read = applyNvlink(machine, { nvlink: printNvlink({ ...builtinMachine("c4140"), gpus: three }, "-R") });
  assert.deepEqual(
    read.gpus.map(({ name }) => name),
    ["0000:1a:00.0", "GPU0", "GPU1", "GPU2"],
  );
  assert.deepEqual(farEnds(read)[1]?.[1], farEnds(builtinMachine("c4140"))[1]?.[1]);
  assert.equal(
    farEnds(read)[0]?.[1].every(([, far]) => far.kind === "unknown"),
    true,
  );
});

function assertNothingTaken(machine: Machine, text: string, what: RegExp): void {
  const read = applyNvlink(machine, { nvlink: text });
  assert.deepEqual(read.gpus, machine.gpus);
  assert.equal(read.unknown.length, 1);
  assert.match(read.unknown[0]?.what ?? "", what);
}

test("another number of GPUs than the machine has is unknown, and nothing is taken over", () => {
  const remote = sample("c4140-nvlink-remote.txt");
  const without3 = remote.slice(0, remote.indexOf("GPU 3:"));
  assertNothingTaken(
    asSysfsShows("c4140"),
    without3,
    /^which GPUs nvidia-smi means: it lists 3, and there are 4 that it can mean$/,
  );
  assertNothingTaken(asSysfsShows("c4140"), remote.slice(remote.indexOf("GPU 3:")), /: it lists 1, /);
});

test("fewer GPUs than the machine has are taken when their far ends name just as many and both ends agree", () => {
  const machine = asSysfsShows("c4140");
  const [first] = machine.gpus;
  assert.ok(first);
  const display = { address: "0000:03:00.0", vendorId: 0x10de, classCode: 0x030000, bars: [], capabilities: [] };
  const k80: Gpu = {
    ...first,
    address: "0000:04:00.0",
    name: "0000:04:00.0",
    part: "unknown",
    nvlink: "none",
    links: [],
  };
  const more = { ...machine, functions: [display, ...machine.functions], gpus: [k80, ...machine.gpus] };
  const read = applyNvlink(more, { nvlink: sample("c4140-nvlink-remote.txt") });
  assert.deepEqual(
    read.gpus.map(({ name }) => name),
    ["0000:04:00.0", "GPU0", "GPU1", "GPU2", "GPU3"],
  );
});

test("a text of another machine is not taken: products, link numbers or GPUs linked to themselves give it away", () => {
  const remote = sample("c4140-nvlink-remote.txt");
  const fits = /^which GPUs nvidia-smi means: what it says fits none of the machine's/;
  assertNothingTaken(asSysfsShows("c4140"), remote.replaceAll("Tesla V100-SXM2-16GB", "NVIDIA A100-SXM4-40GB"), fits);
  assertNothingTaken(asSysfsShows("c4140"), remote.replace("Link 0: Remote", "Link 6: Remote"), fits);
  const swapped = remote.replace("GPU 0:", "GPU x:").replace("GPU 1:", "GPU 0:").replace("GPU x:", "GPU 1:");
  assertNothingTaken(asSysfsShows("c4140"), swapped, fits);
});

test("a GPU of an unknown part gets as many links as nvidia-smi lists", () => {
  const machine = asSysfsShows("c4140");
  for (const gpu of machine.gpus) Object.assign(gpu, { part: "unknown", nvlink: "unknown", links: [] });
  const read = applyNvlink(machine, { nvlink: sample("c4140-nvlink-remote.txt").replaceAll("V100", "H100") });
  assert.deepEqual(
    read.gpus.map(({ nvlink, links }) => [nvlink, links.length]),
    [0, 1, 2, 3].map(() => ["present", 6]),
  );
});

test("evidence read from registers outlives what nvidia-smi says of the state", () => {
  const machine = asSysfsShows("c4140");
  const evidence = { registers: [{ offset: 0xa00148, value: 0x003f0000 }] };
  for (const link of machine.gpus[0]?.links ?? []) Object.assign(link, { state: "cut", evidence });
  const [gpu0] = applyNvlink(machine, { nvlink: sample("c4140-nvlink-remote.txt") }).gpus;
  assert.deepEqual([gpu0?.links[0]?.state, gpu0?.links[0]?.evidence], ["cut", evidence]);
});

/** Links between random pairs of the DGX-1V's GPUs, at random link numbers. */
const randomWiring = fc.array(fc.tuple(fc.nat(7), fc.nat(5), fc.nat(7), fc.nat(5)), { maxLength: 40 }).map((wires) => {
  const machine = asSysfsShows("dgx1v");
  const taken = new Set<string>();
  for (const [a, aLink, b, bLink] of wires) {
    const [from, to] = [machine.gpus[a], machine.gpus[b]];
    const ends = [`${a} ${aLink}`, `${b} ${bLink}`];
    if (a === b || from === undefined || to === undefined || ends.some((end) => taken.has(end))) continue;
    for (const end of ends) taken.add(end);
    Object.assign(from.links[aLink] ?? {}, { far: { kind: "gpu", gpu: to.address, link: bLink } });
    Object.assign(to.links[bLink] ?? {}, { far: { kind: "gpu", gpu: from.address, link: aLink } });
  }
  return machine;
});

test("any wiring comes back from -R as it is, and from -p with the right GPUs and links that meet", () => {
  fc.assert(
    fc.property(randomWiring, (wired) => {
      const matrix = { topo: printMatrix(wired) };
      const exact = applyNvlink(asSysfsShows("dgx1v"), { nvlink: printNvlink(wired, "-R"), ...matrix });
      assert.deepEqual(
        exact.gpus.map(({ links }) => links.map(({ far }) => far)),
        wired.gpus.map(({ links }) => links.map(({ far }) => far)),
      );
      const paired = applyNvlink(asSysfsShows("dgx1v"), { nvlink: printNvlink(wired, "-p"), ...matrix });
      const peers = (machine: Machine) =>
        machine.gpus.map(({ links }) => links.map(({ far }) => (far.kind === "gpu" ? far.gpu : far.kind)));
      assert.deepEqual(peers(paired), peers(wired));
      assert.deepEqual([exact.disagreements, paired.disagreements], [undefined, undefined]);
    }),
    { numRuns: 50 },
  );
});

test("link numbers stay within the part's", () => {
  for (const name of ["c4140", "dgx1v", "hgx-a100-4"]) {
    const wired = builtinMachine(name);
    const read = applyNvlink(asSysfsShows(name), { nvlink: printNvlink(wired, "-p") });
    for (const { part, links } of read.gpus) assert.equal(links.length, partFacts(part)?.links);
  }
});
