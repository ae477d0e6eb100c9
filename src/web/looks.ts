import type { ServerStatus } from "../cli/serve/server_status.js";
import { statusJson } from "../cli/serve/serving_json.js";
import { reasonOf } from "../fence/error.js";
import type { Machine } from "../machine/machine.js";
import { seenMachine } from "./seen_machine.js";
import type { PageState } from "./snapshot.js";
import { snippetsOf } from "./snippets.js";
import type { Watched } from "./watched.js";

/** What was seen at one moment. */
export interface Look {
  /** The machine with what its registers said. */
  machine: Machine;
  status: ServerStatus;
  /** The same as the page has it. */
  state: PageState;
  /** Another number as soon as anything but the time of reading is different from the look before. */
  version: number;
}

/** Nobody knows what is now. */
export class BlindError extends Error {
  readonly code = "EBLIND";
  constructor(why: string) {
    super(`what is fenced at this moment is not known: ${why}`);
    this.name = "BlindError";
  }
}

/** From the beginning of one look to that of the next, in milliseconds: looking takes time from whoever is served. */
const LOOK_PAUSE = 50;
/** A look that takes longer, in milliseconds, is none. */
const LOOK_PATIENCE = 10_000;

/** Looks at the hardware for all who ask, however many: one look at a time, and none right after the other. */
export class Looks {
  readonly #watched: Watched;
  readonly #patience: number;
  /** Under way. */
  #current: Promise<Look> | undefined;
  /** Has not begun yet, so it will do for all who ask meanwhile. */
  #next: Promise<Look> | undefined;
  #began = Number.NEGATIVE_INFINITY;
  #text = "";
  #version = 0;

  /** @param patience in milliseconds */
  constructor(watched: Watched, { patience = LOOK_PATIENCE } = {}) {
    this.#watched = watched;
    this.#patience = patience;
  }

  /**
   * A look that begins after this call. Who asks before it has begun has the same promise.
   * @throws BlindError when the server cannot be looked at, or does not answer in time
   */
  next(): Promise<Look> {
    this.#next ??= inTime(this.#takeTurn(), this.#patience);
    return this.#next;
  }

  async #takeTurn(): Promise<Look> {
    await this.#current?.catch(() => {});
    const wait = this.#began + LOOK_PAUSE - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    this.#next = undefined;
    this.#began = performance.now();
    this.#current = this.#look();
    return this.#current;
  }

  async #look(): Promise<Look> {
    try {
      const [status, seen] = await Promise.all([this.#watched.status(), this.#watched.seen()]);
      const state = { status: statusJson(status), ...seen, snippets: snippetsOf(status) };
      const text = JSON.stringify(state, (key, value) => (key === "readAt" ? undefined : value));
      if (text !== this.#text) this.#version++;
      this.#text = text;
      return { machine: seenMachine(this.#watched.machine, seen), status, state, version: this.#version };
    } catch (error) {
      throw new BlindError(reasonOf(error));
    }
  }
}

/** Whoever waits longer is told so; the look itself goes on, and none is begun before it has ended. */
function inTime<Value>(work: Promise<Value>, patience: number): Promise<Value> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new BlindError(`the server has not answered for ${patience / 1000} seconds`));
    const timer = setTimeout(late, patience).unref();
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
