import type { PciFunction } from "../pci/function.js";
import type { Gpu, Part } from "./machine.js";
import { partFacts } from "./part.js";

/** Which part a GPU is, and what that says of its NVLinks. */
export interface GpuIdentity {
  part: Part;
  /** `none` only where the board is known to have no connectors, or the chip no links. */
  nvlink: Gpu["nvlink"];
  /** How many links the chip has, where that is known; a board may use fewer. */
  linkCount?: number;
  /** `Tesla V100 SXM2`, from the function's name. */
  model?: string;
}

const NVIDIA = 0x10de;
const DISPLAY_CONTROLLER = 0x03;
const SRIOV = 0x10;

interface Chip {
  part: Part;
  /** What holds for a board of this chip that is not in the tables below. */
  nvlink: Gpu["nvlink"];
  links?: number;
}

/** A chip that linkfence can fence: how many links it has is in `part.ts`. */
function fenced(part: Part): Chip {
  const links = partFacts(part)?.links;
  return { part, nvlink: "unknown", ...(links !== undefined && { links }) };
}

/**
 * Link counts: NVIDIA's architecture white papers (Turing: TU102 2, TU104 1; Ampere: GA102 4; Hopper and Blackwell: 18).
 * Every board of the last two carries links: SXM modules, and cards with bridge connectors.
 */
const CHIPS = {
  GP100: fenced("GP100"),
  GV100: fenced("GV100"),
  GA100: fenced("GA100"),
  TU102: { part: "unknown", nvlink: "unknown", links: 2 },
  TU104: { part: "unknown", nvlink: "unknown", links: 1 },
  GA102: { part: "unknown", nvlink: "unknown", links: 4 },
  GH100: { part: "unknown", nvlink: "present", links: 18 },
  GB100: { part: "unknown", nvlink: "present", links: 18 },
  withoutNvlink: { part: "unknown", nvlink: "none" },
} satisfies Record<string, Chip>;
type ChipName = keyof typeof CHIPS;

/** Device ids by chip, both ends included (pci.ids). What is in no range is not known. */
const RANGES: readonly (readonly [first: number, last: number, chip: ChipName])[] = [
  [0x0020, 0x15bf, "withoutNvlink"], // up to Maxwell (GM107, GM204), in the order NVIDIA gave out ids
  [0x15c0, 0x15ff, "GP100"],
  [0x1600, 0x16ff, "withoutNvlink"], // GM204, GM206
  [0x1700, 0x173f, "GP100"],
  [0x1740, 0x17ff, "withoutNvlink"], // GM108, GM200
  [0x1b00, 0x1d7f, "withoutNvlink"], // GP102, GP104, GP106, GP107, GP108
  [0x1d80, 0x1dff, "GV100"],
  [0x1e00, 0x1e7f, "TU102"],
  [0x1e80, 0x1eff, "TU104"],
  [0x1f00, 0x1fff, "withoutNvlink"], // TU106, TU117
  [0x2080, 0x20ff, "GA100"],
  [0x2180, 0x21ff, "withoutNvlink"], // TU116
  [0x2200, 0x227f, "GA102"],
  [0x2300, 0x23ff, "GH100"],
  [0x2400, 0x25ff, "withoutNvlink"], // GA103, GA104, GA106, GA107
  [0x2680, 0x28ff, "withoutNvlink"], // AD102 to AD107
  [0x2900, 0x29ff, "GB100"],
  [0x2b80, 0x2d9f, "withoutNvlink"], // GB202, GB203, GB206, GB207
];

