import type { Edit } from "../patched_copy.js";

/** A mistake that somebody could make in the code of the fence, to see that it is found. */
export interface Bug {
  name: string;
  /** What is wrong then, for people. */
  what: string;
  /** Where it shows: a scenario's name, and how many faults it takes. */
  scenario: string;
  faults: number;
  /** In words of what is found. */
  finding: string;
  /** It takes longer to find than a test of every day may. */
  slow?: true;
  edits: readonly Edit[];
}

const FENCE = "src/fence/fence.ts";
const FENCES = "src/fence/fences.ts";
const DEVICE = "src/fence/fenced_device.ts";
const REGISTERS = "src/fence/registers.ts";
const RESET_AND_CUT = "src/fence/reset_and_cut.ts";
const GV100 = "src/fence/gv100.ts";
const PLAN = "src/isolation/plan.ts";
const PART = "src/machine/part.ts";

export const BUGS: readonly Bug[] = [
  {
    name: "reply-before-read-back",
    what: "a reset is answered before the links were read back as cut",
    scenario: "two",
    faults: 1,
    finding: "is in force, but link [\\d, ]+ is not cut",
    slow: true,
    edits: [
      {
        file: GV100,
        find: "  if (missing === 0 && foreign === 0) return;",
        replace: "  if (missing !== -1 || foreign !== 0) return;",
      },
      {
        file: FENCE,
        find: "    const reading = this.#read();\n    const open = this.#openIn(reading);\n    if (open !== undefined) throw new FenceError",
        replace:
          "    const cut = this.#plan.cutLinks;\n    const snapshot = { disableMask: this.#plan.disableMask, cut, linksUp: [] };\n" +
          '    const evidence = { registers: [], readAt: "" };\n' +
          "    const reading: GpuReading = { readable: true, snapshot, evidence } as never;\n    const open = undefined;\n" +
          "    if (open !== undefined) throw new FenceError",
      },
    ],
  },
  {
    name: "one-end-only",
    what: "links are cut at the first GPU's end only",
    scenario: "two",
    faults: 1,
    finding: "link 0 of GPU0 to GPU1 is not cut",
    slow: true,
    edits: [
      {
        file: PLAN,
        find: "    return planGpu(gpu, assignment, keeps, busy || !canCut(gpu));",
        replace:
          "    const whole = planGpu(gpu, assignment, keeps, busy || !canCut(gpu));\n" +
          "    return gpu === machine.gpus[0] ? whole : { ...whole, cutLinks: [], disableMask: 0 };",
      },
      {
        file: FENCE,
        find: "    const open = links.filter((link) => !cut.has(link) || up.has(link));",
        replace: "    const open = links.filter((link) => up.has(link));",
      },
      {
        file: FENCES,
        find: '    invariant(opened.length === 0, opened.join("; "));',
        replace: '    if (opened.length < 0) invariant(false, opened.join("; "));',
      },
    ],
  },
  {
    name: "far-end-not-first",
    what: "a GPU is reset without its far ends being read back as cut",
    scenario: "two",
    faults: 1,
    finding: "a reset of GPU[01] would open link 0",
    slow: true,
    edits: [
      {
        file: FENCE,
        find: "    const proven = new Map(farEnds.map(({ fence, links }) => [fence, proveFarEnd(fence, links)]));\n    this.#around.requireFarEnds(this, proven, besides);",
        replace: "    if (farEnds.length < 0) throw new Error(String(proveFarEnd));",
      },
    ],
  },
  {
    name: "0xbadf-as-mask",
    what: "what a register answers that cannot be reached is taken for its value",
    scenario: "bridges",
    faults: 1,
    finding: "is in force, but link [\\d, ]+ is not cut",
    slow: true,
    edits: [
      {
        file: REGISTERS,
        find: "  if (isReadable(value)) return value;",
        replace: "  if (isReadable(value) || value !== 0) return value;",
      },
      {
        file: PART,
        find: "export function isReadable(value: number): boolean {",
        replace: "export function isReadable(value: number): boolean {\n  if (value >>> 16 === 0xbadf) return true;",
      },
    ],
  },
  {
    name: "restore-after-decode",
    what: "after a reset the links are to be cut before BAR0 has its address again",
    scenario: "two",
    faults: 0,
    finding: "BAR0 has no address",
    edits: [
      {
        file: RESET_AND_CUT,
        find: '      onStep("restore");\n      restoreConfig(port, saved);\n      onStep("sequence");\n      strategy.cut(port, links());',
        replace:
          '      onStep("sequence");\n      strategy.cut(port, links());\n      onStep("restore");\n      restoreConfig(port, saved);',
      },
    ],
  },
  {
    name: "skip-on-disconnect",
    what: "a GPU is not reset when its client has gone",
    scenario: "two",
    faults: 0,
    finding: "was not ended by a reset",
    edits: [
      {
        file: DEVICE,
        find: "      yield* this.#renew();\n      this.#fence.attached = false;",
        replace: "      this.#fence.attached = false;",
      },
    ],
  },
  {
    name: "no-turns",
    what: "two GPUs that share a link are reset at the same time",
    scenario: "two",
    faults: 0,
    finding: "is not being reset while another relies on it",
    slow: true,
    edits: [
      {
        file: FENCES,
        find: "    return relies(a, b) || relies(b, a);",
        replace: "    return relies(a, b) && relies(b, a) && a === b;",
      },
    ],
  },
  {
    name: "look-and-leave",
    what: "a GPU that somebody else has reset is seen, and not cut again",
    scenario: "two",
    faults: 1,
    finding: "is in force, but link [\\d, ]+ is not cut",
    slow: true,
    edits: [
      {
        file: FENCE,
        find: '    if (this.#state.kind !== "in force" || this.#isAsRead(this.#state.evidence)) return false;',
        replace:
          '    if (this.#state.kind === "in force" || this.#isAsRead({ registers: [], readAt: "" })) return false;',
      },
    ],
  },
  {
    name: "handed-over-uncut",
    what: "a GPU gets another owner without its links being cut first",
    scenario: "reassigned",
    faults: 0,
    finding: "is in force, but link 0 is not cut",
    slow: true,
    edits: [
      {
        file: FENCE,
        find: "      if (!renewing && !plan.untouched) this.#cutBy(plan);",
        replace: "      if (renewing && plan.untouched) this.#cutBy(plan);",
      },
    ],
  },
];
