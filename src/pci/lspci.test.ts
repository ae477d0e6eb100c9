import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { LspciError, type LspciFunction, parseLspci } from "./lspci.js";

const SEED = new URL("../../../shared/seeds/000_4eafd4601dd51eac.txt", import.meta.url);
const seed = { skip: existsSync(SEED) ? false : "the mail thread with the three listings is not here" };

function data(name: string): string {
  return readFileSync(new URL(`../../test/data/lspci/${name}`, import.meta.url), "utf8");
}

/** The only function of a text. */
function only(text: string): LspciFunction {
  const { functions } = parseLspci(text);
  assert.equal(functions.length, 1);
  return functions[0] as LspciFunction;
}

function byAddress(text: string, address: string): LspciFunction {
  const found = parseLspci(text).functions.find((fn) => fn.address === address);
  assert.ok(found, `no ${address}`);
  return found;
}

/** `index address size width prefetchable disabled`, one string per BAR. */
function bars(fn: LspciFunction): string[] {
  return fn.bars.map((bar) => {
    const flags = [bar.prefetchable ? "prefetchable" : "", bar.disabled ? "disabled" : ""].filter(
      (flag) => flag !== "",
    );
    return [bar.index, bar.address.toString(16), bar.size?.toString() ?? "-", bar.width, ...flags].join(" ");
  });
}

/** `offset id name`, one string per capability. */
function capabilities(fn: LspciFunction): string[] {
  return fn.capabilities.map(({ offset, id, extended, name }) => {
    assert.equal(extended, offset >= 0x100);
    return `${offset.toString(16)} ${id.toString(16)} ${name}`;
  });
}

test("the mail with the three listings has three functions and nothing else", seed, () => {
  const { functions, problems } = parseLspci(readFileSync(SEED, "utf8"));
  assert.deepEqual(
    functions.map(({ address }) => address),
    ["0000:03:00.0", "000a:01:00.0", "0035:03:00.0"],
  );
  assert.deepEqual(problems, []);
});

test("the K80 of the mail has its BARs disabled, no driver and no ids", seed, () => {
  const fn = byAddress(readFileSync(SEED, "utf8"), "0000:03:00.0");
  assert.equal(fn.name, "NVIDIA Corporation GK210GL [Tesla K80]");
  assert.equal(fn.text.subsystemName, "NVIDIA Corporation GK210GL [Tesla K80]");
  assert.deepEqual([fn.vendorId, fn.deviceId, fn.driver, fn.numaNode], [undefined, undefined, undefined, undefined]);
  assert.deepEqual([fn.classCode, fn.revision, fn.irq, fn.headerType], [0x030200, 0xa1, 497, 0]);
  assert.deepEqual(bars(fn), [
    "0 3fe000000000 16777216 32 disabled",
    "1 200000000000 17179869184 64 prefetchable disabled",
    "3 200400000000 33554432 64 prefetchable disabled",
  ]);
  assert.deepEqual(capabilities(fn), [
    "60 1 Power Management",
    "68 5 MSI",
    "78 10 Express",
    "100 2 Virtual Channel",
    "128 4 Power Budgeting",
    "420 1 Advanced Error Reporting",
    "600 b Vendor Specific Information",
    "900 19 Secondary PCI Express",
  ]);
  assert.deepEqual(fn.express, { type: "endpoint", slotImplemented: false, functionLevelReset: false });
});

test("the P100 of the mail has the device id that stands for its name, and its driver and modules", seed, () => {
  const fn = byAddress(readFileSync(SEED, "utf8"), "000a:01:00.0");
  assert.deepEqual([fn.vendorId, fn.deviceId], [0x10de, 0x15fe]);
  assert.deepEqual([fn.subsystemVendorId, fn.subsystemId], [0x10de, 0x116b]);
  assert.deepEqual([fn.irq, fn.driver, fn.numaNode], [457, "nvidia", undefined]);
  assert.deepEqual(fn.text.modules, ["nvidiafb", "nouveau", "nvidia_384_drm", "nvidia_384"]);
  assert.deepEqual(bars(fn), [
    "0 3fe300000000 16777216 32",
    "1 260000000000 17179869184 64 prefetchable",
    "3 260400000000 33554432 64 prefetchable",
  ]);
});

