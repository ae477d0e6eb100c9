import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { formatAddress, type PciAddress, parseAddress } from "./address.js";
import { decodeCapability } from "./capability_contents.js";
import { className } from "./class_code.js";
import { decodeFunction } from "./decode_function.js";
import type { Bar, Capability, PciFunction } from "./function.js";

const version = spawnSync("lspci", ["--version"], { encoding: "utf8" }).stdout ?? "";
const skip = /version 3\.9/.test(version) ? false : "lspci of pciutils 3.9 is not installed";

const directory = mkdtempSync(join(tmpdir(), "linkfence-oracle-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** Bytes that each capability is given here, generously: by id, standard and extended ones. */
const STANDARD_ROOM: ReadonlyMap<number, number> = new Map([
  [0x01, 8],
  [0x02, 12],
  [0x03, 8],
  [0x05, 24],
  [0x07, 16],
  [0x08, 28],
  [0x0d, 8],
  [0x10, 60],
  [0x11, 12],
  [0x12, 8],
  [0x13, 8],
  [0x14, 8],
]);
const EXTENDED_ROOM: ReadonlyMap<number, number> = new Map([
  [0x01, 0x48],
  [0x02, 0x70],
  [0x05, 0x40],
  [0x08, 0x70],
  [0x09, 0x70],
  [0x0a, 0x14],
  [0x10, 0x40],
  [0x12, 0x30],
  [0x15, 0x34],
  [0x24, 0x34],
  [0x26, 0x24],
  [0x2e, 0x18],
]);

const STANDARD_IDS = Array.from({ length: 0x17 }, (_, id) => id);
const EXTENDED_IDS = Array.from({ length: 0x33 }, (_, id) => id);

interface Shape {
  noise: Uint8Array;
  size: 64 | 256 | 4096;
  headerType: 0 | 1;
  express: boolean;
  standard: number[];
  extended: number[];
  gaps: number[];
}

const shapes: fc.Arbitrary<Shape> = fc.record({
  noise: fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
  size: fc.constantFrom<(64 | 256 | 4096)[]>(64, 256, 4096, 4096, 4096, 4096),
  headerType: fc.constantFrom<(0 | 1)[]>(0, 1),
  express: fc.boolean(),
  standard: fc.shuffledSubarray(STANDARD_IDS, { minLength: 1, maxLength: 9 }),
  extended: fc.shuffledSubarray(EXTENDED_IDS, { minLength: 1 }),
  gaps: fc.array(fc.nat(4), { minLength: 60, maxLength: 60 }),
});

/** Config space full of noise, with sound lists in it whose order is not that of the offsets. */
function build(shape: Shape): Uint8Array {
  const config = shape.noise.slice();
  const view = new DataView(config.buffer);
  config[0x0e] = shape.headerType | ((config[0x0e] ?? 0) & 0x80);
  view.setUint16(0x00, 0x10de, true);
  // Answering devices have no all-ones class.
  config[0x0b] = 0x03;
  config[0x06] = (config[0x06] ?? 0) | 0x10;
  const ids = shape.express ? [0x10, ...shape.standard.filter((id) => id !== 0x10)] : shape.standard;
  layStandard(config, view, shape.size === 64 ? [] : ids, shape.gaps);
  layExtended(view, shape.extended, shape.gaps);
  return config.subarray(0, shape.size);
}

function layStandard(config: Uint8Array, view: DataView, ids: number[], gaps: number[]): void {
  const placed: { id: number; offset: number }[] = [];
  let offset = 0x40;
  for (const [i, id] of ids.entries()) {
    const room = STANDARD_ROOM.get(id) ?? 4;
    offset += 4 * (gaps[i] ?? 0);
    if (offset + room > 0x100) break;
    placed.push({ id, offset });
    offset += room;
  }
  placed.sort((a, b) => (config[a.offset] ?? 0) - (config[b.offset] ?? 0));
  for (const [i, { id, offset: at }] of placed.entries()) {
    config[at] = id;
    config[at + 1] = placed[i + 1]?.offset ?? 0;
    // lspci 3.9 dies of enhanced allocation entries that are shorter than it expects.
    if (id === 0x14) view.setUint16(at + 2, 0, true);
    if (id === 0x09) config[at + 2] = 4;
  }
  config[0x34] = placed[0]?.offset ?? 0;
}

function layExtended(view: DataView, ids: number[], gaps: number[]): void {
  const placed: { id: number; offset: number }[] = [];
  let offset = 0x100;
  for (const [i, id] of ids.entries()) {
    const room = EXTENDED_ROOM.get(id) ?? 0x20;
    if (i > 0) offset += 4 * (gaps[20 + i] ?? 0);
    if (offset + room > 0x1000) break;
    placed.push({ id, offset });
    offset += room;
  }
  const [first, ...others] = placed;
  if (first === undefined) return;
  others.sort((a, b) => view.getUint8(a.offset) - view.getUint8(b.offset));
  const order = [first, ...others];
  for (const [i, { id, offset: at }] of order.entries()) {
    const next = order[i + 1]?.offset ?? 0;
    // Version 1 at least: a header of 0 would say that there is no list.
    view.setUint32(at, ((next << 20) | ((view.getUint8(at + 2) & 0xf || 1) << 16) | id) >>> 0, true);
    if (id === 0x0b || id === 0x23) view.setUint16(at + 6, (0x10 << 4) | (view.getUint8(at + 6) & 0xf), true);
    if (id === 0x23) view.setUint16(at + 4, 0x10de, true);
    if (id === 0x15 || id === 0x24)
      view.setUint8(at + 8, (view.getUint8(at + 8) & 0x1f) | ((((at >> 2) % 6) + 1) << 5));
  }
}

/** The dump `lspci -F` reads, which is what `lspci -xxxx` prints. */
function hexDump(configs: ReadonlyMap<PciAddress, Uint8Array>): string {
  const lines: string[] = [];
  for (const [address, config] of configs) {
    lines.push(`${address} Device`);
    for (let at = 0; at < config.length; at += 16) {
      const bytes = [...config.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, "0"));
      lines.push(`${at.toString(16).padStart(2, "0")}: ${bytes.join(" ")}`);
    }
    lines.push("");
  }
  return `${lines.join("\n")}\n`;
}

/** What lspci prints of each function, by address. */
function lspci(configs: ReadonlyMap<PciAddress, Uint8Array>): Map<PciAddress, string[]> {
  const file = join(directory, "dump");
  writeFileSync(file, hexDump(configs));
  const run = spawnSync("lspci", ["-F", file, "-vv", "-D"], { encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(run.status, 0, run.stderr);
  const blocks = run.stdout.split("\n\n").filter((block) => block.trim() !== "");
  return new Map(blocks.map((block) => [parseAddress(block.slice(0, block.indexOf(" "))), block.split("\n")]));
}

interface Listed {
  offset: number;
  extended: boolean;
  /** The first line after the offset, and the lines below it. */
  text: string;
  details: string;
}

function listed(lines: readonly string[]): Listed[] {
  const found: Listed[] = [];
  for (const line of lines) {
    const match = /^\tCapabilities: \[([0-9a-f]+)( v\d+)?\] (.*)$/.exec(line);
    const [, offset, extended, text] = match ?? [];
    if (offset !== undefined && text !== undefined) {
      found.push({ offset: Number.parseInt(offset, 16), extended: extended !== undefined, text, details: "" });
    } else if (line.startsWith("\t\t")) {
      const last = found.at(-1);
      if (last !== undefined) last.details += `${line}\n`;
    }
  }
  return found;
}

/** The name at the beginning of lspci's text, its `Capability ID 0x2a` written as `#2a`. */
function nameIn(text: string, name: string): string {
  const unknown = /^(?:Extended )?Capability ID 0x([0-9a-f]+)/.exec(text);
  if (unknown?.[1] !== undefined) return `#${unknown[1].padStart(2, "0")}`;
  const rest = text.slice(name.length);
  return text.startsWith(name) && /^(?:$|[: ])/.test(rest) ? name : text;
}

const sign = (set: boolean): string => (set ? "+" : "-");
const bit = (value: number, mask: number): string => sign((value & mask) !== 0);
const hex = (value: number | bigint, digits: number): string => value.toString(16).padStart(digits, "0");

/** Pieces of what lspci prints about a capability, made from our own decoding. */
function printed(config: Uint8Array, fn: PciFunction, capability: Capability): string[] {
  const contents = decodeCapability(config, capability, fn.express?.type);
  switch (contents?.kind) {
    case undefined:
      return [];
    case "power-management":
      return [
        `Power Management version ${contents.version}\n`,
        ` D1${sign(contents.d1)} D2${sign(contents.d2)} `,
        `PME(${["D0", "D1", "D2", "D3hot", "D3cold"].map((s) => s + sign(contents.wakeFrom.some((w) => w === s))).join(",")})`,
        `Status: D${contents.state} NoSoftRst${sign(contents.noSoftReset)} PME-Enable${sign(contents.wakeEnabled)} `,
      ];
    case "msi": {
      const address = hex(contents.address, contents.wide ? 16 : 8);
      const { enabled, allocated, capable, maskable, wide, masked, pending } = contents;
      return [
        `Enable${sign(enabled)} Count=${allocated}/${capable} Maskable${sign(maskable)} 64bit${sign(wide)}\n`,
        `Address: ${address}  Data: ${hex(contents.data, 4)}\n`,
        ...(masked === undefined ? [] : [`Masking: ${hex(masked, 8)}  Pending: ${hex(pending ?? -1, 8)}`]),
      ];
    }
    case "msi-x":
      return [
        `Enable${sign(contents.enabled)} Count=${contents.count} Masked${sign(contents.masked)}\n`,
        `Vector table: BAR=${contents.table.bar} offset=${hex(contents.table.offset, 8)}\n`,
        `PBA: BAR=${contents.pendingBits.bar} offset=${hex(contents.pendingBits.offset, 8)}\n`,
      ];
    case "vendor":
      return [`Len=${hex(contents.length, 2)} `];
    case "express":
      return express(contents);
    case "aer": {
      const { uncorrectable, correctable, ecrcGeneration, ecrcChecking } = contents;
      return [
        ...[uncorrectable.status, uncorrectable.mask, uncorrectable.severity].map(
          (errors, i) =>
            `${["UESta", "UEMsk", "UESvrt"][i]}:\tDLP${bit(errors, 0x10)} SDES${bit(errors, 0x20)} TLP${bit(errors, 0x1000)} `,
        ),
        `UnsupReq${bit(uncorrectable.mask, 0x100000)} ACSViol${bit(uncorrectable.mask, 0x200000)}\n\t\tUESvrt`,
        `CESta:\tRxErr${bit(correctable.status, 1)} BadTLP${bit(correctable.status, 0x40)} `,
        `CEMsk:\tRxErr${bit(correctable.mask, 1)} BadTLP${bit(correctable.mask, 0x40)} `,
        `First Error Pointer: ${hex(contents.firstError, 2)}, `,
        `ECRCGenCap${sign(ecrcGeneration.capable)} ECRCGenEn${sign(ecrcGeneration.enabled)} `,
        `ECRCChkCap${sign(ecrcChecking.capable)} ECRCChkEn${sign(ecrcChecking.enabled)}\n`,
        `HeaderLog: ${contents.headerLog.map((word) => hex(word, 8)).join(" ")}\n`,
        ...(contents.root === undefined
          ? []
          : [
              `RootCmd: CERptEn${bit(contents.root.command, 1)} NFERptEn${bit(contents.root.command, 2)} `,
              `RootSta: CERcvd${bit(contents.root.status, 1)} MultCERcvd${bit(contents.root.status, 2)} `,
              `ERR_COR: ${hex(contents.root.correctableSource, 4)} ` +
                `ERR_FATAL/NONFATAL: ${hex(contents.root.uncorrectableSource, 4)}\n`,
            ]),
      ];
    }
    case "extended-vendor":
      return [`ID=${hex(contents.id, 4)} Rev=${contents.revision} Len=${hex(contents.length, 3)} `];
    case "designated-vendor":
      return [
        `Vendor=${hex(contents.vendor, 4)} ID=${hex(contents.id, 4)} Rev=${contents.revision} Len=${contents.length} `,
      ];
    case "acs":
      return [`ACSCap:\t${acs(contents.supported)}\n`, `ACSCtl:\t${acs(contents.enabled)}\n`];
    case "sr-iov":
      return [
        `IOVCtl:\tEnable${sign(contents.enabled)} `,
        ` MSE${sign(contents.memoryEnabled)} ARIHierarchy${sign(contents.ariHierarchy)} `,
        `Initial VFs: ${contents.initialVfs}, Total VFs: ${contents.totalVfs}, Number of VFs: ${contents.numVfs}, ` +
          `Function Dependency Link: ${hex(contents.dependencyLink, 2)}\n`,
        `VF offset: ${contents.firstVfOffset}, stride: ${contents.vfStride}, Device ID: ${hex(contents.vfDeviceId, 4)}\n`,
        `Supported Page Size: ${hex(contents.supportedPageSizes, 8)}, System Page Size: ${hex(contents.systemPageSize, 8)}\n`,
      ];
    case "resizable-bar":
      return contents.bars.map(
        ({ index, size, supported }) =>
          `${size === null ? "" : `BAR ${index}: current size: ${amount(size)}`}` +
          `${supported.length > 0 ? `, supported: ${supported.map(amount).join(" ")}` : ""}\n`,
      );
    case "secondary-express": {
      // lspci 3.9 prints the lower 16 lanes only.
      const lanes = contents.laneErrors.filter((lane) => lane < 16);
      return [
        `LnkEquIntrruptEn${sign(contents.equalizationInterrupt)} PerformEqu${sign(contents.performEqualization)}\n`,
        `LaneErrStat: ${lanes.length > 0 ? `LaneErr at lane: ${lanes.join(" ")}` : "0"}\n`,
      ];
    }
  }
}

const EXPRESS_NAMES = {
  endpoint: "Endpoint",
  "legacy-endpoint": "Legacy Endpoint",
  "root-port": "Root Port",
  "upstream-port": "Upstream Port",
  "downstream-port": "Downstream Port",
  "pcie-to-pci-bridge": "PCI-Express to PCI/PCI-X Bridge",
  "pci-to-pcie-bridge": "PCI/PCI-X to PCI-Express Bridge",
  "root-complex-endpoint": "Root Complex Integrated Endpoint",
  "root-complex-event-collector": "Root Complex Event Collector",
  unknown: "Unknown type",
} as const;

type Contents<Kind> = Extract<NonNullable<ReturnType<typeof decodeCapability>>, { kind: Kind }>;

function express(contents: Contents<"express">): string[] {
  const { type, version: generation, slotImplemented, link, slot } = contents;
  const withSlot = type === "root-port" || type === "downstream-port" || type === "pci-to-pcie-bridge";
  const pieces = [
    `Express (v${generation}) ${EXPRESS_NAMES[type]}${withSlot ? ` (Slot${sign(slotImplemented)})` : ""}`,
    ` MSI ${hex(contents.interruptMessage, 2)}\n`,
    `DevCap:\tMaxPayload ${contents.maxPayloadSupported} bytes, `,
    `MaxPayload ${contents.maxPayload} bytes, MaxReadReq ${contents.maxReadRequest} bytes\n`,
  ];
  if (type === "endpoint" || type === "legacy-endpoint" || type === "root-complex-endpoint") {
    pieces.push(` FLReset${sign(contents.functionLevelReset)}`);
  }
  const speed = (value: number | null): string => (value === null ? "unknown" : `${value}GT/s`);
  if (link !== undefined) {
    pieces.push(`LnkCap:\tPort #${link.port}, Speed ${speed(link.maxSpeed)}, Width x${link.maxWidth}, ASPM `);
    pieces.push(`LnkSta:\tSpeed ${speed(link.speed)}`, `Width x${link.width}`);
    pieces.push(` Train${sign(link.training)} `, ` DLActive${sign(link.active)} `, ` Disabled${sign(link.disabled)} `);
    const { l0s, l1 } = link.aspmEnabled;
    pieces.push(`LnkCtl:\tASPM ${l0s || l1 ? `${l0s ? "L0s " : ""}${l1 ? "L1 " : ""}Enabled` : "Disabled"};`);
    const can = link.aspmSupported;
    const names = [can.l0s ? "L0s" : "", can.l1 ? "L1" : ""].filter((name) => name !== "").join(" ");
    pieces.push(`ASPM ${names || "not supported"}${names ? ", Exit" : "\n"}`);
  }
  if (slot !== undefined) {
    const limit = slot.powerLimit === Number.POSITIVE_INFINITY ? ">600" : `${Number(slot.powerLimit.toPrecision(6))}`;
    pieces.push(`Slot #${slot.number}, PowerLimit ${limit}W; `);
    pieces.push(` HotPlug${sign(slot.hotPlug)} Surprise${sign(slot.surprise)}\n`);
    pieces.push(`SltCap:\tAttnBtn${sign(slot.attentionButton)} PwrCtrl${sign(slot.powerController)} `);
    pieces.push(` PresDet${sign(slot.occupied)} Interlock`);
  }
  return pieces;
}

const ACS_BITS = ["SrcValid", "TransBlk", "ReqRedir", "CmpltRedir", "UpstreamFwd", "EgressCtrl", "DirectTrans"];

function acs(bits: number): string {
  return ACS_BITS.map((name, i) => name + bit(bits, 1 << i)).join(" ");
}

function amount(bytes: bigint): string {
  const units = ["MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
  let value = bytes >> 20n;
  let unit = 0;
  while (value >= 1024n && unit < 4) {
    value >>= 10n;
    unit++;
  }
  return `${value}${units[unit]}`;
}

function barLine(bar: Bar, config: Uint8Array): string {
  const off = bar.disabled ? " [disabled]" : "";
  if (bar.index === "rom") return bar.address === 0n ? "" : `\tExpansion ROM at ${hex(bar.address, 8)}`;
  const start = `\tRegion ${bar.index}: `;
  if (bar.kind === "io") {
    const at = bar.address === 0n && bar.disabled ? "<unassigned>" : hex(bar.address, 4);
    return `${start}I/O ports at ${at}${off}`;
  }
  const at = bar.address === 0n ? "<unassigned>" : hex(bar.address, 8);
  // lspci tells apart two types that are plain 32-bit ones to us.
  const width = ["32-bit", "low-1M", "64-bit", "type 3"][((config[0x10 + 4 * bar.index] ?? 0) >> 1) & 3];
  assert.equal(bar.width, width === "64-bit" ? 64 : 32);
  return `${start}Memory at ${at} (${width}, ${bar.prefetchable ? "" : "non-"}prefetchable)${off}`;
}

const configs = new Map<PciAddress, Uint8Array>();
let answers = new Map<PciAddress, string[]>();

before(() => {
  if (skip) return;
  const samples = fc.sample(shapes, { seed: 20190422, numRuns: 400 });
  for (const [i, shape] of samples.entries()) {
    const address = formatAddress({ domain: 0, bus: i >> 5, device: i & 31, function: 0 });
    configs.set(address, build(shape));
  }
  answers = lspci(configs);
});

test("lspci lists the same capabilities at the same offsets under the same names", { skip }, () => {
  const seen = new Set<string>();
  for (const [address, config] of configs) {
    const fn = decodeFunction(address, config);
    const theirs = listed(answers.get(address) ?? []);
    assert.deepEqual(
      fn.capabilities.map(({ offset, extended, name }) => ({ offset, extended, name })),
      theirs.map(({ offset, extended, text }, i) => {
        return { offset, extended, name: nameIn(text, fn.capabilities[i]?.name ?? "") };
      }),
      `${address} ${fn.damage?.join(", ")}`,
    );
    for (const { id, extended } of fn.capabilities) seen.add(`${extended} ${id}`);
    assert.deepEqual(fn.damage?.filter((line) => line.includes("capabilit")) ?? [], []);
  }
  assert.equal(seen.size, STANDARD_IDS.length + EXTENDED_IDS.length);
});

test("lspci prints what our decoded capabilities say", { skip }, () => {
  const kinds = new Set<string>();
  for (const [address, config] of configs) {
    const fn = decodeFunction(address, config);
    const theirs = listed(answers.get(address) ?? []);
    for (const [i, capability] of fn.capabilities.entries()) {
      const text = `${theirs[i]?.text}\n${theirs[i]?.details}`;
      for (const piece of printed(config, fn, capability)) {
        assert.ok(text.includes(piece), `${address} ${capability.name}: no ${JSON.stringify(piece)} in\n${text}`);
        kinds.add(`${capability.extended} ${capability.id}`);
      }
    }
  }
  assert.equal(kinds.size, 13);
});

test("lspci prints the same base addresses, bus numbers and class", { skip }, () => {
  let bars = 0;
  for (const [address, config] of configs) {
    const fn = decodeFunction(address, config);
    const lines = answers.get(address) ?? [];
    for (const bar of fn.bars) {
      const expected = barLine(bar, config);
      assert.ok(
        lines.some((line) => line === expected || (bar.index === "rom" && line.startsWith(expected))),
        `${address}: no ${expected} in\n${lines.join("\n")}`,
      );
      bars++;
    }
    if (fn.buses !== undefined) {
      const { primary, secondary, subordinate } = fn.buses;
      const expected = `\tBus: primary=${hex(primary, 2)}, secondary=${hex(secondary, 2)}, subordinate=${hex(subordinate, 2)}, `;
      assert.ok(
        lines.some((line) => line.startsWith(expected)),
        `${address}: no ${expected}`,
      );
    }
  }
  assert.ok(bars > 500);
});

test("lspci names every known class, and those it does not know, as we do", { skip }, () => {
  const classes = new Map<PciAddress, Uint8Array>();
  for (let base = 0; base < 0x15; base++) {
    for (let sub = 0; sub < 0x14; sub++) {
      const config = new Uint8Array(64);
      config.set([0xde, 0x10, 0xb1, 0x1d]);
      config[0x0a] = sub === 0x13 ? 0x80 : sub;
      config[0x0b] = base === 0x14 ? 0x40 : base;
      classes.set(formatAddress({ domain: 1, bus: base, device: sub, function: 0 }), config);
    }
  }
  for (const [address, [line]] of lspci(classes)) {
    const fn = decodeFunction(address, classes.get(address) ?? new Uint8Array());
    const name = className(fn.classCode ?? 0);
    assert.equal(line?.slice(address.length + 1, address.length + 1 + name.length + 2), `${name}: `);
  }
});
