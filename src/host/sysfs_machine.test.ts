import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { type Entry, madeUpConfig, madeUpFunction, madeUpHost } from "../../test/made_up_host.js";
import { processorTime } from "../../test/processor_time.js";
import type { Machine } from "../machine/machine.js";
import { HostError } from "./error.js";
import { readHost } from "./sysfs_machine.js";

const PORT = "0000:00:01.0";
const GPU = "0000:1a:00.0";
const AUDIO = "0000:1a:00.1";
const FOLDER = `sys/devices/pci0000:00/${PORT}/${GPU}`;

const GPU_RESOURCE = [
  "0x00000000c0000000 0x00000000c0ffffff 0x0000000000040200",
  "0x0000004000000000 0x00000043ffffffff 0x000000000014220c",
  "0x0000000000000000 0x0000000000000000 0x0000000000000000",
].join("\n");

/** A root port with a V100 SXM2 and an audio function below it, as root reads them. */
const HOST: Readonly<Record<string, Entry>> = {
  ...madeUpFunction("pci0000:00", PORT, {
    config: madeUpConfig({ size: 4096, ids: [0x8086, 0x2030], classCode: 0x060400, buses: [0, 0x1a, 0x1a] }),
    resource: "",
    numa_node: "-1\n",
    irq: "24\n",
  }),
  ...madeUpFunction(`pci0000:00/${PORT}`, GPU, {
    config: madeUpConfig({ size: 4096, ids: [0x10de, 0x1db1], classCode: 0x030200, bar0: 0xc0000000 }),
    resource: GPU_RESOURCE,
    numa_node: "1\n",
    irq: "0\n",
    driver: { link: "../../../../bus/pci/drivers/vfio-pci" },
    iommu_group: { link: "../../../../kernel/iommu_groups/7" },
  }),
  ...madeUpFunction(`pci0000:00/${PORT}`, AUDIO, {
    config: madeUpConfig({ size: 256, ids: [0x10de, 0x10f2], classCode: 0x040300 }),
    iommu_group: { link: "../../../../kernel/iommu_groups/7" },
  }),
  [`sys/kernel/iommu_groups/7/devices/${AUDIO}`]: { link: "anywhere" },
  [`sys/kernel/iommu_groups/7/devices/${GPU}`]: { link: "anywhere" },
  "sys/kernel/iommu_groups/10/devices/0000:ff:00.1": { link: "anywhere" },
  "sys/kernel/iommu_groups/10/devices/0000:ff:00.0": { link: "anywhere" },
  [`sys/kernel/iommu_groups/0/devices/${PORT}`]: { link: "anywhere" },
  "sys/kernel/iommu_groups/9/devices/arm-smmu": { link: "anywhere" },
  "sys/firmware/acpi": "folder/",
  "proc/cmdline": "quiet pcie_acs_override=downstream\n",
  "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
};

function functionAt(machine: Machine, address: string) {
  const fn = machine.functions.find((one) => one.address === address);
  assert.ok(fn, `${address} is there`);
  return fn;
}

function whats(machine: Machine): string[] {
  return machine.unknown.map(({ what }) => what);
}

test("a function has what its config space and the kernel's files say", (t) => {
  const machine = readHost(madeUpHost(t, HOST));
  assert.deepEqual(
    machine.functions.map((fn) => fn.address),
    [PORT, GPU, AUDIO],
  );
  const gpu = functionAt(machine, GPU);
  assert.deepEqual([gpu.vendorId, gpu.deviceId, gpu.classCode], [0x10de, 0x1db1, 0x030200]);
  assert.deepEqual([gpu.driver, gpu.numaNode, gpu.irq], ["vfio-pci", 1, undefined]);
  const port = functionAt(machine, PORT);
  assert.deepEqual([port.driver, port.numaNode, port.irq], [undefined, undefined, 24]);
  assert.deepEqual(port.buses, { primary: 0, secondary: 0x1a, subordinate: 0x1a });
});