test("the V100 of the mail keeps its revision from the wrapped line, and #23 gets its name", seed, () => {
  const fn = byAddress(readFileSync(SEED, "utf8"), "0035:03:00.0");
  assert.equal(fn.name, "NVIDIA Corporation GV100GL [Tesla V100 SXM2]");
  assert.deepEqual([fn.revision, fn.irq, fn.numaNode, fn.driver], [0xa1, 82, 8, "vfio-pci"]);
  assert.deepEqual([fn.subsystemVendorId, fn.subsystemId], [0x10de, 0x1212]);
  assert.deepEqual(bars(fn), [
    "0 620c280000000 16777216 32 disabled",
    "1 6228000000000 17179869184 64 prefetchable disabled",
    "3 6228400000000 33554432 64 prefetchable disabled",
  ]);
  assert.deepEqual(capabilities(fn).slice(-3), [
    "600 b Vendor Specific Information",
    "900 19 Secondary PCI Express",
    "ac0 23 Designated Vendor-Specific",
  ]);
});

test("a mail with prose, quotes and wrapped lines gives its functions and not what is written about them", () => {
  const { functions, problems } = parseLspci(data("mail.txt"));
  assert.deepEqual(
    functions.map(({ address, text }) => `${text.line} ${address}`),
    ["10 0000:3b:00.0", "25 0000:82:00.0", "52 0000:af:00.0"],
  );
  assert.deepEqual(
    problems.map(({ line }) => line),
    [5],
  );
  const [first, second, third] = functions as [LspciFunction, LspciFunction, LspciFunction];
  assert.deepEqual([first.vendorId, first.deviceId, first.numaNode, first.irq], [0x10de, 0x1db6, 0, 341]);
  assert.deepEqual([first.text.iommuGroup, first.text.physicalSlot, first.text.capabilitiesKnown], [74, "3", false]);
  assert.deepEqual(first.text.modules, ["nvidiafb", "nouveau", "nvidia_vgpu_vfio", "nvidia_drm", "nvidia"]);
  assert.deepEqual([second.name, second.revision], ["nVidia Corporation GK110BGL [Tesla K40c]", 0xa1]);
  assert.deepEqual(bars(second).slice(2), [
    "3 3bff0000000 33554432 64 prefetchable",
    "5 0 128 32 disabled",
    "rom fb000000 524288 32 disabled",
  ]);
  assert.deepEqual(capabilities(second).slice(-2), [
    "420 e Alternative Routing-ID Interpretation (ARI)",
    "900 19 Secondary PCI Express",
  ]);
  assert.deepEqual([second.driver, second.text.capabilitiesKnown], ["vfio-pci", true]);
  assert.deepEqual([third.revision, third.headerType, third.driver], [0xff, undefined, "nvidia"]);
  assert.deepEqual([third.damage, third.text.modules], [["Unknown header type 7f"], []]);
});

test("a -vvv listing gives bus numbers, slot, function level reset and ACS as printed", () => {
  const port = byAddress(data("carrier_vvv.txt"), "0035:02:08.0");
  assert.deepEqual(port.buses, { primary: 2, secondary: 3, subordinate: 3 });
  assert.deepEqual(port.acs, { supported: 0x5f, enabled: 0x1d });
  assert.deepEqual(port.express, {
    type: "downstream-port",
    slotImplemented: true,
    slotNumber: 8,
    functionLevelReset: false,
  });
  assert.deepEqual([port.headerType, port.text.physicalSlot, port.text.iommuGroup], [1, "8-1", 3]);
  assert.equal(byAddress(data("carrier_vvv.txt"), "0000:3b:00.0").express?.functionLevelReset, true);
  assert.equal(byAddress(data("carrier_vvv.txt"), "0000:05:04.0").headerType, 2);
});

test("-v and -vvv of the same machine agree on everything that -v prints", () => {
  const [brief, full] = [parseLspci(data("carrier_v.txt")), parseLspci(data("carrier_vvv.txt"))];
  assert.deepEqual([brief.problems, full.problems], [[], []]);
  assert.equal(brief.functions.length, full.functions.length);
  for (const [i, fn] of brief.functions.entries()) {
    const other = full.functions[i] as LspciFunction;
    assert.equal(fn.address, other.address);
    assert.deepEqual(capabilities(fn), capabilities(other));
    assert.deepEqual([bars(fn), fn.buses, fn.driver], [bars(other), other.buses, other.driver]);
    assert.deepEqual([fn.numaNode, fn.text.iommuGroup], [other.numaNode, other.text.iommuGroup]);
    assert.equal(fn.express?.type, other.express?.type);
    assert.equal(fn.acs, undefined);
    assert.deepEqual(
      [fn.text.barsCounted, other.text.barsCounted],
      [fn.bars.some(({ index }) => index !== "rom"), false],
    );
  }
});

