import assert from "node:assert/strict";
import { test } from "node:test";
import { browserForTests } from "./browser.js";
import { distribution } from "./distribution.js";
import { largePage, pageLoads, smallPage } from "./page_loads.js";

const LOADS = 10;

const newPage = browserForTests();

// The fastest: what else a machine does makes a page slower, never faster.
for (const { what, serve, most } of [
  { what: "the page", serve: smallPage, most: 300 },
  { what: "the page of 72 GPUs, with their picture", serve: largePage, most: 1000 },
]) {
  test(`${what} is there in ${most} ms`, async (t) => {
    const { least, words } = distribution(await pageLoads(newPage, await serve(t), LOADS));
    t.diagnostic(`ready after: ${words}`);
    assert.ok(least < most, words);
  });
}
