import type { Assignment, Bridge, FarEnd, Gpu, Machine, Part } from "../../src/machine/machine.js";
import { gpu, machineOf, made, to } from "../made_up_machine.js";
import type { Touch } from "./step.js";
import type { Scenario } from "./world.js";

/** A scenario with what a person wants to know of it. */
export interface ExploredScenario extends Scenario {
  what: string;
  /** Seen whole in a minute or so. */
  daily: boolean;
}

const A = "0001:01:00.0";
const B = "0002:01:00.0";
const C = "0003:01:00.0";
const NPU_A = "0006:00:00.0";
const NPU_B = "0006:00:01.0";

const NONE: FarEnd = { kind: "none" };

const TOUCHES: readonly Touch[] = ["clears the disable bits", "stops the NVLink engine", "stops decoding"];

/** Two GPUs with a link between them. */
function two(part: Part): Machine {
  return machineOf([gpu(A, "GPU0", [to(B, 0)], part), gpu(B, "GPU1", [to(A, 0)], part)]);
}

/**
 * The same with a link each to a bridge of an NPU, which freezes when it is not told of a reset. The link that stays up is
 * the last one: an error of the priv ring would read as a mask that cuts all others.
 */
function twoWithBridges(): Machine {
  const bridge = (address: string, of: string): Bridge => ({
    address,
    npu: "npu0",
    linkIndex: 0,
    gpu: of,
    origin: "wiring",
  });
  const withBridge = (one: Gpu, address: string): Gpu => ({ ...one, bridges: [address] });
  const gpus = [
    withBridge(gpu(A, "GPU0", [to(B, 0), NONE, NONE, NONE, NONE, { kind: "bridge", bridge: NPU_A }]), NPU_A),
    withBridge(gpu(B, "GPU1", [to(A, 0), NONE, NONE, NONE, NONE, { kind: "bridge", bridge: NPU_B }]), NPU_B),
  ];
  const machine = machineOf(gpus, { platform: "powernv", bridges: [bridge(NPU_A, A), bridge(NPU_B, B)] });
  return { ...machine, functions: [...machine.functions, made(NPU_A), made(NPU_B)] };
}

/** Three, each linked with each. */
function three(part: Part): Machine {
  const far = (one: string, at: number, other: string, there: number): FarEnd[] => [to(one, at), to(other, there)];
  return machineOf([
    gpu(A, "GPU0", far(B, 0, C, 0), part),
    gpu(B, "GPU1", far(A, 0, C, 1), part),
    gpu(C, "GPU2", far(A, 1, B, 1), part),
  ]);
}

/** The first owner is `a`, and so on. */
function assigned(...owners: string[][]): Assignment[] {
  return owners.map((members, index) => ({ name: ["a", "b", "c"][index] ?? "", members }));
}

const APART = assigned([A], [B]);

/** What is explored. `faults` is what a run takes by itself; every one of them may be asked for with more. */
export const SCENARIOS: readonly ExploredScenario[] = [
  {
    name: "two",
    what: "two V100s with an owner each, every interleaving of what clients, server and surroundings do",
    daily: true,
    machine: two("GV100"),
    assignments: [APART],
    faults: 1,
    touches: [],
  },
  {
    name: "touched",
    what: "the same with hostile clients that write to registers that cut links, stop the NVLink engine and decoding",
    daily: true,
    machine: two("GV100"),
    assignments: [APART],
    faults: 0,
    touches: TOUCHES,
  },
  {
    name: "reassigned",
    what: "two V100s that go from an owner each to one owner and back while clients come and go",
    daily: true,
    machine: two("GV100"),
    assignments: [APART, assigned([A, B])],
    faults: 0,
    touches: [],
  },
  {
    name: "bridges",
    what: "two V100s with a link each to an NPU bridge that freezes when it is not told of a reset",
    daily: true,
    machine: twoWithBridges(),
    assignments: [APART],
    faults: 0,
    touches: [],
  },
  {
    name: "ga100",
    what: "two A100s with an owner each",
    daily: true,
    machine: two("GA100"),
    assignments: [APART],
    faults: 0,
    touches: [],
  },
  {
    name: "three",
    what: "three V100s, each linked with each, with an owner each",
    daily: false,
    machine: three("GV100"),
    assignments: [assigned([A], [B], [C])],
    faults: 0,
    touches: [],
  },
  {
    name: "three-reassigned",
    what: "three V100s of three owners of whom one gives his to another, and back",
    daily: false,
    machine: three("GV100"),
    assignments: [assigned([A], [B], [C]), assigned([A, C], [B])],
    faults: 0,
    touches: [],
  },
];