/** Boards whose connectors are known, by device id (pci.ids for the models, NVIDIA's data sheets for the connectors). */
const BOARDS: ReadonlyMap<number, Gpu["nvlink"]> = new Map([
  ...boards("none", [
    0x15f7, // Tesla P100 PCIe 12GB
    0x15f8, // Tesla P100 PCIe 16GB
    0x1d81, // TITAN V
    0x1db3, // Tesla V100 FHHL
    0x1db4, // Tesla V100 PCIe 16GB
    0x1db6, // Tesla V100 PCIe 32GB
    0x1df6, // Tesla V100S PCIe 32GB
    0x1eb8, // Tesla T4
  ]),
  ...boards("present", [
    0x15f0, // Quadro GP100: two bridge connectors
    0x15f9, // Tesla P100 SXM2
    0x15fc, // Tesla P100 DGXS
    0x15fe, // P100 SXM2 of early S822LC "for HPC" machines (in no pci.ids; the second listing of the kernel thread)
    0x1db0, // Tesla V100 SXM2, early
    0x1db1, // Tesla V100 SXM2 16GB
    0x1db2, // Tesla V100 DGXS 16GB: bridged
    0x1db5, // Tesla V100 SXM2 32GB
    0x1db7, // Tesla V100 DGXS 32GB: bridged
    0x1db8, // Tesla V100 SXM3 32GB
    0x1dba, // Quadro GV100: two bridge connectors
    0x1dbd, // Tesla V100 of the DGX-1
    0x1df5, // Tesla V100 SXM2 16GB
    0x1e02, // TITAN RTX
    0x1e04, // GeForce RTX 2080 Ti
    0x1e07, // GeForce RTX 2080 Ti Rev. A
    0x1e30, // Quadro RTX 6000/8000
    0x1e78, // Quadro RTX 6000/8000
    0x1e81, // GeForce RTX 2080 SUPER
    0x1e82, // GeForce RTX 2080
    0x1e87, // GeForce RTX 2080 Rev. A
    0x1eb0, // Quadro RTX 5000
    0x20b0, // A100 SXM4 40GB
    0x20b1, // A100 PCIe 40GB: three bridge connectors, as on the other A100 cards
    0x20b2, // A100 SXM4 80GB
    0x20b3, // A100 SXM 64GB
    0x20b5, // A100 PCIe 80GB
    0x20b7, // A30: one bridge connector
    0x20bd, // A800 SXM4 40GB
    0x20f1, // A100 PCIe 40GB
    0x20f3, // A800 SXM4 80GB
    0x20f5, // A800 PCIe 80GB
    0x20f6, // A800 PCIe 40GB
    0x2203, // GeForce RTX 3090 Ti
    0x2204, // GeForce RTX 3090
    0x2230, // RTX A6000
    0x2231, // RTX A5000
    0x2232, // RTX A4500
    0x2233, // RTX A5500
    0x2235, // A40
  ]),
]);

/** Chips by what pci.ids calls them, or by their best known boards; the first that fits counts. */
const CHIP_NAMES: readonly (readonly [pattern: RegExp, chip: ChipName])[] = [
  [/\b(?:GP100|P100\b)/, "GP100"],
  [/\b(?:GV100|V100)/, "GV100"],
  [/\b(?:GA100|A100\b|A800\b|A30\b)/, "GA100"],
  [/\bTU102/, "TU102"],
  [/\bTU104/, "TU104"],
  [/\bGA102/, "GA102"],
  [/\b(?:GH100|H[12]00\b)/, "GH100"],
  [/\b(?:GB10[02]|B[12]00\b)/, "GB100"],
  // Not GA103: the pci.ids of April to November 2022 had that name for GH100 boards.
  [/\b(?:G[FKM]\d{3}|GP10[2-8]|TU106|TU11[67]|GA10[4-7]|AD10[2-7]|GB20[2-7])/, "withoutNvlink"],
  [/\bTesla [CKM]\d{1,4}/, "withoutNvlink"],
];