test("BARs have the kernel's sizes, and those that only the kernel knows are added", (t) => {
  const gpu = functionAt(readHost(madeUpHost(t, HOST)), GPU);
  assert.deepEqual(
    gpu.bars.map(({ index, address, size, width, prefetchable }) => [index, address, size, width, prefetchable]),
    [
      [0, 0xc0000000n, 0x1000000n, 32, false],
      [1, 0x4000000000n, 0x400000000n, 64, true],
    ],
  );
});

test("parents come from where the links among the devices lead", (t) => {
  const machine = readHost(madeUpHost(t, HOST));
  assert.equal(functionAt(machine, PORT).parent, null);
  assert.equal(functionAt(machine, GPU).parent, PORT);
});

test("functions whose devices are folders and not links have parents that nobody knows", (t) => {
  const config = madeUpConfig({ size: 256, ids: [0x8086, 1], classCode: 0x020000 });
  const machine = readHost(madeUpHost(t, { [`sys/bus/pci/devices/${GPU}/config`]: config }));
  assert.equal(functionAt(machine, GPU).vendorId, 0x8086);
  assert.equal(functionAt(machine, GPU).parent, undefined);
});

test("a host bridge inside a device, as of a volume management device, begins a new root bus", (t) => {
  const vmd = "0000:00:0e.0";
  const root = madeUpHost(t, {
    ...madeUpFunction("pci0000:00", vmd, {}),
    ...madeUpFunction(`pci0000:00/${vmd}/pci10000:00`, "10000:00:02.0", {}),
  });
  assert.equal(functionAt(readHost(root), "10000:00:02.0").parent, null);
});

test("groups have the kernel's numbers in order, members by address, and PCI functions only", (t) => {
  assert.deepEqual(readHost(madeUpHost(t, HOST)).groups, [
    { id: 0, members: [PORT] },
    { id: 7, members: [GPU, AUDIO] },
    { id: 10, members: ["0000:ff:00.0", "0000:ff:00.1"] },
  ]);
});

test("a copy without the folder of groups has those that its functions link to", (t) => {
  const entries = Object.entries(HOST).filter(([path]) => !path.startsWith("sys/kernel"));
  const machine = readHost(madeUpHost(t, Object.fromEntries(entries)));
  assert.deepEqual(machine.groups, [{ id: 7, members: [GPU, AUDIO] }]);
});

test("a kernel that formed no groups has none, and that is said", (t) => {
  const entries = Object.entries(HOST).filter(([path]) => !path.startsWith("sys/kernel"));
  const machine = readHost(madeUpHost(t, { ...Object.fromEntries(entries), "sys/kernel/iommu_groups": "folder/" }));
  assert.equal(machine.groups, undefined);
  assert.ok(whats(machine).some((what) => what.startsWith("IOMMU groups:")));
});

test("release, command line, platform and name are the host's", (t) => {
  const root = madeUpHost(t, HOST);
  const machine = readHost(root);
  assert.deepEqual(machine.kernel, { release: "6.1.0-18-amd64", commandLine: "quiet pcie_acs_override=downstream" });
  assert.deepEqual([machine.platform, machine.virtual, machine.name], ["pc", false, basename(root)]);
  const version = madeUpHost(t, { sys: "folder/", "proc/version": "Linux version 5.4.0-rc1 (x@y) #1 SMP\n" });
  assert.equal(readHost(version).kernel?.release, "5.4.0-rc1");
  assert.equal(readHost(version).platform, "unknown");
  assert.ok(whats(readHost(version)).some((what) => what.includes("/proc/cmdline")));
});

test("a GPU has all links of its part with unknown far ends, and the label of its slot", (t) => {
  const machine = readHost(madeUpHost(t, { ...HOST, "sys/bus/pci/slots/GPU2/address": "0000:1a:00\n" }));
  const [gpu, another] = machine.gpus;
  assert.ok(gpu && another === undefined);
  assert.deepEqual([gpu.address, gpu.name, gpu.part, gpu.nvlink], [GPU, "GPU2", "GV100", "present"]);
  assert.deepEqual(
    gpu.links.map(({ number, far, state, origin }) => [number, far.kind, state, origin]),
    [0, 1, 2, 3, 4, 5].map((number) => [number, "unknown", "unknown", "sysfs"]),
  );
});

