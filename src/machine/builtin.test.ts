import assert from "node:assert/strict";
import test from "node:test";
import { ISOLATION } from "../pci/acs.js";
import { compareAddresses, parseAddress, splitAddress } from "../pci/address.js";
import { BUILTIN_MACHINES, builtinMachine } from "./builtin.js";
import { MachineError } from "./error.js";
import type { Gpu, Machine } from "./machine.js";
import { partFacts } from "./part.js";

const NAMES = ["redbud", "sequoia", "minsky", "c4140", "dgx1v", "hgx-a100-4"];
const MACHINES = NAMES.map((name) => builtinMachine(name));

function gpuNamed(machine: Machine, name: string): Gpu {
  const gpu = machine.gpus.find((candidate) => candidate.name === name);
  assert.ok(gpu, `${machine.name} has no ${name}`);
  return gpu;
}

/** Links from each GPU (row) to each other GPU. */
function pairCounts(machine: Machine): number[][] {
  return machine.gpus.map((from) =>
    machine.gpus.map((to) => from.links.filter(({ far }) => far.kind === "gpu" && far.gpu === to.address).length),
  );
}

test("the six machines are listed, and each can be built by its name", () => {
  assert.deepEqual(
    BUILTIN_MACHINES.map(({ name }) => name),
    NAMES,
  );
  for (const machine of MACHINES) assert.ok(machine.gpus.length >= 4);
});

test("an unknown name is an error that lists the known ones", () => {
  assert.throws(() => builtinMachine("summit"), {
    name: "MachineError",
    code: "EMACHINE_NAME",
    message: 'no built-in machine "summit"; there are redbud, sequoia, minsky, c4140, dgx1v, hgx-a100-4',
  });
  assert.throws(() => builtinMachine("__proto__"), MachineError);
});

test("every built-in machine says that it is virtual and what is assumed", () => {
  for (const machine of MACHINES) {
    assert.equal(machine.virtual, true);
    assert.match(machine.source, /^built-in wiring plan; assumed: \S/);
    assert.equal(machine.groups, undefined);
    assert.equal(machine.platform, ["redbud", "sequoia", "minsky"].includes(machine.name) ? "powernv" : "pc");
    assert.equal(machine.kernel?.commandLine, machine.platform === "powernv" ? "" : undefined);
  }
});

test("a machine is made afresh every time, so that changing one changes no other", () => {
  gpuNamed(builtinMachine("sequoia"), "GPU0").links.length = 0;
  assert.equal(gpuNamed(builtinMachine("sequoia"), "GPU0").links.length, 6);
});

test("every link between GPUs has a far end that points back at it", () => {
  for (const machine of MACHINES) {
    for (const gpu of machine.gpus) {
      for (const { number, far } of gpu.links) {
        if (far.kind !== "gpu") continue;
        const peer = machine.gpus.find(({ address }) => address === far.gpu);
        assert.deepEqual(
          peer?.links.find((link) => link.number === far.link)?.far,
          { kind: "gpu", gpu: gpu.address, link: number },
          `${machine.name} ${gpu.name} link ${number}`,
        );
      }
    }
  }
});

test("every GPU uses all links of its part, once each, and all are up without evidence", () => {
  for (const machine of MACHINES) {
    for (const gpu of machine.gpus) {
      const numbers = gpu.links.map(({ number }) => number);
      assert.deepEqual(numbers, [...Array(partFacts(gpu.part)?.links).keys()], `${machine.name} ${gpu.name}`);
      for (const link of gpu.links) {
        assert.equal(link.state, "up");
        assert.equal(link.evidence, undefined);
        assert.equal(link.origin, "wiring");
      }
    }
  }
});

