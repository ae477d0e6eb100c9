import type { Steps } from "../vfio/steps.js";

/** Milliseconds after which one who waits looks whether its turn has come, when nothing else happens meanwhile. */
const LOOK_AGAIN = 2;

/**
 * Who may go at the same time and who may not. Everybody goes as soon as nobody who came earlier is in the way: the first
 * can always go, so there is no deadlock, and nobody is overtaken by those in whose way it is, so nobody starves.
 */
export class Turns<T> {
  readonly #collide: (a: T, b: T) => boolean;
  /** Those who go and those who wait, in order of arrival. */
  readonly #queue: T[][] = [];

  /** @param collide whether the two must not go at once; asked again and again, so its answers may change */
  constructor(collide: (a: T, b: T) => boolean) {
    this.#collide = collide;
  }

  /**
   * Does the work when it is the turn of all of `who`. The turn is given back when the work is over, when it throws, and
   * when the steps are cancelled, waiting or working.
   */
  *inTurn(who: readonly T[], work: () => Steps): Steps {
    const turn = [...who];
    this.#queue.push(turn);
    try {
      const isNext = () => this.#isNext(turn);
      while (!isNext()) yield { deadline: performance.now() + LOOK_AGAIN, done: isNext };
      yield* work();
    } finally {
      this.#queue.splice(this.#queue.indexOf(turn), 1);
    }
  }

  #isNext(turn: readonly T[]): boolean {
    for (const other of this.#queue) {
      if (other === turn) return true;
      if (turn.some((a) => other.some((b) => this.#collide(a, b)))) return false;
    }
    return true;
  }
}