test("a GPU whose slot label is no name for it goes by its address", (t) => {
  for (const label of ["host", "a,b", "a=b", "--yes"]) {
    const machine = readHost(madeUpHost(t, { ...HOST, [`sys/bus/pci/slots/${label}/address`]: "0000:1a:00\n" }));
    assert.equal(machine.gpus[0]?.name, GPU, label);
  }
});

test("a virtual function has the ids and BARs of the kernel's files and is no GPU of its own", (t) => {
  const config = madeUpConfig({ size: 4096, ids: [0xffff, 0xffff], classCode: 0x030200 });
  const files = {
    config,
    vendor: "0x10de\n",
    device: "0x20b0\n",
    resource: "0x0000000080000000 0x0000000080ffffff 0x0000000000140204\n",
    physfn: { link: `../${GPU}` },
  };
  const address = "0000:1a:00.4";
  const machine = readHost(madeUpHost(t, { ...HOST, ...madeUpFunction(`pci0000:00/${PORT}`, address, files) }));
  const fn = functionAt(machine, address);
  assert.deepEqual([fn.vendorId, fn.deviceId, fn.bars[0]?.size], [0x10de, 0x20b0, 0x1000000n]);
  assert.equal(fn.physicalFunction, GPU);
  assert.deepEqual(
    machine.gpus.map((gpu) => gpu.address),
    [GPU],
  );
});

test("config space cut to 64 bytes is said once for all functions, with what to do", (t) => {
  const short = madeUpConfig({ size: 64, ids: [0x8086, 1], classCode: 0x020000 });
  const addresses = ["0000:00:00.0", "0000:00:01.0", "0000:00:02.0"];
  const entries = addresses.map((address) => madeUpFunction("pci0000:00", address, { config: short, resource: "" }));
  const machine = readHost(madeUpHost(t, Object.assign({}, ...entries)));
  const about = machine.unknown.filter(({ what }) => what.includes("ACS"));
  assert.deepEqual(about, [
    {
      what: "capabilities and ACS of all 3 PCI functions: only the start of config space can be read",
      functions: [],
      action: "copy the tree as root",
    },
  ]);
});

test("a directory that is no host is refused, a host without PCI is an empty machine with a note", (t) => {
  const root = madeUpHost(t, { file: "" });
  for (const directory of [root, join(root, "missing"), join(root, "file"), "bad\0path"]) {
    assert.throws(
      () => readHost(directory),
      (error) => error instanceof HostError && error.code === "EHOST" && !error.message.includes("\n"),
    );
  }
  const machine = readHost(madeUpHost(t, { "sys/kernel": "folder/" }));
  assert.deepEqual([machine.functions, machine.gpus, machine.groups], [[], [], undefined]);
  assert.equal(whats(machine).filter((what) => what.startsWith("PCI functions:")).length, 1);
});

test("links are never followed out of the root", (t) => {
  const outside = madeUpHost(t, {
    config: madeUpConfig({ size: 256, ids: [0xdead, 0xbeef], classCode: 0x020000 }),
    vendor: "0xdead\n",
    cmdline: "secret",
  });
  const [escaping, absolute, file, deep] = ["0000:00:01.0", "0000:00:02.0", "0000:00:03.0", "0000:00:04.0"] as const;
  const up = "../".repeat(20);
  const machine = readHost(
    madeUpHost(t, {
      [`sys/bus/pci/devices/${escaping}`]: { link: `${up}${outside.slice(1)}` },
      [`sys/bus/pci/devices/${absolute}`]: { link: outside },
      ...madeUpFunction("pci0000:00", file, {
        config: { link: join(outside, "config") },
        vendor: { link: `${up}${outside.slice(1)}/vendor` },
      }),
      "sys/devices/pci0001:00": { link: outside },
      [`sys/bus/pci/devices/${deep}`]: { link: "../../../devices/pci0001:00" },
      "proc/cmdline": { link: join(outside, "cmdline") },
    }),
  );
  for (const address of [escaping, absolute, file, deep]) {
    assert.equal(functionAt(machine, address).vendorId, undefined, address);
  }
  assert.equal(machine.kernel, undefined);
});

