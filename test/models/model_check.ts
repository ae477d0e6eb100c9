import assert from "node:assert/strict";
import fc from "fast-check";
import { builtinMachine } from "../../src/machine/builtin.js";
import type { Machine } from "../../src/machine/machine.js";
import type { PciAddress } from "../../src/pci/address.js";
import type { Step } from "../explore/step.js";
import { traceLines } from "../explore/trace.js";
import { type Scenario, World } from "../explore/world.js";
import { expectedOf, sharings } from "./model.js";
import { commands, type NoModel, settle } from "./world_command.js";

/** The machines: six GPUs behind NPU bridges, and eight without. */
export const MACHINES = ["sequoia", "dgx1v"] as const;

export interface ModelCheck {
  machine: string;
  seed: number;
  /** Runs at most. */
  runs: number;
  /** As a finding says, to have only that again. */
  path?: string;
  replayPath?: string;
}

/** What was found, and how to have it again. */
export interface ModelFinding {
  /** What is wrong, and the fewest steps that lead there. */
  message: string;
  seed: number;
  path: string;
  replayPath: string;
}

/** How long fewer steps are looked for that lead to the same, in milliseconds. */
const SHRINKING = 60_000;

/**
 * Random steps of many clients, servers and faults on a machine of many GPUs, against what its wiring says.
 * @returns undefined when nothing was found
 */
export function checkModel({ machine, seed, runs, path, replayPath }: ModelCheck): ModelFinding | undefined {
  const scenario = scenarioOf(builtinMachine(machine));
  const size = { size: "+1" as const, maxCommands: 80, ...(replayPath !== undefined && { replayPath }) };
  const first = fc.nat(sharings(scenario.machine).length - 1);
  const property = fc.property(first, fc.commands(commands(), size), (sharing, steps) => {
    const world = new World(rotated(scenario, sharing));
    world.take({ kind: "restart" });
    fc.modelRun(() => ({ model: {}, real: world }), steps);
    recover(world);
  });
  const options = { seed, numRuns: runs, interruptAfterTimeLimit: SHRINKING, ...(path !== undefined && { path }) };
  const details = fc.check(property, options);
  if (details.counterexample === null) return undefined;
  const [sharing, steps] = details.counterexample;
  const cause = details.errorInstance instanceof Error ? details.errorInstance.message : String(details.errorInstance);
  const [words, again] = String(steps).split(/ \/\*replayPath="|"\*\//);
  const trace = [...traceLines(rotated(scenario, sharing), stepsOf(rotated(scenario, sharing), steps))].join("\n");
  const message = `${cause}\nafter: sharing ${sharing}; ${words}\n${trace}`;
  return { message, seed: details.seed, path: details.counterexamplePath ?? "", replayPath: again ?? "" };
}

/** The steps that commands came to, up to what was found. */
function stepsOf(scenario: Scenario, commands: Iterable<fc.Command<NoModel, World>>): Step[] {
  const world = new World(scenario);
  world.take({ kind: "restart" });
  try {
    fc.modelRun(() => ({ model: {}, real: world }), commands);
    recover(world);
  } catch {
    // Known already.
  }
  return world.steps;
}

function scenarioOf(machine: Machine): Scenario {
  return {
    name: machine.name,
    machine,
    assignments: sharings(machine),
    faults: Number.POSITIVE_INFINITY,
    touches: ["clears the disable bits", "sets all disable bits", "stops the NVLink engine", "stops decoding"],
  };
}

function rotated(scenario: Scenario, first: number): Scenario {
  const { assignments } = scenario;
  return { ...scenario, assignments: [...assignments.slice(first), ...assignments.slice(0, first)] };
}

/** When everything that went wrong has passed, every GPU is as its owners and the wiring say, and can be had. */
function recover(world: World): void {
  settle(world);
  if (world.actionsOf("restart").length > 0) world.take({ kind: "restart" });
  settle(world);
  // A server that finds a GPU without addresses, which only firmware can give back, cannot fence it, nor what is linked.
  if (world.lostAddresses) return;
  for (let round = 0; round < 2; round++) {
    for (const action of world.actions)
      if (action.kind === "connect" || action.kind === "ask reset") take(world, action.kind, action.gpu);
    settle(world);
  }
  for (const { address, name } of world.scenario.machine.gpus) {
    const expected = expectedOf(world.scenario.machine, world.assignments, address);
    const owned = world.assignments.some(({ members }) => members.includes(address));
    const cut = world.hardware.cutAt(address);
    assert.deepEqual(
      [...expected.cut].filter((link) => !cut.has(link)),
      [],
      `${name} is not cut where it has to be`,
    );
    // What the host has is not reset for its own sake, so its links may stay cut.
    if (owned)
      assert.deepEqual(
        [...expected.kept].filter((link) => cut.has(link)),
        [],
        `${name} is cut where its owner has both ends`,
      );
    if (owned) assert.equal(world.stateOf(address), "in force", `${name} can be had again`);
  }
}

function take(world: World, kind: "connect" | "ask reset", gpu: PciAddress): void {
  // What one client does may be in the way of the next.
  if (world.actionsOf(kind).some((action) => "gpu" in action && action.gpu === gpu)) world.take({ kind, gpu });
  assert.deepEqual(world.judge.findings, []);
}
