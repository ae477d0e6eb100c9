import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { launchBrowser } from "./browser.js";
import { distribution } from "./distribution.js";
import { largePage, pageLoads, smallPage } from "./page_loads.js";

const LOADS = 10;

let browser: Browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser.close());

// The fastest: what else a machine does makes a page slower, never faster.
for (const { what, serve, most } of [
  { what: "the page", serve: smallPage, most: 300 },
  { what: "the page of 72 GPUs, with their picture", serve: largePage, most: 1000 },
]) {
  test(`${what} is there in ${most} ms`, async (t) => {
    const { least, words } = distribution(await pageLoads(browser, await serve(t), LOADS));
    t.diagnostic(`ready after: ${words}`);
    assert.ok(least < most, words);
  });
}
