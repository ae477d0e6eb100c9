import fc from "fast-check";
import type { Deviation } from "../explore/fault.js";
import type { Action, Step } from "../explore/step.js";
import type { World } from "../explore/world.js";

/** fast-check's commands ask for a model of their own; what is expected here follows from the world's assignments. */
export type NoModel = Record<string, never>;

/**
 * One step, if it can be taken at this moment: numbers are counted round among what there is, so that a shrunk command
 * still does something.
 */
export class WorldCommand implements fc.Command<NoModel, World> {
  constructor(
    readonly kind: Action["kind"],
    readonly at: number,
    readonly deviation: Deviation | undefined,
  ) {}

  check(): boolean {
    return true;
  }

  run(_: NoModel, world: World): void {
    const possible = world.actionsOf(this.kind);
    const action = possible[this.at % Math.max(1, possible.length)];
    if (action === undefined) return;
    const step: Step = this.deviation === undefined ? action : { ...action, deviation: this.deviation };
    world.take(step);
    if (world.judge.findings.length > 0) throw new Error(world.judge.findings.join("\n"));
  }

  toString(): string {
    const fault = this.deviation === undefined ? "" : `, ${this.deviation.fault} at access ${this.deviation.at}`;
    return `${this.kind} (${this.at}${fault})`;
  }
}

/** How often each kind of step comes. What ends something comes most often, or nothing would. */
const WEIGHTS: readonly [Action["kind"], number][] = [
  ["restart", 2],
  ["connect", 6],
  ["ask reset", 4],
  ["die", 3],
  ["touch", 3],
  ["reset ends", 10],
  ["go on", 10],
  ["time out", 1],
  ["outside reset", 1],
  ["look", 2],
  ["assign", 2],
  ["kill", 1],
];

const MOST_ACCESSES = 120;

/** Commands, most without anything that goes wrong within them. */
export function commands(): fc.Arbitrary<WorldCommand>[] {
  const fault = fc.constantFrom<Deviation["fault"]>("all ones", "0xBADF", "lost", "kill");
  const deviation = fc.option(fc.record({ at: fc.nat(MOST_ACCESSES), fault }), { freq: 12, nil: undefined });
  return WEIGHTS.flatMap(([kind, weight]) => {
    const command = fc.tuple(fc.nat(63), deviation).map(([at, what]) => new WorldCommand(kind, at, what));
    return Array.from({ length: weight }, () => command);
  });
}

/** Lets everything that goes on come to its end, with nothing that goes wrong. @throws when there is no end */
export function settle(world: World): void {
  for (let steps = 0; steps < 2000; steps++) {
    const next =
      world.actionsOf("reset ends").find((action) => "fails" in action && !action.fails) ??
      world.actionsOf("go on")[0] ??
      world.actionsOf("look")[0];
    if (next === undefined) return;
    world.take(next);
    if (world.judge.findings.length > 0) throw new Error(world.judge.findings.join("\n"));
  }
  throw new Error("it does not come to an end");
}
