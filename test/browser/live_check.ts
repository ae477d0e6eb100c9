import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { VfioUserClient } from "../../src/vfio-user/index.js";
import { browserForTests } from "./browser.js";
import { distribution } from "./distribution.js";
import { openPage, servePage, socketOf } from "./served_page.js";

const RESETS = 20;
/** How the page says that a reset is over. */
const OVER = "reset and fenced";
/** From the end of a reset, as its client sees it, until the page shows it, in milliseconds. */
const MOST = 200;

const newPage = browserForTests();

// The median: one that a busy machine has delayed says nothing of the page.
test(`a reset is in the page ${MOST} ms after its client has its answer`, async (t) => {
  const served = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
  const { page, errors } = await newPage();
  await openPage(page, served.url);
  const client = new VfioUserClient(socketOf(served, "GPU2"));
  t.after(() => client.close());
  await watch(page);
  const delays: number[] = [];
  for (let reset = 0; reset < RESETS; reset++) {
    client.reset();
    const ended = Date.now();
    delays.push((await resetsShown(page, reset + 2)) - ended);
  }
  const { median, words } = distribution(delays);
  t.diagnostic(`shown after the client's answer: ${words}`);
  assert.ok(median < MOST, words);
  assert.deepEqual(errors, []);
});

/** What {@link watch} leaves in the page: when it showed so many, by `Date.now()`. */
interface Watching {
  shownAt: number[];
}

/** Counts the resets of which the page says that they are over, each time that it draws something new. */
async function watch(page: Page): Promise<void> {
  await page.evaluate((over) => {
    const shownAt: number[] = [];
    Object.assign(window, { shownAt });
    const look = { subtree: true, childList: true, characterData: true };
    new MutationObserver(() =>
      requestAnimationFrame(() => {
        const rows = [...document.querySelectorAll("#timeline tbody tr")];
        shownAt[rows.filter(({ textContent }) => textContent.includes(over)).length] ??= Date.now();
      }),
    ).observe(document.body, look);
  }, OVER);
}

/** Waits until so many are shown. @returns when that was */
async function resetsShown(page: Page, resets: number): Promise<number> {
  const shown = await page.waitForFunction((count) => (window as unknown as Watching).shownAt[count], resets);
  return Number(await shown.jsonValue());
}
