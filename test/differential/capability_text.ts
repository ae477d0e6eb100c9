import assert from "node:assert/strict";
import { decodeCapability } from "../../src/pci/capability_contents.js";
import type { Bar, Capability, PciFunction } from "../../src/pci/function.js";

const sign = (set: boolean): string => (set ? "+" : "-");
const bit = (value: number, mask: number): string => sign((value & mask) !== 0);
const hex = (value: number | bigint, digits: number): string => value.toString(16).padStart(digits, "0");

/** Pieces of what lspci prints about a capability, made from our own decoding. */
export function printed(config: Uint8Array, fn: PciFunction, capability: Capability): string[] {
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
    case "aer":
      return aer(contents);
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
        ...contents.bars.map(({ index, address, width, prefetchable }) => {
          return `\t\tRegion ${index}: Memory at ${hex(address, width / 4)} (${width}-bit, ${prefetchable ? "" : "non-"}prefetchable)\n`;
        }),
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

const UNCORRECTABLE = [
  ["DLP", 4],
  ["SDES", 5],
  ["TLP", 12],
  ["FCP", 13],
  ["CmpltTO", 14],
  ["CmpltAbrt", 15],
  ["UnxCmplt", 16],
  ["RxOF", 17],
  ["MalfTLP", 18],
  ["ECRC", 19],
  ["UnsupReq", 20],
  ["ACSViol", 21],
] as const;
const CORRECTABLE = [
  ["RxErr", 0],
  ["BadTLP", 6],
  ["BadDLLP", 7],
  ["Rollover", 8],
  ["Timeout", 12],
  ["AdvNonFatalErr", 13],
] as const;
const ROOT_STATUS = [
  ["CERcvd", 0],
  ["MultCERcvd", 1],
  ["UERcvd", 2],
  ["MultUERcvd", 3],
  ["FirstFatal", 4],
  ["NonFatalMsg", 5],
  ["FatalMsg", 6],
] as const;

function flags(names: readonly (readonly [name: string, bit: number])[], value: number): string {
  return names.map(([name, at]) => `${name}${sign(((value >>> at) & 1) === 1)}`).join(" ");
}

function aer({
  uncorrectable,
  correctable,
  firstError,
  ecrcGeneration,
  ecrcChecking,
  headerLog,
  root,
}: Contents<"aer">): string[] {
  const pieces = [
    `UESta:\t${flags(UNCORRECTABLE, uncorrectable.status)}\n`,
    `UEMsk:\t${flags(UNCORRECTABLE, uncorrectable.mask)}\n`,
    `UESvrt:\t${flags(UNCORRECTABLE, uncorrectable.severity)}\n`,
    `CESta:\t${flags(CORRECTABLE, correctable.status)}\n`,
    `CEMsk:\t${flags(CORRECTABLE, correctable.mask)}\n`,
    `First Error Pointer: ${hex(firstError, 2)}, `,
    `ECRCGenCap${sign(ecrcGeneration.capable)} ECRCGenEn${sign(ecrcGeneration.enabled)} `,
    `ECRCChkCap${sign(ecrcChecking.capable)} ECRCChkEn${sign(ecrcChecking.enabled)}\n`,
    `HeaderLog: ${headerLog.map((word) => hex(word, 8)).join(" ")}\n`,
  ];
  if (root === undefined) return pieces;
  return [
    ...pieces,
    `RootCmd: ${flags(
      [
        ["CERptEn", 0],
        ["NFERptEn", 1],
        ["FERptEn", 2],
      ],
      root.command,
    )}\n`,
    `RootSta: ${flags(ROOT_STATUS.slice(0, 4), root.status)}\n`,
    ` ${flags(ROOT_STATUS.slice(4), root.status)} IntMsg ${root.status >>> 27}\n`,
    `ERR_COR: ${hex(root.correctableSource, 4)} ERR_FATAL/NONFATAL: ${hex(root.uncorrectableSource, 4)}\n`,
  ];
}

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

export function barLine(bar: Bar, config: Uint8Array): string {
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
