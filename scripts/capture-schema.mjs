// Writes docs/schema/capture-file.schema.json from the schema that reading a capture goes by, which has no room for
// descriptions; those are here, by the path of the field. Run it after a change: npm run build && node scripts/capture-schema.mjs
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toJsonSchema } from "@valibot/to-json-schema";
import { captureSchema } from "../dist/machine/capture_schema.js";
import { root } from "./setup.mjs";

export const SCHEMA_FILE = join(root, "docs/schema/capture-file.schema.json");

const ADDRESS = "PCI address, domain:bus:device.function in hexadecimal.";
const ORIGIN =
  "Where the fact was read: wiring is a table of a known board, firmware what linkfence's own firmware pass derived, kernel-rules what the kernel's rules give.";

const DESCRIPTIONS = {
  linkfence: "Tells the file from other JSON.",
  version: "Version of the format; another one is refused.",
  capturedAt: "When the file was written, in ISO 8601.",
  machine: "The machine: its PCI functions, NVLinks and IOMMU groups as they were found.",
  "machine.name": "Name of the machine.",
  "machine.virtual": "Whether it is no silicon: a built-in machine, or a model of what a file describes.",
  "machine.platform": "Whose IOMMU groups: powernv's partitionable endpoints, a PC's by ACS, or unknown.",
  "machine.source": "What the machine was read from, for people.",
  "machine.kernel": "The running or described kernel.",
  "machine.kernel.release": "As uname -r prints it.",
  "machine.kernel.commandLine": "The kernel command line, which may set isolate_nvlink or weaken ACS.",
  "machine.functions": "All PCI functions, bridges included, each address once.",
  "machine.functions[].address": ADDRESS,
  "machine.functions[].vendorId": "Vendor id, 16 bits; absent where the source has names only.",
  "machine.functions[].deviceId": "Device id, 16 bits; absent where the source has names only.",
  "machine.functions[].subsystemVendorId": "Subsystem vendor id, 16 bits.",
  "machine.functions[].subsystemId": "Subsystem id, 16 bits.",
  "machine.functions[].classCode": "Base class, subclass and programming interface, 24 bits.",
  "machine.functions[].revision": "Revision id, 8 bits.",
  "machine.functions[].name": "Vendor and device as the source names them.",
  "machine.functions[].headerType":
    "Header layout without the multifunction bit: 0 endpoint, 1 PCI bridge, 2 CardBus bridge.",
  "machine.functions[].multifunction": "Bit 7 of the header type: the device has more functions.",
  "machine.functions[].bars": "Base address registers, and the expansion ROM.",
  "machine.functions[].bars[].index": "0 to 5 (a 64-bit BAR has the number of its lower half), or rom.",
  "machine.functions[].bars[].kind": "Memory or I/O space.",
  "machine.functions[].bars[].address": "Bus address in hexadecimal, up to 64 bits; 0 while nothing is assigned.",
  "machine.functions[].bars[].size": "Size in bytes, in hexadecimal; absent where the source does not say.",
  "machine.functions[].bars[].width": "Width of the register in bits.",
  "machine.functions[].bars[].prefetchable": "Reads have no side effects.",
  "machine.functions[].bars[].disabled": "Decoding for this kind of space is off, so that the BAR answers nothing.",
  "machine.functions[].capabilities":
    "Entries of the standard and the extended capability list, in the order of the lists.",
  "machine.functions[].capabilities[].offset": "Byte offset in config space, below 4096.",
  "machine.functions[].capabilities[].id": "Capability id: 8 bits in the standard list, 16 in the extended one.",
  "machine.functions[].capabilities[].extended": "It is of the extended list, which begins at offset 256.",
  "machine.functions[].capabilities[].name":
    "As pciutils names it, or #19 style (hexadecimal) for an id it does not know.",
  "machine.functions[].express": "What the PCI Express capability says.",
  "machine.functions[].express.type": "Device/Port Type.",
  "machine.functions[].express.slotImplemented": "The port is connected to a slot.",
  "machine.functions[].express.slotNumber": "Physical slot number, 13 bits.",
  "machine.functions[].express.functionLevelReset": "The function can be reset on its own (FLR).",
  "machine.functions[].acs": "The Access Control Services capability.",
  "machine.functions[].acs.supported": "ACS Capability register, 16 bits.",
  "machine.functions[].acs.enabled": "ACS Control register, 16 bits.",
  "machine.functions[].buses": "Bus numbers of a PCI bridge.",
  "machine.functions[].buses.primary": "Bus above the bridge.",
  "machine.functions[].buses.secondary": "Bus right below the bridge.",
  "machine.functions[].buses.subordinate": "Highest bus below the bridge.",
  "machine.functions[].parent": "The bridge it hangs under; null on a root bus; absent where only bus numbers tell.",
  "machine.functions[].driver": "The driver that is bound to it.",
  "machine.functions[].physicalFunction":
    "The physical function that this one is an SR-IOV virtual function of. Absent: none, or the source does not say.",
  "machine.functions[].numaNode": "NUMA node.",
  "machine.functions[].irq": "Interrupt number.",
  "machine.functions[].damage": "What is wrong with its config space, in words.",
  "machine.groups": "The kernel's own IOMMU groups; absent where the source has none.",
  "machine.groups[].id": "The kernel's number of the group.",
  "machine.groups[].members": "PCI addresses, in the order in which the kernel attached them where that is known.",
  "machine.gpus": "GPUs and their NVLinks; each is also one of the functions.",
  "machine.gpus[].address": ADDRESS,
  "machine.gpus[].name": "Slot label where the platform has one (GPU0), else the PCI address; each once.",
  "machine.gpus[].part": "The chip, by which the fence goes. Parts other than these are unknown and never fenced.",
  "machine.gpus[].nvlink": "Whether the part has NVLinks at all.",
  "machine.gpus[].links": "Its NVLinks, each number once.",
  "machine.gpus[].links[].number": "The GPU's own number of the link, from 0.",
  "machine.gpus[].links[].far": "What is at the other end.",
  "machine.gpus[].links[].far.kind":
    "A GPU, an NPU bridge (the CPU's end of a link), an NVSwitch, nothing, or not known.",
  "machine.gpus[].links[].far.gpu": "PCI address of the far GPU.",
  "machine.gpus[].links[].far.link": "The link's number at the far GPU; absent where only the GPU is known.",
  "machine.gpus[].links[].far.bridge": "PCI address of the NPU bridge.",
  "machine.gpus[].links[].far.switch": "Name of the NVSwitch.",
  "machine.gpus[].links[].state": "What this end said. On reading, cut counts only where the evidence proves it.",
  "machine.gpus[].links[].evidence": "What proves the state. All ones, 0xBADFxxxx and 0xBAD0xxxx prove nothing.",
  "machine.gpus[].links[].evidence.registers": "Registers of the GPU that were read.",
  "machine.gpus[].links[].evidence.registers[].offset": "Byte offset in BAR0, in hexadecimal, 32 bits.",
  "machine.gpus[].links[].evidence.registers[].value": "The value read, in hexadecimal, 32 bits.",
  "machine.gpus[].links[].evidence.readAt": "When they were read, in ISO 8601.",
  "machine.gpus[].links[].origin": ORIGIN,
  "machine.gpus[].links[].assumed": "The far end or its link number is inferred and was not read from this machine.",
  "machine.gpus[].bridges": "Its NPU bridges by PCI address, in the order of ibm,npu.",
  "machine.gpus[].origin": ORIGIN,
  "machine.bridges": "NPU bridges: emulated PCI functions, one for each link's end at a POWER CPU.",
  "machine.bridges[].address": ADDRESS,
  "machine.bridges[].gpu": "Its GPU, by ibm,gpu.",
  "machine.bridges[].linkIndex": "ibm,npu-link-index: which link of its NPU it is.",
  "machine.bridges[].npu": "The NPU it belongs to, the same word for all its links.",
  "machine.bridges[].slotLabel": "ibm,slot-label: the slot of its GPU.",
  "machine.bridges[].groupId": "ibm,npu-group-id, 32 bits: which GPU of the NPU, counted from 0.",
  "machine.bridges[].brickId": "ibm,npu-brick-id, 32 bits.",
  "machine.bridges[].speed": "ibm,nvlink-speed, 32 bits: 3 is 20 Gb/s, 8 is 25.78125 Gb/s, 9 is 25 Gb/s a lane.",
  "machine.bridges[].atsd": "Address of the link's ATSD register page, in hexadecimal; absent where it has none.",
  "machine.bridges[].tgt":
    "Compressed address by which DMA over this link reaches the GPU's memory, in hexadecimal; where no bridge of a GPU has one, that of the memory counts.",
  "machine.bridges[].origin": ORIGIN,
  "machine.memory": "GPU memory as the CPU addresses it over NVLink2, at most one window for each GPU.",
  "machine.memory[].gpu": "PCI address of the GPU.",
  "machine.memory[].base": "First CPU address of the window, in hexadecimal.",
  "machine.memory[].size": "Size of the window in bytes, in hexadecimal; the memory behind it is smaller.",
  "machine.memory[].tgt":
    "ibm,device-tgt-addr: the compressed address by which the GPU's DMA reaches it, in hexadecimal.",
  "machine.memory[].origin": ORIGIN,
  "machine.assignments": "Who owns what; whatever is in none belongs to the host.",
  "machine.assignments[].name": "Name of the owner, each once; host is reserved.",
  "machine.assignments[].members": "PCI addresses of its functions.",
  "machine.unknown": "What the source did not say or could not be read.",
  "machine.unknown[].what": "What is not known.",
  "machine.unknown[].functions": "PCI addresses of the functions it is about.",
  "machine.unknown[].action": "What would tell.",
  "machine.unknown[].about": "Set where another source may answer it: the far ends of these GPUs' links.",
  "machine.disagreements": "Where two sources contradict each other about links.",
  "machine.disagreements[].gpus": "PCI addresses of the two GPUs.",
  "machine.disagreements[].reason": "What either source says.",
};

