import assert from "node:assert/strict";

/** A capability: where it is, its id, and what lspci says of it. */
interface ListedCapability {
  at: number;
  id: number;
  says: RegExp;
}

/**
 * The Tesla V100 SXM2 of the AC922 whose `lspci -vs` was posted to linux-ppc-dev on 8 June 2018, field by field. Today's
 * lspci has names for the ids that were printed as numbers then: `#19` is Secondary PCI Express, `#23` Designated
 * Vendor-Specific. lspci prints extended capabilities with their version.
 */
const V100 = {
  class: "0302",
  ids: "10de:1db1",
  revision: "a1",
  subsystem: "10de:1212",
  driver: "vfio-pci",
  flags: /^\tFlags: fast devsel, IRQ \d+/m,
  regions: [
    { index: 0, kind: "32-bit, non-prefetchable", size: "16M" },
    { index: 1, kind: "64-bit, prefetchable", size: "16G" },
    { index: 3, kind: "64-bit, prefetchable", size: "32M" },
  ],
  standard: [
    { at: 0x60, id: 0x01, says: /^Power Management version 3$/ },
    { at: 0x68, id: 0x05, says: /^MSI: Enable- Count=1\/1 Maskable- 64bit\+$/ },
    { at: 0x78, id: 0x10, says: /^Express (\(v2\) )?Endpoint, (MSI 00|IntMsgNum 0)$/ },
  ],
  extended: [
    { at: 0x100, id: 0x0002, says: /^Virtual Channel$/ },
    { at: 0x250, id: 0x0018, says: /^Latency Tolerance Reporting$/ },
    { at: 0x258, id: 0x001e, says: /^L1 PM Substates$/ },
    { at: 0x128, id: 0x0004, says: /^Power Budgeting( <\?>)?$/ },
    { at: 0x420, id: 0x0001, says: /^Advanced Error Reporting$/ },
    { at: 0x600, id: 0x000b, says: /^Vendor Specific Information: ID=0001 Rev=1 Len=024( <\?>)?$/ },
    { at: 0x900, id: 0x0019, says: /^Secondary PCI Express$/ },
    { at: 0xac0, id: 0x0023, says: /^Designated Vendor-Specific: Vendor=10de / },
  ],
} as const;

const CAPABILITIES: readonly ListedCapability[] = [...V100.standard, ...V100.extended];

/** Compares `lspci -vs`, made while vfio-pci has the GPU, with the listing. */
export function checkListing(text: string): string {
  const [title = "", ...lines] = text.trimEnd().split("\n");
  assert.match(title, new RegExp(`^[0-9a-f:.]+ Class ${V100.class}: Device ${V100.ids} \\(rev ${V100.revision}\\)$`));
  assert.equal(field(lines, "Subsystem"), `Device ${V100.subsystem}`);
  assert.match(text, V100.flags);
  const memory = lines.filter((line) => line.startsWith("\tMemory at "));
  assert.deepEqual(
    memory.map((line) => line.replace(/^\tMemory at [0-9a-f]+ /, "")),
    V100.regions.map(({ kind, size }) => `(${kind}) [disabled] [size=${size}]`),
  );
  checkCapabilities(lines);
  assert.equal(field(lines, "Kernel driver in use"), V100.driver);
  return `${title}, ${memory.length} regions, ${CAPABILITIES.length} capabilities`;
}

/** What `lspci -vvs` says beyond that and the listing bears: the same, no function level reset, one MSI. */
export function checkDetails(text: string): string {
  const lines = text.trimEnd().split("\n");
  const regions = lines.filter((line) => line.startsWith("\tRegion "));
  assert.deepEqual(
    regions.map((line) => line.replace(/^\tRegion (\d): Memory at [0-9a-f]+ /, "$1 ")),
    V100.regions.map(({ index, kind, size }) => `${index} (${kind}) [disabled] [size=${size}]`),
  );
  checkCapabilities(lines);
  assert.match(text, /^\t\t\tExtTag\+ AttnBtn- AttnInd- PwrInd- RBE\+ FLReset- /m);
  assert.match(text, /^\t\tLnkSta:\tSpeed 8GT\/s, Width x16/m);
  assert.doesNotMatch(text, /<chain looped>|<access denied>|!!!|\[disabled\] \[size=0/);
  return "the same regions and capabilities, FLReset-";
}

/** `lspci -nns`: ids, class and revision as numbers. */
export function checkNumbers(text: string): void {
  const [line = ""] = text.split("\n");
  assert.match(line, new RegExp(`Class \\[${V100.class}\\]: Device \\[${V100.ids}\\] \\(rev ${V100.revision}\\)$`));
}

/** The two lists of capabilities in config space itself: ids and offsets in the listing's order. */
export function checkConfigLists(config: Uint8Array): string {
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  const standard: [number, number][] = [];
  for (let at = view.getUint8(0x34); at !== 0 && standard.length < 48; at = view.getUint8(at + 1)) {
    standard.push([at, view.getUint8(at)]);
  }
  const extended: [number, number][] = [];
  for (let at = 0x100; at !== 0 && extended.length < 100; at = view.getUint16(at + 2, true) >> 4) {
    extended.push([at, view.getUint16(at, true)]);
  }
  const places = (list: readonly ListedCapability[]) => list.map(({ at, id }) => [at, id]);
  assert.deepEqual(standard, places(V100.standard));
  assert.deepEqual(extended, places(V100.extended));
  return `${standard.length} and ${extended.length} capabilities in order`;
}

function checkCapabilities(lines: readonly string[]): void {
  const found = lines.flatMap((line) => {
    const [, at = "", says = ""] = /^\tCapabilities: \[([0-9a-f]+)(?: v\d+)?\] (.*)$/.exec(line) ?? [];
    return at === "" ? [] : [{ at: Number.parseInt(at, 16), says }];
  });
  assert.deepEqual(
    found.map(({ at }) => at.toString(16)),
    CAPABILITIES.map(({ at }) => at.toString(16)),
    "offsets in order",
  );
  for (const [index, { says }] of CAPABILITIES.entries()) assert.match(found[index]?.says ?? "", says);
}

function field(lines: readonly string[], name: string): string {
  const start = `\t${name}: `;
  return lines.find((line) => line.startsWith(start))?.slice(start.length) ?? "";
}
