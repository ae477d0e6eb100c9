import assert from "node:assert/strict";
import { CopyEngine } from "../../../examples/copy_engine.js";
import { VFIO_PCI_CONFIG_REGION_INDEX } from "../../../src/vfio/index.js";

const CONFIG_SIZE = 256;
const CAPABILITIES_POINTER = 0x34;
const POWER_MANAGEMENT = 0x01;
const EXPRESS = 0x10;
const MSIX = 0x11;

/** What lspci has to say of the example device's header and BARs. */
const HEADER = [
  /^01:00\.0 Class 0880: Device 1234:4c46$/,
  /^\tSubsystem: Device 1234:4c46$/,
  /^\tInterrupt: pin A routed to IRQ \d+$/,
  /^\tRegion 0: Memory at [0-9a-f]+ \(32-bit, non-prefetchable\).* \[size=4K\]$/,
  /^\tRegion 2: Memory at [0-9a-f]+ \(64-bit, prefetchable\).* \[size=1M\]$/,
];

/** And of each capability that it may have. */
const CAPABILITY: Record<number, RegExp[]> = {
  [POWER_MANAGEMENT]: [/Power Management version 3$/, /^\t\tStatus: D0 NoSoftRst\+ /],
  [EXPRESS]: [/Express \(v2\) Endpoint, /],
  [MSIX]: [
    /MSI-X: Enable- Count=2 Masked-$/,
    /^\t\tVector table: BAR=0 offset=00000800$/,
    /^\t\tPBA: BAR=0 offset=00000c00$/,
  ],
};

/** Offsets within capabilities whose values the guest or the hypervisor sets: control and status registers. */
const CHANGING: Record<number, number[]> = {
  [POWER_MANAGEMENT]: [4, 5],
  [EXPRESS]: [8, 9, 10, 11],
  [MSIX]: [3],
};

/** What the device itself has in its config space. */
function definedConfig(): Uint8Array {
  const device = new CopyEngine();
  const config = new Uint8Array(CONFIG_SIZE);
  device.read(VFIO_PCI_CONFIG_REGION_INDEX, 0, config);
  device.dispose();
  return config;
}

/** The capabilities of a config space, in its order. */
function capabilities(config: Uint8Array): { id: number; at: number }[] {
  const found: { id: number; at: number }[] = [];
  for (let at = config[CAPABILITIES_POINTER] ?? 0; at !== 0 && found.length < 48; at = config[at + 1] ?? 0) {
    found.push({ id: config[at] ?? 0, at });
  }
  return found;
}

/** Compares the config space that a guest reads with that of the device, but for registers that the guest sets. */
export function checkConfig(seen: Uint8Array): string {
  const defined = definedConfig();
  const list = capabilities(defined);
  // Command, the latency and cache line bytes, BARs, interrupt line; the status register stays.
  const skipped = new Set([4, 5, 0x0c, 0x0d, 0x3c]);
  for (let at = 0x10; at < 0x28; at++) skipped.add(at);
  for (const { id, at } of list) for (const offset of CHANGING[id] ?? []) skipped.add(at + offset);
  assert.equal(seen.length, CONFIG_SIZE);
  const different = [...defined.keys()].filter((at) => !skipped.has(at) && seen[at] !== defined[at]);
  const show = (at: number) =>
    `0x${at.toString(16)} is 0x${seen[at]?.toString(16)}, not 0x${defined[at]?.toString(16)}`;
  assert.ok(different.length === 0, different.map(show).join(", "));
  return `${CONFIG_SIZE - skipped.size} of ${CONFIG_SIZE} bytes as the device defines them, the rest is the guest's`;
}

/** Compares what `lspci -vv` prints in the guest with what the device defines. */
export function checkLspci(text: string): string {
  const lines = text.trimEnd().split("\n");
  const expected = [...HEADER];
  const list = capabilities(definedConfig());
  for (const { id, at } of list) {
    const [first, ...more] = CAPABILITY[id] ?? [];
    assert.ok(first, `no lines known for capability 0x${id.toString(16)}`);
    expected.push(new RegExp(`^\\tCapabilities: \\[${at.toString(16)}\\] ${first.source}`), ...more);
  }
  const missing = expected.filter((pattern) => !lines.some((line) => pattern.test(line)));
  assert.ok(missing.length === 0, `no ${missing.join(", no ")} in\n${text}`);
  const titles = lines.filter((line) => /^\t(Capabilities|Region \d+):/.test(line));
  assert.equal(titles.length, list.length + 2, `other regions or capabilities:\n${text}`);
  return `${lines[0]}, 2 regions, ${list.length} capabilities`;
}