/** The schema of a capture file, each field with its description. */
export function captureFileSchema() {
  // What has no words in JSON Schema, such as that an address is canonical, is checked on reading only.
  const { $schema: _, ...schema } = toJsonSchema(captureSchema, {
    target: "draft-2020-12",
    typeMode: "input",
    errorMode: "ignore",
  });
  const unused = new Set(Object.keys(DESCRIPTIONS));
  describe(schema, "", unused);
  if (unused.size > 0) throw new Error(`described, but not in a capture: ${[...unused].join(", ")}`);
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: "capture-file.schema.json",
    title: "linkfence capture file",
    description:
      "A machine as `linkfence capture` and `linkfence fence --out` write it and `--capture` reads it. 64-bit numbers and registers are strings in hexadecimal.",
    ...schema,
  };
}

/** Gives every property below a schema its description, and takes its path from those not used yet. */
function describe(schema, path, unused) {
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const at = path === "" ? name : `${path}.${name}`;
    if (DESCRIPTIONS[at] === undefined) throw new Error(`the field ${at} of a capture has no description`);
    const described = { description: DESCRIPTIONS[at], ...property };
    schema.properties[name] = described;
    unused.delete(at);
    describe(described, at, unused);
  }
  if (typeof schema.items === "object") describe(schema.items, `${path}[]`, unused);
  // The converter leaves the length of a tuple open.
  if (schema.prefixItems) schema.minItems = schema.maxItems = schema.prefixItems.length;
  for (const branch of schema.anyOf ?? schema.oneOf ?? []) describe(branch, path, unused);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(SCHEMA_FILE, `${JSON.stringify(captureFileSchema(), null, 2)}\n`);
  const { status } = spawnSync(join(root, "node_modules/.bin/biome"), ["format", "--write", SCHEMA_FILE], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  process.exit(status ?? 1);
}