test("a missing ACSCtl line counts as nothing enabled", () => {
  const header = "00:1c.0 PCI bridge: Intel Corporation Device a190 (rev f9)\n";
  const acs =
    "\tCapabilities: [140 v1] Access Control Services\n\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+\n";
  assert.deepEqual(only(header + acs).acs, { supported: 0x0f, enabled: 0 });
});

const HEADERS: readonly [line: string, expected: Partial<LspciFunction>][] = [
  ["01:00.0 VGA compatible controller: NVIDIA Corporation GP104 [GeForce GTX 1080] (rev a1)", { classCode: 0x030000 }],
  ["01:00.0 0300: 10de:1b80 (rev a1)", { vendorId: 0x10de, deviceId: 0x1b80, classCode: 0x030000, revision: 0xa1 }],
  ["01:00.0 Class 0300: 10de:1b80", { vendorId: 0x10de, deviceId: 0x1b80, classCode: 0x030000 }],
  [
    "01:00.0 3D controller [0302]: NVIDIA Corporation GV100GL [Tesla V100 SXM2 32GB] [10de:1db5] (rev a1)",
    { vendorId: 0x10de, deviceId: 0x1db5, name: "NVIDIA Corporation GV100GL [Tesla V100 SXM2 32GB]" },
  ],
  [
    "01:00.0 3D controller [0302]: NVIDIA Corporation Device [10de:1db5] (rev a1)",
    { vendorId: 0x10de, deviceId: 0x1db5, name: "NVIDIA Corporation Device 1db5" },
  ],
  ["01:00.0 3D controller: Device 10de:1db5", { vendorId: 0x10de, deviceId: 0x1db5 }],
  ["01:00.0 Bridge: IBM Device 04ea (rev 01)", { vendorId: 0x1014, deviceId: 0x04ea, classCode: 0x068000 }],
  ["01:00.0 Class [1302]: NVIDIA Corporation Device [10de:ffff]", { classCode: 0x130200, deviceId: 0xffff }],
  ["01:00.0 Class 1302: NVIDIA Corporation Something (rev 01)", { classCode: 0x130200, revision: 1 }],
  ["01:00.0 Signal processing controller [1190]: Intel Corporation Device 1903", { classCode: 0x119000 }],
  ["01:00.0 Class of its own: Somebody Some device (rev 03)", { revision: 3, name: "Somebody Some device" }],
  ["10000:01:00.0 PCI bridge: Intel Corporation Device 1", { address: "10000:01:00.0" }],
  ["0000ABCD:01:00.0 PCI bridge: Intel Corporation Device 1", { address: "abcd:01:00.0" }],
  ["01:00.0 SATA controller: Somebody X (rev 31) (prog-if 01 [AHCI 1.0])", { classCode: 0x010601, revision: 0x31 }],
  ["0002:00:1c.0/01:00.0 PCI bridge: A b (rev 01)", { address: "0002:01:00.0", parent: "0002:00:1c.0" }],
  [
    '01:00.0 "VGA compatible controller" "NVIDIA Corporation" "G\\"x\\"1 [Y]" -ra1 -p02 "Dell" "Device 06de"',
    { name: 'NVIDIA Corporation G"x"1 [Y]', classCode: 0x030002, revision: 0xa1, subsystemId: 0x06de },
  ],
  ['01:00.0 "0302" "10de" "1db1" -ra1 "10de" "1212"', { vendorId: 0x10de, deviceId: 0x1db1, subsystemId: 0x1212 }],
  ['01:00.0 "Bridge [0680]" "IBM [1014]" "Device [04ea]" "" ""', { vendorId: 0x1014, deviceId: 0x04ea }],
];

test("a device line is read in every spelling of lspci's", () => {
  for (const [line, expected] of HEADERS) {
    const fn = only(line);
    for (const [key, value] of Object.entries(expected)) assert.deepEqual(fn[key as keyof LspciFunction], value, line);
  }
});

test("escape sequences in a listing, as a terminal's log has them, get into no name", () => {
  const fn = only(
    "01:00.0 3D controller: NVIDIA\x1b[31m GV100\u2028GL\x9b1m (rev a1)\n\tKernel driver in use: a\x07b\n",
  );
  assert.equal(fn.name, "NVIDIA [31m GV100 GL 1m");
  assert.equal(fn.driver, "a");
  assert.equal(fn.revision, 0xa1);
});

