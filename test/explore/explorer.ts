import { createHash } from "node:crypto";
import { isFault, type Step } from "./step.js";
import { type Scenario, World } from "./world.js";

/** A state, by the way that leads to it. */
interface Node {
  parent: Node | undefined;
  step: Step | undefined;
}

/** What an exploration came to. */
export interface Exploration {
  /** Different states, the first included. */
  states: number;
  /** Steps from one state to another. */
  transitions: number;
  /** Moments in which everything was looked at. */
  moments: number;
  /** The longest of the shortest ways to a state, in steps. */
  depth: number;
  /** All states that there are were seen: nothing stopped it before. */
  complete: boolean;
  /** A shortest way to something broken. */
  found: { path: Step[]; findings: string[] } | undefined;
}

export interface Limits {
  /** Ends when so many milliseconds have passed. */
  milliseconds: number;
  onProgress?: (soFar: Exploration, waiting: number) => void;
}

/** How often progress is told, in milliseconds. */
const TELL = 2000;

/**
 * Goes every way that there is, shortest first, to every state that differs in anything that may matter, and looks at
 * every moment on the way. The code of a fence cannot be copied in the midst of what it does, so a state is reached by
 * taking all steps to it again.
 */
export function explore(scenario: Scenario, limits: Limits): Exploration {
  const known = new Set<string>();
  const soFar: Exploration = { states: 1, transitions: 0, moments: 0, depth: 0, complete: false, found: undefined };
  known.add(digest(new World(scenario)));
  const end = performance.now() + limits.milliseconds;
  let tell = performance.now() + TELL;
  for (let layer: Node[] = [{ parent: undefined, step: undefined }]; layer.length > 0; soFar.depth++) {
    const next: Node[] = [];
    for (const node of layer) {
      const path = pathTo(node);
      const todo: Step[] = replay(scenario, path).actions;
      for (let step = todo.pop(); step !== undefined; step = todo.pop()) {
        const world = replay(scenario, path);
        const accesses = world.take(step);
        // What may go wrong within a step is known when it has gone well.
        if (!isFault(step)) for (const deviation of world.deviations(accesses)) todo.push({ ...step, deviation });
        soFar.transitions++;
        soFar.moments += world.judge.moments;
        if (world.judge.findings.length > 0) {
          soFar.found = { path: [...path, step], findings: world.judge.findings };
          return soFar;
        }
        const state = digest(world);
        if (known.has(state)) continue;
        known.add(state);
        soFar.states++;
        next.push({ parent: node, step });
      }
      if (performance.now() >= end) return soFar;
      if (performance.now() < tell) continue;
      tell = performance.now() + TELL;
      limits.onProgress?.(soFar, next.length);
    }
    layer = next;
  }
  soFar.complete = true;
  return soFar;
}

/** The world after these steps. */
export function replay(scenario: Scenario, path: readonly Step[]): World {
  const world = new World(scenario);
  world.judge.muted = true;
  for (const step of path) world.take(step);
  world.judge.muted = false;
  return world;
}

function pathTo(node: Node): Step[] {
  const path: Step[] = [];
  for (let at: Node | undefined = node; at?.step !== undefined; at = at.parent) path.push(at.step);
  return path.reverse();
}

function digest(world: World): string {
  return createHash("sha1").update(world.fingerprint).digest("base64");
}