test("absolute links lead to their place inside the root", (t) => {
  const root = madeUpHost(t, HOST);
  const copy = "0000:00:05.0";
  symlinkSync(`/${FOLDER}`, join(root, "sys/bus/pci/devices", copy));
  rmSync(join(root, "sys/bus/pci/devices", GPU));
  symlinkSync(join(root, FOLDER), join(root, "sys/bus/pci/devices", GPU));
  const machine = readHost(root);
  assert.equal(functionAt(machine, copy).deviceId, 0x1db1);
  assert.equal(functionAt(machine, GPU).parent, PORT);
});

test("broken entries are said and stop nothing", (t) => {
  const root = madeUpHost(t, {
    ...HOST,
    "sys/bus/pci/devices/0000:00:1f.0": { link: "../../../devices/pci0000:00/0000:00:1f.0" },
    "sys/bus/pci/devices/0000:00:1e.0": { link: "0000:00:1e.0" },
    "sys/bus/pci/devices/0000:00:1D.0": "",
    "sys/bus/pci/devices/nonsense": "",
    ...madeUpFunction("pci0000:00", "0000:00:02.0", { config: new Uint8Array(77).fill(1), numa_node: "many" }),
    ...madeUpFunction("pci0000:00", "0000:00:03.0", { config: new Uint8Array(4096).fill(0xff), resource: "0x12 zz\n" }),
    ...madeUpFunction("pci0000:00", "0000:00:04.0", { config: new Uint8Array(10), resource: "" }),
    ...madeUpFunction("pci0000:00", "0000:00:06.0", { "config/below": "", "driver/below": "", resource: "" }),
    "sys/kernel/iommu_groups/8/devices": "no folder",
    "sys/kernel/iommu_groups/x": "",
  });
  const machine = readHost(root);
  assert.equal(machine.functions.length, 9);
  const all = whats(machine).join("\n");
  assert.match(all, /everything about 2 PCI functions/);
  assert.match(all, /config space cannot be read/);
  assert.match(all, /registers of 0000:00:03\.0: config space reads all ones/);
  assert.match(all, /BAR sizes of/);
  assert.match(all, /driver, IRQ or NUMA node of 0000:00:06\.0/);
  assert.match(all, /2 entries of \/sys\/bus\/pci\/devices whose names are no addresses/);
  assert.match(all, /members of IOMMU group 8/);
  assert.equal(functionAt(machine, GPU).deviceId, 0x1db1);
});

test("links that go round make no parent of itself", (t) => {
  const [a, b] = ["0000:00:01.0", "0000:00:02.0"] as const;
  const root = madeUpHost(t, {
    [`sys/devices/${a}/${b}/config`]: "",
    [`sys/devices/${b}/${a}/config`]: "",
    [`sys/bus/pci/devices/${a}`]: { link: `../../../devices/${b}/${a}` },
    [`sys/bus/pci/devices/${b}`]: { link: `../../../devices/${a}/${b}` },
  });
  for (const fn of readHost(root).functions) assert.equal(fn.parent, undefined);
});

test("a FIFO or a file of 1 GiB in place of a file holds nothing up", (t) => {
  const root = madeUpHost(t, { ...HOST, ...madeUpFunction("pci0000:00", "0000:00:02.0", {}) });
  const folder = join(root, "sys/devices/pci0000:00/0000:00:02.0");
  const fifos = ["config", "resource", "irq", "numa_node", "driver"].map((name) => join(folder, name));
  assert.equal(spawnSync("mkfifo", fifos).status, 0);
  rmSync(join(root, "proc/cmdline"));
  writeFileSync(join(root, "proc/cmdline"), "quiet");
  truncateSync(join(root, "proc/cmdline"), 2 ** 30);
  truncateSync(join(root, FOLDER, "config"), 2 ** 30);
  let machine = readHost(root);
  const took = processorTime(() => {
    machine = readHost(root);
  });
  assert.ok(took < 500, `${took} ms`);
  assert.equal(functionAt(machine, GPU).deviceId, 0x1db1);
  assert.equal(functionAt(machine, "0000:00:02.0").vendorId, undefined);
});

