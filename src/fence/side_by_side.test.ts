import assert from "node:assert/strict";
import { test } from "node:test";
import type { Steps } from "../vfio/steps.js";
import { sideBySide } from "./side_by_side.js";

test("steps that can always go on let whoever runs them have a turn after each round", () => {
  let rounds = 0;
  const busy = function* (): Steps {
    for (;;) {
      rounds++;
      yield { deadline: 0 };
    }
  };
  const steps = sideBySide([busy(), busy()]);
  for (let turn = 1; turn <= 3; turn++) {
    assert.equal(steps.next().done, false);
    assert.equal(rounds, 2 * turn);
  }
  steps.return();
});
