import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { runToEnd, type Steps, withinTime } from "../vfio/steps.js";
import { sideBySide } from "./side_by_side.js";
import { Turns } from "./turns.js";

/** Works for some waits, and tells when it is at it. */
function* working(who: string, waits: number, at: Set<string>): Steps {
  at.add(who);
  try {
    for (let i = 0; i < waits; i++) yield { deadline: 0 };
  } finally {
    at.delete(who);
  }
}

test("neighbours never go at once, nobody waits for a stranger, and everybody gets a turn in order of arrival", () => {
  const arrivals = fc.array(fc.record({ who: fc.nat(5), waits: fc.nat(4), cancelAfter: fc.option(fc.nat(6)) }), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(arrivals, fc.array(fc.nat(19), { maxLength: 60 }), (jobs, order) => {
      const collide = (a: string, b: string) => Math.abs(Number(a.split(".")[0]) - Number(b.split(".")[0])) <= 1;
      const turns = new Turns<string>(collide);
      const at = new Set<string>();
      const begun: string[] = [];
      const running = jobs.map(({ who, waits, cancelAfter }, i) => {
        const name = `${who}.${i}`;
        const work = () => {
          for (const other of at) assert.equal(collide(name, other), false, `${name} beside ${other}`);
          begun.push(name);
          return working(name, waits, at);
        };
        return { steps: turns.inTurn([name], work), left: cancelAfter ?? Number.POSITIVE_INFINITY, over: false };
      });
      const advance = (job: (typeof running)[number]) => {
        if (job.over) return;
        if (job.left-- <= 0) {
          job.steps.return();
          job.over = true;
        } else job.over = job.steps.next().done === true;
      };
      // All arrive in order before any goes on.
      for (const job of running) advance(job);
      for (const i of order) {
        const job = running[i];
        if (job !== undefined) advance(job);
      }
      for (let rounds = 0; running.some((job) => !job.over); rounds++) {
        assert.ok(rounds < 200, "somebody waits for ever");
        for (const job of running) advance(job);
      }
      assert.equal(at.size, 0);
      begun.forEach((name, i) => {
        const earlier = begun.slice(0, i).filter((other) => collide(name, other));
        const overtaken = earlier.filter((other) => Number(other.split(".")[1]) > Number(name.split(".")[1]));
        assert.deepEqual(overtaken, [], "somebody was overtaken by a neighbour");
      });
    }),
    { numRuns: 200, seed: 11 },
  );
});

test("work that throws, or is cancelled, gives its turn back", () => {
  const turns = new Turns<string>(() => true);
  const failing = () => {
    throw new Error("no");
  };
  assert.throws(() => runToEnd(turns.inTurn(["a"], failing)), /no/);
  const cancelled = turns.inTurn(["b"], () => working("b", 1, new Set()));
  cancelled.next();
  cancelled.return();
  // A turn that was lost would be waited for without end.
  runToEnd(
    withinTime(
      turns.inTurn(["c"], () => working("c", 1, new Set())),
      1000,
    ),
  );
});

test("steps side by side take the time of the longest, all end though one throws, and all are cancelled together", () => {
  const at = new Set<string>();
  let [asleep, most] = [0, 0];
  function* sleeping(milliseconds: number): Steps {
    most = Math.max(most, ++asleep);
    yield { deadline: performance.now() + milliseconds };
    asleep--;
  }
  const begun = performance.now();
  runToEnd(sideBySide([30, 10, 30, 20].map(sleeping)));
  const took = performance.now() - begun;
  assert.ok(took >= 30, `${took} ms`);
  assert.deepEqual([asleep, most], [0, 4]);
  function* failing(): Steps {
    yield { deadline: 0 };
    throw new Error("one of them");
  }
  let ended = false;
  function* last(): Steps {
    yield* sleeping(5);
    ended = true;
  }
  assert.throws(() => runToEnd(sideBySide([failing(), last()])), /one of them/);
  assert.equal(ended, true);
  const all = sideBySide([working("a", 9, at), working("b", 9, at)]);
  // Their waits are over at once, so one that is not keeps all from running through.
  const waiting = sideBySide([sleeping(1e6), working("c", 1, at), sideBySide([sleeping(1e6)])]);
  waiting.next();
  waiting.return();
  runToEnd(all);
  assert.equal(at.size, 0);
  runToEnd(sideBySide([]));
});
