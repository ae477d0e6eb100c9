import * as v from "valibot";
import { parseAddress } from "../pci/address.js";
import { MACHINE_VERSION } from "./machine.js";

/**
 * A word for people: no control characters, so that a hostile capture cannot drive a terminal. There is room for a path in a
 * device tree, which has up to 64 names of 255 characters.
 */
const text = v.pipe(v.string(), v.maxLength(65_536), v.regex(/^[^\p{Cc}\p{Zl}\p{Zp}]*$/u, "has control characters"));
const address = v.pipe(v.string(), v.regex(/^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/, "is no PCI address"));
const canonicalAddress = v.pipe(
  address,
  v.check((value) => parseAddress(value) === value, "is no canonical PCI address"),
);
const unsigned = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(max));
const hex64 = v.pipe(v.string(), v.regex(/^0x[0-9a-f]{1,16}$/, "is no hexadecimal number of up to 64 bits"));
const big = v.pipe(
  hex64,
  v.transform((value) => BigInt(value)),
);
const hex32 = v.pipe(
  v.string(),
  v.regex(/^0x[0-9a-f]{1,8}$/, "is no hexadecimal number of up to 32 bits"),
  v.transform((value) => Number(value)),
);
const origin = v.picklist([
  "device-tree",
  "firmware",
  "sysfs",
  "lspci",
  "nvidia-smi",
  "wiring",
  "register",
  "kernel-rules",
]);

const bar = v.strictObject({
  index: v.union([unsigned(5), v.literal("rom")]),
  kind: v.picklist(["memory", "io"]),
  address: big,
  size: v.exactOptional(big),
  width: v.picklist([32, 64]),
  prefetchable: v.boolean(),
  disabled: v.boolean(),
});

const pciFunction = v.strictObject({
  address: canonicalAddress,
  vendorId: v.exactOptional(unsigned(0xffff)),
  deviceId: v.exactOptional(unsigned(0xffff)),
  subsystemVendorId: v.exactOptional(unsigned(0xffff)),
  subsystemId: v.exactOptional(unsigned(0xffff)),
  classCode: v.exactOptional(unsigned(0xffffff)),
  revision: v.exactOptional(unsigned(0xff)),
  name: v.exactOptional(text),
  headerType: v.exactOptional(unsigned(0x7f)),
  multifunction: v.exactOptional(v.boolean()),
  bars: v.array(bar),
  capabilities: v.array(
    v.strictObject({ offset: unsigned(0xfff), id: unsigned(0xffff), extended: v.boolean(), name: text }),
  ),
  express: v.exactOptional(
    v.strictObject({
      type: v.picklist([
        "endpoint",
        "legacy-endpoint",
        "root-port",
        "upstream-port",
        "downstream-port",
        "pcie-to-pci-bridge",
        "pci-to-pcie-bridge",
        "root-complex-endpoint",
        "root-complex-event-collector",
        "unknown",
      ]),
      slotImplemented: v.boolean(),
      slotNumber: v.exactOptional(unsigned(0x1fff)),
      functionLevelReset: v.boolean(),
    }),
  ),
  acs: v.exactOptional(v.strictObject({ supported: unsigned(0xffff), enabled: unsigned(0xffff) })),
  buses: v.exactOptional(
    v.strictObject({ primary: unsigned(0xff), secondary: unsigned(0xff), subordinate: unsigned(0xff) }),
  ),
  parent: v.exactOptional(v.nullable(canonicalAddress)),
  physicalFunction: v.exactOptional(canonicalAddress),
  driver: v.exactOptional(text),
  numaNode: v.exactOptional(unsigned(0xffffffff)),
  irq: v.exactOptional(unsigned(0xffffffff)),
  damage: v.exactOptional(v.array(text)),
});

const farEnd = v.variant("kind", [
  v.strictObject({ kind: v.literal("gpu"), gpu: canonicalAddress, link: v.exactOptional(unsigned(255)) }),
  v.strictObject({ kind: v.literal("bridge"), bridge: canonicalAddress }),
  v.strictObject({ kind: v.literal("switch"), switch: text }),
  v.strictObject({ kind: v.literal("none") }),
  v.strictObject({ kind: v.literal("unknown") }),
]);

const link = v.strictObject({
  number: unsigned(255),
  far: farEnd,
  state: v.picklist(["up", "down", "cut", "unknown"]),
  evidence: v.exactOptional(
    v.strictObject({
      registers: v.pipe(v.array(v.strictObject({ offset: hex32, value: hex32 })), v.maxLength(64)),
      readAt: v.exactOptional(text),
    }),
  ),
  origin,
  assumed: v.exactOptional(v.boolean()),
});

const gpu = v.strictObject({
  address: canonicalAddress,
  name: v.pipe(text, v.minLength(1)),
  part: v.picklist(["GP100", "GV100", "GA100", "unknown"]),
  nvlink: v.picklist(["present", "none", "unknown"]),
  links: v.pipe(v.array(link), v.maxLength(256)),
  bridges: v.pipe(v.array(canonicalAddress), v.maxLength(256)),
  origin,
});

const bridge = v.strictObject({
  address: canonicalAddress,
  gpu: v.exactOptional(canonicalAddress),
  linkIndex: unsigned(0xffffffff),
  npu: text,
  slotLabel: v.exactOptional(text),
  groupId: v.exactOptional(unsigned(0xffffffff)),
  brickId: v.exactOptional(unsigned(0xffffffff)),
  speed: v.exactOptional(unsigned(0xffffffff)),
  atsd: v.exactOptional(big),
  tgt: v.exactOptional(big),
  origin,
});

/** A machine as a capture file has it: the `Machine` type with addresses, sizes and registers as hexadecimal strings. */
export const machineSchema = v.strictObject({
  name: v.pipe(text, v.minLength(1)),
  virtual: v.boolean(),
  platform: v.picklist(["powernv", "pc", "unknown"]),
  source: text,
  kernel: v.exactOptional(v.strictObject({ release: v.exactOptional(text), commandLine: v.exactOptional(text) })),
  functions: v.array(pciFunction),
  groups: v.exactOptional(v.array(v.strictObject({ id: unsigned(0x7fffffff), members: v.array(canonicalAddress) }))),
  gpus: v.array(gpu),
  bridges: v.array(bridge),
  memory: v.array(v.strictObject({ gpu: canonicalAddress, base: big, size: big, tgt: v.exactOptional(big), origin })),
  assignments: v.exactOptional(
    v.array(v.strictObject({ name: v.pipe(text, v.minLength(1)), members: v.array(canonicalAddress) })),
  ),
  unknown: v.array(
    v.strictObject({
      what: text,
      functions: v.array(canonicalAddress),
      action: v.exactOptional(text),
      about: v.exactOptional(v.literal("far-ends")),
    }),
  ),
  disagreements: v.exactOptional(
    v.array(v.strictObject({ gpus: v.tuple([canonicalAddress, canonicalAddress]), reason: text })),
  ),
});

/** A capture file: one machine, with the version of the format. */
export const captureSchema = v.strictObject({
  linkfence: v.literal("capture"),
  version: v.literal(MACHINE_VERSION),
  capturedAt: v.exactOptional(text),
  machine: machineSchema,
});