const PROSE = [
  "10:30.1 the meeting: nothing was said",
  "10:10.1 the meeting: nothing was said",
  "at 03:00.0 3D controller: NVIDIA Corporation GK210GL [Tesla K80] (rev a1)",
  "03:00.0 is the K80",
  "0000:03:00.0 is the K80",
  "03:00.8 3D controller: no such function",
  "03:20.0 3D controller: no such device",
  "Subject: [PATCH] vfio: 10de:1db1",
  "Capabilities: [60] Power Management version 3",
  "00: de 10 b1 1d",
];

test("prose that begins like a device line is none", () => {
  for (const line of PROSE) assert.throws(() => parseLspci(line), LspciError, line);
});

test("what follows a line that is no device line after all is not taken for the function before it", () => {
  const fn = only(
    [
      "0000:03:00.0 3D controller: NVIDIA Corporation GK210GL [Tesla K80] (rev a1)",
      "0000:04:00.0 gibberish",
      "\tKernel driver in use: vfio-pci",
    ].join("\n"),
  );
  assert.equal(fn.driver, undefined);
});

test("an error says what was expected, and names the tree of lspci -t", () => {
  const code = (message: RegExp) => (error: unknown) =>
    error instanceof LspciError && error.code === "ELSPCI" && message.test(error.message);
  assert.throws(() => parseLspci(""), code(/no PCI function in the text: expected the output of lspci -Dnnvv$/));
  assert.throws(() => parseLspci("-[0000:00]-+-00.0\n           +-01.0-[01]----00.0\n"), code(/tree of lspci -t/));
  assert.throws(() => parseLspci("\n0000:03:00.0 is it"), code(/\(line 2: begins like a device line/));
  assert.throws(() => parseLspci("00:1c.0/00.0 PCI bridge: A B"), code(/line 1: a bridge path without bus numbers/));
});

test("a terse listing leaves capabilities unknown, not absent", () => {
  assert.equal(only("01:00.0 3D controller: NVIDIA Corporation X (rev a1)").text.capabilitiesKnown, false);
});

test("a capability list that loops or breaks is damage", () => {
  const header = "01:00.0 3D controller: NVIDIA Corporation X (rev a1)\n\tFlags: fast devsel\n";
  const fn = only(`${header}\tCapabilities: [60] Null\n\tCapabilities: [60] <chain looped>\n`);
  assert.deepEqual(fn.damage, ["capability list: <chain looped>"]);
  assert.deepEqual(capabilities(fn), ["60 0 Null"]);
});

test("a capability that no lspci names is a problem with its line number", () => {
  const { functions, problems } = parseLspci(
    "01:00.0 3D controller: NVIDIA Corporation X (rev a1)\n\tCapabilities: [60] Flux Capacitor\n",
  );
  assert.deepEqual(functions[0]?.capabilities, []);
  assert.deepEqual(
    problems.map(({ line }) => line),
    [2],
  );
});

test("names of other pciutils versions and plain numbers give the same capabilities", () => {
  const text = [
    "01:00.0 3D controller: NVIDIA Corporation X (rev a1)",
    "\tCapabilities: [50] Message Signalled Interrupts: Mask- 64bit+ Queue=0/0 Enable-",
    "\tCapabilities: [60] #0d [0000]",
    "\tCapabilities: [70] Capability ID 0x15 [0000]",
    "\tCapabilities: [80] Vendor Specific Information: VirtIO: Notify",
    "\tCapabilities: [90] Express PCI/PCI-X Bridge, MSI 00",
    "\tCapabilities: [100] Resizable BAR <?>",
    "\tCapabilities: [120 v1] Physical Layer 32.0 GT/s",
    "\tCapabilities: [140] Extended Capability ID 0x36",
    "\tCapabilities: [160] Root Complex Event Collector <?>",
    "\tCapabilities: [180 v1] Multi-Function Virtual Channel <?>",
  ];
  const fn = only(text.join("\n"));
  assert.deepEqual(capabilities(fn), [
    "50 5 MSI",
    "60 d Subsystem",
    "70 15 #15",
    "80 9 Vendor Specific Information",
    "90 10 Express",
    "100 15 Physical Resizable BAR",
    "120 2a #2a",
    "140 36 #36",
    "160 7 Root Complex Event Collector Endpoint Association",
    "180 8 Multi-Function Virtual Channel",
  ]);
  assert.equal(fn.express?.type, "pcie-to-pci-bridge");
});

test("an IRQ is read in every form", () => {
  const irqs: readonly [line: string, irq: number | undefined][] = [
    ["Flags: bus master, fast devsel, latency 0, IRQ 457", 457],
    ["Interrupt: pin A routed to IRQ 16", 16],
    ["Interrupt: pin ? routed to IRQ 255", 255],
    ["Interrupts: pin B disabled, MSI(X) routed to IRQ 193-200", 193],
    ["Interrupts: pin A disabled", undefined],
  ];
  const header = "01:00.0 3D controller: NVIDIA Corporation X (rev a1)\n\t";
  for (const [line, irq] of irqs) assert.equal(only(header + line).irq, irq, line);
});

test("regions beyond the sixth are a problem, not BARs", () => {
  const region = "\tMemory at 1000 (64-bit, prefetchable) [size=1M]\n";
  const { functions, problems } = parseLspci(
    `01:00.0 3D controller: NVIDIA Corporation X (rev a1)\n${region.repeat(5)}`,
  );
  assert.deepEqual(
    functions[0]?.bars.map(({ index }) => index),
    [0, 2, 4],
  );
  assert.match(problems[0]?.message ?? "", /^2 more memory or I\/O regions/);
});

test("BARs that SR-IOV lists for virtual functions are not those of the physical function", () => {
  const fn = only(
    [
      "0000:3b:00.0 Ethernet controller: Mellanox Technologies MT27800 Family [ConnectX-5]",
      "\tControl: I/O- Mem+ BusMaster+",
      "\tRegion 0: Memory at e2000000 (64-bit, prefetchable) [size=32M]",
      "\tCapabilities: [180 v1] Single Root I/O Virtualization (SR-IOV)",
      "\t\tSupported Page Size: 000007ff, System Page Size: 00000001",
      "\t\tRegion 0: Memory at 00000000e6000000 (64-bit, prefetchable)",
      "\t\tRegion 2: Memory at e8000000 (32-bit, non-prefetchable)",
      "\t\tVF Migration: offset: 00000000, BIR: 0",
      "\tCapabilities: [1c0 v1] Secondary PCI Express",
      "\tKernel driver in use: mlx5_core",
    ].join("\n"),
  );
  assert.deepEqual(bars(fn), ["0 e2000000 33554432 64 prefetchable"]);
  assert.deepEqual(capabilities(fn), [
    "180 10 Single Root I/O Virtualization (SR-IOV)",
    "1c0 19 Secondary PCI Express",
  ]);
  assert.equal(fn.driver, "mlx5_core");
});

test("BARs of a virtual function are told by the kernel's word for them", () => {
  const old = "\tRegion 0: [virtual] Memory at 21c000000000 (64-bit, prefetchable) [size=2M]\n";
  const recent = "\tMemory at 21c000000000 (64-bit, prefetchable) [virtual] [size=2M]\n";
  for (const line of [old, recent]) {
    const fn = only(`41:00.4 3D controller: NVIDIA Corporation GA100 [A100 PCIe 80GB] (rev a1)\n${line}`);
    assert.deepEqual(bars(fn), ["0 21c000000000 2097152 64 prefetchable"]);
    assert.equal(fn.text.virtualBars, true);
  }
});

test("the tags, entities and quote bars of forums and issue trackers around a listing go", () => {
  const lines = [
    "06:00.0 3D controller: NVIDIA Corporation Device 1db1 (rev a1)",
    "        Flags: fast devsel, IRQ 82, NUMA node 8",
    "        Memory at 620c280000000 (32-bit, non-prefetchable) [disabled] [size=16M]",
    "        Capabilities: [ac0] #23",
    "        Kernel driver in use: vfio-pci",
  ];
  const plain = lines.join("\n");
  const [expected] = parseLspci(plain).functions;
  for (const text of [
    `[code]${plain}[/code]`,
    `[QUOTE=somebody][CODE]${plain}[/CODE][/QUOTE]`,
    `<pre><code class="hljs">${plain}</code></pre>`,
    lines.map((line) => `${line}<br />`).join("\n"),
    lines.map((line) => `&gt; ${line.replaceAll(" ", "&nbsp;")}`).join("\n"),
    lines.map((line) => `| ${line}`).join("\n"),
  ]) {
    assert.deepEqual(parseLspci(text).functions, [expected], text);
  }
});
