import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { BUILTIN_MACHINES, builtinMachine } from "../machine/builtin.js";
import type { PciAddress } from "../pci/address.js";
import { decodeFunction } from "../pci/decode_function.js";
import type { PciFunction } from "../pci/function.js";
import { ConfigImage } from "./config_image.js";
import { completeFunction } from "./default_function.js";
import { VirtualBridge } from "./virtual_bridge.js";

const installed = spawnSync("lspci", ["--version"]).status === 0;
const skip = installed ? false : "lspci is not installed";
const directory = mkdtempSync(join(tmpdir(), "linkfence-image-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** What lspci lists of a P100 on an S822LC, in its order; lspci before 3.6 has numbers for the last names. */
const P100_LISTING: readonly (readonly [offset: number, what: RegExp])[] = [
  [0x60, /^Power Management version 3$/],
  [0x68, /^MSI: Enable- Count=1\/1 Maskable- 64bit\+$/],
  [0x78, /^Express Endpoint, MSI 00$/],
  [0x100, /^Virtual Channel$/],
  [0x250, /^Latency Tolerance Reporting$/],
  [0x258, /^L1 PM Substates$/],
  [0x128, /^Power Budgeting/],
  [0x420, /^Advanced Error Reporting$/],
  [0x600, /^Vendor Specific Information: ID=0001 Rev=1 Len=024/],
  [0x900, /^(#19|Secondary PCI Express)$/],
];
const V100_LISTING = [...P100_LISTING, [0xac0, /^(#23|Designated Vendor-Specific)/]] as const;
const K80_LISTING = P100_LISTING.filter(([offset]) => offset !== 0x250 && offset !== 0x258);

function functionAt(machine: string, address: PciAddress): PciFunction {
  const { gpus, functions } = builtinMachine(machine);
  const gpu = gpus.find((each) => each.address === address);
  assert.ok(gpu !== undefined);
  return completeFunction(
    gpu,
    functions.find((fn) => fn.address === address),
  );
}

function bytesOf(image: ConfigImage): Uint8Array {
  const bytes = new Uint8Array(image.size);
  image.readBytes(0, bytes);
  return bytes;
}

/** The lines that lspci prints of a function with this image. */
function lspci(image: ConfigImage, ...options: string[]): string[] {
  const bytes = bytesOf(image);
  const lines = ["03:00.0 3D controller: of this test"];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, "0"));
    lines.push(`${at.toString(16).padStart(2, "0")}: ${row.join(" ")}`);
  }
  const file = join(directory, "dump.txt");
  writeFileSync(file, `${lines.join("\n")}\n\n`);
  const { stdout, stderr, status } = spawnSync("lspci", ["-F", file, ...options], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout.split("\n").map((line) => line.trim());
}

function assertListing(lines: readonly string[], listing: readonly (readonly [number, RegExp])[]): void {
  const listed = lines.flatMap((line) => {
    const parts = /^Capabilities: \[([0-9a-f]+)(?: v\d)?\] (.*)$/.exec(line);
    return parts === null ? [] : [{ offset: Number.parseInt(parts[1] ?? "", 16), what: parts[2] ?? "" }];
  });
  assert.deepEqual(
    listed.map(({ offset }) => offset),
    listing.map(([offset]) => offset),
  );
  for (const [i, [, what]] of listing.entries()) assert.match(listed[i]?.what ?? "", what);
}

test("a V100 of an AC922 lists as a real one does: same capabilities, offsets and order, ids and BARs", {
  skip,
}, () => {
  const fn = functionAt("sequoia", "0035:03:00.0");
  const disabled = { ...fn, bars: fn.bars.map((bar) => ({ ...bar, disabled: true })) };
  const lines = lspci(new ConfigImage(disabled), "-nnv");
  assertListing(lines, V100_LISTING);
  assert.match(lines[0] ?? "", /\[0302\].*\[10de:1db1\] \(rev a1\)/);
  assert.match(lines[1] ?? "", /^Subsystem: .*\[10de:1212\]/);
  assert.match(lines[2] ?? "", /^Flags: fast devsel/);
  assert.ok(lines.includes("Memory at 6228000000000 (64-bit, prefetchable) [disabled]"));
  assert.ok(lines.includes("Memory at 6228400000000 (64-bit, prefetchable) [disabled]"));
});

test("a P100, and a K80 that a source lists, show their own capabilities", { skip }, () => {
  assertListing(lspci(new ConfigImage(functionAt("minsky", "000a:01:00.0")), "-v"), P100_LISTING);
  const p100 = functionAt("minsky", "000a:01:00.0");
  const capabilities = p100.capabilities.filter(({ offset }) => K80_LISTING.some(([at]) => at === offset));
  assertListing(lspci(new ConfigImage({ ...p100, capabilities }), "-v"), K80_LISTING);
});

test("a V100's bodies say what the part can do, and nothing of them is broken", { skip }, () => {
  const text = lspci(new ConfigImage(functionAt("sequoia", "0035:03:00.0")), "-vvv").join("\n");
  assert.doesNotMatch(text, /broken|<error|!!!|\?\?|reserved|unknown|downgraded|overdriven|strange/i);
  for (const what of [
    /Interrupt: pin A/,
    /D1- D2- .*PME\(D0-,D1-,D2-,D3hot-,D3cold-\)/,
    /Status: D0 NoSoftRst\+ PME-Enable-/,
    /Express \(v2\) Endpoint, MSI 00/,
    /ExtTag\+ .*FLReset-/,
    /LnkCap:\s*Port #0, Speed 8GT\/s, Width x16/,
    /LnkSta:\s*Speed 8GT\/s(?: \(ok\))?, Width x16/,
    /DevCap2: .*TimeoutDis\+.* LTR\+/,
    /VC0:[\s\S]*Enable\+ ID=0 ArbSelect=Fixed TC\/VC=ff/,
    /L1SubCap: .*L1_PM_Substates\+/,
    /UESta:(\s+\w+-)+\n/,
    /Designated Vendor-Specific: Vendor=10de/,
  ]) {
    assert.match(text, what);
  }
});

test("after software wrote ones everywhere the lists are whole and lspci finds nothing broken", { skip }, () => {
  const image = new ConfigImage(functionAt("sequoia", "0035:03:00.0"));
  image.writeBytes(0, new Uint8Array(4096).fill(0xff));
  const lines = lspci(image, "-v").map((line) => line.replace("Enable+", "Enable-"));
  assertListing(lines, V100_LISTING);
});

test("each GPU's and bridge's config space decodes to the function it was made of", () => {
  for (const { name } of BUILTIN_MACHINES) {
    const machine = builtinMachine(name);
    const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
    const images = [
      ...machine.gpus.map(
        (gpu) => [gpu.address, new ConfigImage(completeFunction(gpu, functions.get(gpu.address)))] as const,
      ),
      ...machine.bridges.map(
        (bridge) => [bridge.address, new VirtualBridge(bridge, functions.get(bridge.address)).config] as const,
      ),
    ];
    for (const [address, image] of images) {
      const decoded = decodeFunction(address, bytesOf(image));
      const made = functions.get(address);
      assert.equal(decoded.damage, undefined);
      assert.deepEqual(decoded.capabilities, made?.capabilities);
      assert.deepEqual(decoded.express, made?.express);
      for (const key of ["vendorId", "deviceId", "classCode", "revision", "multifunction"] as const) {
        assert.equal(decoded[key], made?.[key], `${address} ${key}`);
      }
    }
  }
});
