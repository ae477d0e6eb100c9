import { machineFromLspci } from "../../../../src/machine/from_lspci.js";
import { LspciError } from "../../../../src/pci/lspci.js";
import type { Random } from "../../random.js";
import { inputFile, useMachine } from "../commands.js";
import { BYTE_MUTATIONS, TEXT_MUTATIONS } from "../mutation.js";
import { samples } from "../samples.js";
import { type MakeTarget, readOrRefused } from "../target.js";

/** The other spellings of a device line, and what surrounds listings. */
const SPELLINGS = `0000:0d:00.0 "3D controller [0302]" "NVIDIA Corporation [10de]" "GV100GL [1db1]" -ra1 -p00 "" ""
Slot:	0004:04:00.0
Class:	3D controller [0302]
Vendor:	NVIDIA Corporation [10de]
Device:	GV100GL [Tesla V100 SXM2] [1db1]
SVendor:	NVIDIA Corporation [10de]
SDevice:	Device [1212]
PhySlot:	3
Rev:	a1
ProgIf:	00
Driver:	vfio-pci
Module:	nvidia
NUMANode:	1
IOMMUGroup:	12

0000:00:1c.0/02:00.0/03:08.0 0302: 10de:1db1 (rev a1)
01:00.0 Class 0604: 1014:04c1
\t[virtual] Region 1: Memory at 6200000000 (64-bit, prefetchable) [disabled] [size=16G]
-+-[0000:00]-+-00.0
> [code]0035:03:00.0 3D controller: NVIDIA Corporation GV100 [Tesla V100 SXM2] (rev a1)[/code]
\tRegion 0: Memory at <unassigned> (32-bit, non-prefetchable)
\tCapabilities: <access denied>
\tIOMMU group: 3
`;

/** Text of lspci, and the machines that are made of it. */
export const makeTarget: MakeTarget = (directory) => ({
  modules: ["/src/pci/", "/src/machine/from_lspci", "/src/machine/gpu_part"],
  seeds: () => [...pieces(), Buffer.from(SPELLINGS)],
  mutations: [...BYTE_MUTATIONS, ...TEXT_MUTATIONS, ...TEXT_MUTATIONS],
  grown,
  async run(input, use) {
    const text = Buffer.from(input).toString("utf8");
    const machine = readOrRefused(() => machineFromLspci(text, "lspci text input"), LspciError);
    if (machine === undefined) return false;
    await useMachine(machine, () => ({ lspci: inputFile(directory, input) }), use);
    return true;
  },
});

/** The samples, the long ones cut between functions: whole they would be slow to work with. */
function pieces(): Uint8Array[] {
  return samples("lspci").flatMap((bytes) => {
    const records = Buffer.from(bytes).toString("utf8").split("\n\n");
    const count = Math.ceil(bytes.length / 4096);
    const size = Math.ceil(records.length / count);
    return Array.from({ length: count }, (_, at) =>
      Buffer.from(records.slice(at * size, (at + 1) * size).join("\n\n")),
    );
  });
}

/** The listing of a carrier again and again, in other domains. */
function grown(random: Random, size: number): Uint8Array {
  const listing = Buffer.from(samples("lspci")[1] ?? []).toString("utf8");
  const copies = Math.ceil(size / listing.length);
  const shown = Array.from({ length: copies }, (_, copy) => {
    const domain = (0x1000 + copy).toString(16);
    return listing.replace(/^(?:[0-9a-f]{4}:)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) /gim, `${domain}:$1 `);
  });
  return Buffer.from(random.once(4) ? listing.repeat(copies) : shown.join("\n"));
}
