import type { Steps, Wait } from "../vfio/index.js";

interface Task {
  readonly steps: Steps;
  readonly owner: object;
  readonly onEnd: (error?: unknown) => void;
  wait: Wait | undefined;
  running: boolean;
  over: boolean;
}

/** Runs steps, each when what it waits for has come or its deadline has passed. */
export class TaskRunner {
  #tasks: Task[] = [];
  /** A task went on, and another may wait for what it did. */
  #progressed = false;

  get isIdle(): boolean {
    return this.#tasks.length === 0;
  }

  /**
   * Runs steps up to their first wait, the rest from {@link run}.
   * @param owner whose {@link cancel} ends them
   * @param onEnd called once when they have ended, with what they threw; not when they are cancelled
   */
  start(owner: object, steps: Steps, onEnd: (error?: unknown) => void): void {
    const task: Task = { steps, owner, onEnd, wait: undefined, running: false, over: false };
    this.#advance(task);
    if (!task.over) this.#tasks.push(task);
  }

  /** Ends an owner's tasks; their `finally` blocks run. */
  cancel(owner: object): void {
    for (const task of this.#tasks) {
      if (task.owner !== owner || task.over) continue;
      task.over = true;
      // One that cancels itself, by what it does, ends when it next waits.
      if (!task.running) endSteps(task.steps);
    }
    this.#tasks = this.#tasks.filter((task) => !task.over);
  }

  /** Continues every task that can go on. */
  run(): void {
    const now = performance.now();
    this.#progressed = false;
    for (const task of this.#tasks) {
      const { wait } = task;
      if (task.over || wait === undefined || !(now >= wait.deadline || wait.done?.() === true)) continue;
      this.#progressed = true;
      this.#advance(task);
    }
    this.#tasks = this.#tasks.filter((task) => !task.over);
  }

  /** Milliseconds until the next task has to go on, rounded up; -1 when none is there. */
  timeout(): number {
    if (this.#tasks.length === 0) return -1;
    if (this.#progressed && this.#tasks.some(({ wait }) => wait?.done !== undefined)) return 0;
    const next = this.#tasks.reduce(
      (least, { wait }) => Math.min(least, wait?.deadline ?? 0),
      Number.POSITIVE_INFINITY,
    );
    return Math.min(Math.max(0, Math.ceil(next - performance.now())), 2 ** 30);
  }

  #advance(task: Task): void {
    task.running = true;
    try {
      const result = task.steps.next();
      if (task.over) endSteps(task.steps);
      else if (result.done === true) this.#end(task);
      else task.wait = result.value;
    } catch (error) {
      // Whatever was thrown, it was no success.
      if (!task.over) this.#end(task, error ?? new Error("steps that threw nothing"));
    } finally {
      task.running = false;
    }
  }

  #end(task: Task, error?: unknown): void {
    task.over = true;
    task.onEnd(error);
  }
}

function endSteps(steps: Steps): void {
  try {
    steps.return();
  } catch {
    // Whoever cancels does not want to know why cleaning up failed.
  }
}