test("pairs have as many links as the wiring tables say", () => {
  const mesh = (count: number) => [0, 1, 2, 3].map((a) => [0, 1, 2, 3].map((b) => (a === b ? 0 : count)));
  const counts = Object.fromEntries(MACHINES.map((machine) => [machine.name, pairCounts(machine)]));
  assert.deepEqual(counts.c4140, mesh(2));
  assert.deepEqual(counts["hgx-a100-4"], mesh(4));
  assert.deepEqual(counts.redbud, [
    [0, 3, 0, 0],
    [3, 0, 0, 0],
    [0, 0, 0, 3],
    [0, 0, 3, 0],
  ]);
  assert.deepEqual(counts.minsky, [
    [0, 2, 0, 0],
    [2, 0, 0, 0],
    [0, 0, 0, 2],
    [0, 0, 2, 0],
  ]);
  assert.deepEqual(counts.sequoia, [
    [0, 2, 2, 0, 0, 0],
    [2, 0, 2, 0, 0, 0],
    [2, 2, 0, 0, 0, 0],
    [0, 0, 0, 0, 2, 2],
    [0, 0, 0, 2, 0, 2],
    [0, 0, 0, 2, 2, 0],
  ]);
  assert.deepEqual(
    counts.dgx1v?.map((row) => row.join("")),
    ["01122000", "10210200", "12020010", "21200001", "20000112", "02001021", "00101202", "00012120"],
  );
});

test("links to the CPU end at the GPU's own bridges, in the order of the bridges", () => {
  const expected: Record<string, Record<string, number[]>> = {
    redbud: { GPU0: [1, 3, 5], GPU1: [1, 3, 5], GPU3: [1, 3, 5], GPU4: [1, 3, 5] },
    sequoia: { GPU0: [1, 5], GPU1: [1, 5], GPU2: [3, 5], GPU3: [1, 5], GPU4: [1, 5], GPU5: [3, 5] },
    minsky: { GPU1: [0, 1], GPU2: [0, 1], GPU3: [0, 1], GPU4: [0, 1] },
  };
  for (const machine of MACHINES) {
    assert.deepEqual(Object.keys(expected[machine.name] ?? {}).length > 0, machine.bridges.length > 0);
    for (const gpu of machine.gpus) {
      const toCpu = gpu.links.filter(({ far }) => far.kind === "bridge");
      assert.deepEqual(
        toCpu.map(({ number }) => number),
        expected[machine.name]?.[gpu.name] ?? [],
      );
      assert.deepEqual(
        toCpu.map(({ far }) => (far.kind === "bridge" ? far.bridge : "")),
        gpu.bridges,
      );
      for (const bridge of gpu.bridges) {
        assert.equal(machine.bridges.find(({ address }) => address === bridge)?.gpu, gpu.address);
      }
    }
  }
});

test("what is inferred is marked assumed: on x86 and Minsky every link, on an AC922 those between two GPUs", () => {
  for (const machine of MACHINES) {
    for (const link of machine.gpus.flatMap(({ links }) => links)) {
      const ac922 = machine.name === "redbud" || machine.name === "sequoia";
      assert.equal(link.assumed ?? false, ac922 ? link.far.kind === "gpu" : true);
    }
  }
});

test("GPUs are where they were seen, with their slot labels", () => {
  const where = (name: string) => builtinMachine(name).gpus.map((gpu) => `${gpu.name} ${gpu.address}`);
  assert.deepEqual(where("redbud"), [
    "GPU0 0004:04:00.0",
    "GPU1 0004:05:00.0",
    "GPU3 0035:03:00.0",
    "GPU4 0035:04:00.0",
  ]);
  assert.deepEqual(where("minsky"), [
    "GPU1 0002:01:00.0",
    "GPU2 0003:01:00.0",
    "GPU3 000a:01:00.0",
    "GPU4 000b:01:00.0",
  ]);
  assert.equal(where("sequoia")[5], "GPU5 0035:05:00.0");
  assert.equal(where("c4140")[1], "GPU1 0000:1c:00.0");
});

test("an AC922's V100 at 0035:03:00.0 has the BARs that lspci listed on a real one", () => {
  const v100 = builtinMachine("sequoia").functions.find(({ address }) => address === "0035:03:00.0");
  assert.deepEqual(
    v100?.bars.map((bar) => [bar.index, bar.address, bar.size, bar.width, bar.prefetchable]),
    [
      [0, 0x620c280000000n, 0x1000000n, 32, false],
      [1, 0x6228000000000n, 0x400000000n, 64, true],
      [3, 0x6228400000000n, 0x2000000n, 64, true],
    ],
  );
  assert.equal(v100?.numaNode, 8);
});

test("Minsky's P100 at 000a:01:00.0 has the BARs that lspci listed on a real one", () => {
  const p100 = builtinMachine("minsky").functions.find(({ address }) => address === "000a:01:00.0");
  assert.deepEqual(
    p100?.bars.map((bar) => bar.address),
    [0x3fe300000000n, 0x260000000000n, 0x260400000000n],
  );
});

