import assert from "node:assert/strict";
import { test } from "node:test";
import { BUGS } from "./bugs.js";
import { explorePatched } from "./explore_patched.js";

const SECONDS = 100;

// The others take longer: `npm run explore -- --bug all` has them all.
for (const bug of BUGS.filter(({ slow }) => slow !== true)) {
  test(`the explorer finds that ${bug.what}, by a shortest way`, () => {
    const { status, output } = explorePatched(bug, SECONDS);
    assert.equal(status, 1, output);
    assert.match(output, /BROKEN in \d+ steps?, and in no fewer:/);
    assert.match(output, new RegExp(`^ {2}!! .*${bug.finding}`, "m"));
  });
}