test("nothing below the root is changed", (t) => {
  const root = madeUpHost(t, HOST);
  const snapshot = () =>
    readdirSync(root, { recursive: true, encoding: "utf8" })
      .sort()
      .map((path) => {
        const stat = statSync(join(root, path), { throwIfNoEntry: false });
        return [path, stat?.mtimeMs, stat?.size];
      });
  const before = snapshot();
  readHost(root);
  assert.deepEqual(snapshot(), before);
});

test("no content of any file makes reading throw, or puts control characters into a name", (t) => {
  const root = madeUpHost(t, HOST);
  const bytes = fc.uint8Array({ maxLength: 600 });
  fc.assert(
    fc.property(bytes, bytes, bytes, fc.string({ minLength: 1, maxLength: 40 }), (config, resource, text, target) => {
      writeFileSync(join(root, FOLDER, "config"), config);
      writeFileSync(join(root, FOLDER, "resource"), resource);
      for (const name of ["numa_node", "irq", "vendor"]) writeFileSync(join(root, FOLDER, name), text);
      writeFileSync(join(root, "proc/cmdline"), text);
      rmSync(join(root, FOLDER, "driver"), { force: true, recursive: true });
      symlinkSync(target.replaceAll("\0", "0"), join(root, FOLDER, "driver"));
      const machine = readHost(root);
      const driver = functionAt(machine, GPU).driver ?? "";
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      assert.doesNotMatch(driver + (machine.kernel?.commandLine ?? ""), /[\u0000-\u001f\u007f]/);
    }),
    { numRuns: 100 },
  );
});

const isRoot = process.geteuid?.() === 0;

test("an ordinary user gets what may be read, and is told the rest", {
  skip: !isRoot && "needs root to become one",
}, (t) => {
  const root = madeUpHost(t, HOST);
  chmodSync(root, 0o755);
  chmodSync(join(root, FOLDER, "config"), 0o600);
  writeFileSync(join(root, FOLDER, "vendor"), "0x10de\n");
  writeFileSync(join(root, FOLDER, "device"), "0x1db1\n");
  writeFileSync(join(root, FOLDER, "class"), "0x030200\n");
  chmodSync(join(root, "sys/kernel/iommu_groups/0/devices"), 0o700);
  const machine = asOrdinaryUser(() => readHost(root));
  assert.equal(functionAt(machine, GPU).deviceId, 0x1db1);
  assert.equal(machine.gpus[0]?.part, "GV100");
  assert.match(whats(machine).join("\n"), /header and capabilities of 0000:1a:00\.0[\s\S]*members of IOMMU group 0/);
});

test("the running host can be read, by root and by an ordinary user", (t) => {
  const machine = readHost("/");
  assert.equal(machine.name, hostname());
  assert.equal(machine.source, "live host");
  assert.ok(machine.kernel?.commandLine !== undefined || machine.unknown.length > 0);
  if (!isRoot) return t.diagnostic("not root: read as an ordinary user only");
  const restricted = asOrdinaryUser(() => readHost("/"));
  const seen = ({ functions }: Machine) => functions.map(({ address, deviceId }) => [address, deviceId]);
  assert.deepEqual(seen(restricted), seen(machine));
  const told = restricted.unknown.filter(({ what }) => what.startsWith("capabilities and ACS of"));
  assert.equal(told.length, machine.functions.length > 0 ? 1 : 0);
});

function asOrdinaryUser<T>(work: () => T): T {
  process.seteuid?.(65534);
  try {
    return work();
  } finally {
    process.seteuid?.(0);
  }
}