test("an AC922 has its GPUs' RAM windows, compressed addresses and one ATSD register per link", () => {
  const sequoia = builtinMachine("sequoia");
  assert.deepEqual(
    sequoia.memory.map(({ base, tgt }) => [base, tgt]),
    [
      [0x3e000000000n, 0x3e000000000n],
      [0x3c000000000n, 0x3c000000000n],
      [0x3a000000000n, 0x3a000000000n],
      [0x23e000000000n, 0xbe000000000n],
      [0x23c000000000n, 0xbc000000000n],
      [0x23a000000000n, 0xba000000000n],
    ],
  );
  assert.equal(new Set(sequoia.bridges.map(({ atsd }) => atsd)).size, 12);
  assert.deepEqual(
    sequoia.bridges.slice(0, 6).map(({ linkIndex, groupId, slotLabel }) => [linkIndex, groupId, slotLabel]),
    [0, 1, 2, 3, 4, 5].map((index) => [index, index >> 1, `GPU${index >> 1}`]),
  );
  for (const name of ["minsky", "c4140", "dgx1v", "hgx-a100-4"]) assert.deepEqual(builtinMachine(name).memory, []);
});

test("functions are sorted, in canonical spelling, once each, and GPUs and bridges are among them", () => {
  for (const machine of MACHINES) {
    const addresses = machine.functions.map(({ address }) => address);
    assert.deepEqual(addresses, [...new Set(addresses)].map(parseAddress).sort(compareAddresses));
    for (const { address } of [...machine.gpus, ...machine.bridges]) assert.ok(addresses.includes(address), address);
  }
});

test("every function hangs below a bridge that leads to its bus, up to a root bus", () => {
  for (const { functions } of MACHINES) {
    const byAddress = new Map(functions.map((fn) => [fn.address, fn]));
    for (const fn of functions) {
      const { domain, bus } = splitAddress(fn.address);
      if (fn.parent === null) {
        assert.ok(fn.express?.type === "root-port" || fn.deviceId === 0x04ea, fn.address);
        continue;
      }
      const parent = byAddress.get(fn.parent ?? "");
      assert.equal(parent?.buses?.secondary, bus, fn.address);
      assert.equal(splitAddress(parent?.address ?? "").domain, domain);
      assert.ok((parent?.buses?.subordinate ?? 0) >= (fn.buses?.subordinate ?? bus), fn.address);
    }
  }
});

test("no two BARs of a machine overlap", () => {
  for (const machine of MACHINES) {
    const ranges = machine.functions
      .flatMap(({ bars }) => bars.map(({ address, size }) => ({ start: address, end: address + (size ?? 0n) })))
      .sort((a, b) => (a.start < b.start ? -1 : 1));
    ranges.forEach((range, index) => {
      assert.ok(range.start >= (ranges[index - 1]?.end ?? 0n), `${machine.name} ${range.start.toString(16)}`);
    });
    for (const bar of machine.functions.flatMap(({ bars }) => bars)) {
      assert.equal(bar.address % (bar.size ?? 1n), 0n, `${machine.name} ${bar.address.toString(16)}`);
    }
  }
});

test("on x86 every root and downstream port has the ACS bits on that the kernel wants before it separates groups", () => {
  for (const machine of MACHINES.filter(({ platform }) => platform === "pc")) {
    const ports = machine.functions.filter(
      ({ express }) => express?.type === "root-port" || express?.type === "downstream-port",
    );
    assert.ok(ports.length >= 4);
    for (const { acs } of ports) {
      assert.equal((acs?.enabled ?? 0) & ISOLATION, ISOLATION);
      assert.equal((acs?.enabled ?? 0) & ~(acs?.supported ?? 0), 0);
    }
    for (const fn of machine.functions.filter(({ express }) => express?.type === "upstream-port")) {
      assert.equal(fn.multifunction, false);
    }
  }
});

test("a function has the ACS capability in its list exactly when it has ACS", () => {
  for (const fn of MACHINES.flatMap(({ functions }) => functions)) {
    const listed = fn.capabilities.some(({ id, extended }) => extended && id === 0x0d);
    assert.equal(listed, fn.acs !== undefined, fn.address);
  }
});