/** Boards whose connectors are known, by name. */
const BOARD_NAMES: readonly (readonly [chip: ChipName, pattern: RegExp, nvlink: Gpu["nvlink"]])[] = [
  ["GP100", /\bPCIe\b/i, "none"],
  ["GP100", /\bSXM\d?|DGXS|Quadro/i, "present"],
  ["GV100", /\bPCIe\b|FHHL|TITAN V\b|V100S\b/i, "none"],
  ["GV100", /\bSXM\d?|DGX|Quadro/i, "present"],
  ["GA100", /\bSXM\d?|\bPCIe\b|\bA30\b|\bA800\b/i, "present"],
  ["TU102", /TITAN RTX|RTX 2080 Ti|Quadro RTX [68]000/i, "present"],
  ["TU104", /RTX 2080(?! (?:Mobile|SUPER Mobile))|Quadro RTX 5000(?! Mobile)/i, "present"],
  ["TU104", /Tesla T4\b/i, "none"],
  ["GA102", /RTX 3090|RTX A[456][05]00|\bA40\b/i, "present"],
];

/**
 * Which part a function is, by its device id, else by its name. Undefined for what is no NVIDIA GPU: another vendor's,
 * or another class (audio, USB, NVSwitch). An NVIDIA display controller that the tables do not have is a GPU of which
 * neither the part nor whether it has NVLinks is known.
 */
export function identifyGpu(fn: PciFunction): GpuIdentity | undefined {
  const name = fn.name ?? "";
  if (fn.vendorId === undefined ? !/^nvidia\b/i.test(name) : fn.vendorId !== NVIDIA) return undefined;
  const chipName = chipById(fn.deviceId) ?? CHIP_NAMES.find(([pattern]) => pattern.test(name))?.[1];
  if (fn.classCode === undefined ? !isNamedGpu(fn, chipName) : fn.classCode >>> 16 !== DISPLAY_CONTROLLER) {
    return undefined;
  }
  const model = /\[([^\]]{1,80})\]/.exec(name)?.[1];
  const named = model !== undefined && { model };
  if (chipName === undefined) return { part: "unknown", nvlink: "unknown", ...named };
  const chip: Chip = CHIPS[chipName];
  const nvlink = boardNvlink(fn.deviceId, name, chipName) ?? chip.nvlink;
  return { part: chip.part, nvlink, ...(chip.links !== undefined && { linkCount: chip.links }), ...named };
}

/**
 * The GPU that a function is an SR-IOV virtual function of: a function of the same bus with an SR-IOV capability, which
 * a virtual function cannot have itself, and with the same device behind a lower address. Two GPUs never look like
 * that; where the capability was not read the answer is undefined, and the function counts as a GPU of its own.
 */
export function physicalFunction(fn: PciFunction, functions: readonly PciFunction[]): PciFunction | undefined {
  if (hasSriov(fn)) return undefined;
  const bus = fn.address.slice(0, -"00.0".length);
  const sameDevice = (other: PciFunction) =>
    fn.deviceId === undefined || other.deviceId === undefined
      ? fn.name !== undefined && fn.name === other.name
      : fn.vendorId === other.vendorId && fn.deviceId === other.deviceId;
  return functions.find(
    (other) => other.address.startsWith(bus) && other.address < fn.address && hasSriov(other) && sameDevice(other),
  );
}

function hasSriov(fn: PciFunction): boolean {
  return fn.capabilities.some(({ id, extended }) => extended && id === SRIOV);
}

function chipById(deviceId: number | undefined): ChipName | undefined {
  if (deviceId === undefined) return undefined;
  return RANGES.find(([first, last]) => first <= deviceId && deviceId <= last)?.[2];
}

/** The device id knows better than the name; a name only speaks where the id has nothing to say. */
function boardNvlink(deviceId: number | undefined, name: string, chip: ChipName): Gpu["nvlink"] | undefined {
  const known = deviceId === undefined ? undefined : BOARDS.get(deviceId);
  return known ?? BOARD_NAMES.find(([of, pattern]) => of === chip && pattern.test(name))?.[2];
}

/** Without a class only a name can tell a GPU from the audio and USB functions beside it. */
function isNamedGpu(fn: PciFunction, chip: ChipName | undefined): boolean {
  return chip !== undefined && fn.name !== undefined && !/audio|usb|nvswitch|bridge/i.test(fn.name);
}

function boards(nvlink: Gpu["nvlink"], ids: readonly number[]): [number, Gpu["nvlink"]][] {
  return ids.map((id) => [id, nvlink]);
}
