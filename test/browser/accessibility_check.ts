import assert from "node:assert/strict";
import { test } from "node:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { builtinMachine } from "../../src/machine/builtin.js";
import { resetsOf, snapshotOf } from "../made_up_state.js";
import { assertAccessible } from "./axe.js";
import { browserForTests } from "./browser.js";
import { sideways, tooWide, unfold } from "./reflow.js";
import { scriptSite } from "./scripted_site.js";
import { openPage, servePage } from "./served_page.js";

const DESK = { width: 1280, height: 900 };
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
/** How people look at the page. */
const WAYS: Record<string, BrowserContextOptions> = {
  light: { viewport: DESK },
  "dark and wide": { viewport: { width: 2560, height: 1440 }, colorScheme: "dark" },
  "a dark phone without motion": { ...PHONE, colorScheme: "dark", reducedMotion: "reduce" },
  "forced colours": { viewport: DESK, forcedColors: "active", colorScheme: "dark" },
};
/** A zoom leaves fewer pixels of style, each larger, of 1280 by 900. */
const ZOOMS = [2, 4];

const newPage = browserForTests();

test("everybody can use every view, however they look at it", async (t) => {
  const { url } = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
  for (const [way, options] of Object.entries(WAYS)) await t.test(way, () => everyView(url, options));
  for (const zoom of ZOOMS) {
    const viewport = { width: DESK.width / zoom, height: DESK.height / zoom };
    await t.test(`a zoom of ${zoom}00 %`, () => everyView(url, { viewport, deviceScaleFactor: zoom }, reads));
  }
});

test("fences in every state, a failed one too, are no different", async (t) => {
  const machine = builtinMachine("sequoia");
  const [first, second] = machine.gpus.map(({ address }) => address);
  const assignments = [
    { name: "vm1", members: [first ?? ""] },
    { name: "vm2", members: [second ?? ""] },
  ];
  const site = await scriptSite(t, snapshotOf(machine, assignments, { history: resetsOf("GPU0", 3) }));
  for (const way of ["light", "a dark phone without motion"]) await t.test(way, () => everyView(site.url, WAYS[way]));
});

async function everyView(url: string, options: BrowserContextOptions = {}, look = isAccessible): Promise<void> {
  const { page, errors } = await newPage(options);
  await openPage(page, url);
  await page.getByLabel("libvirt").check();
  await unfold(page);
  await look(page);
  if (options.reducedMotion === "reduce") assert.deepEqual(await motion(page), []);
  await page.context().close();
  assert.deepEqual(errors, []);
}

async function isAccessible(page: Page): Promise<void> {
  await assertAccessible(page);
  await reads(page);
}

/** Nothing has to be scrolled sideways but what says so. */
async function reads(page: Page): Promise<void> {
  assert.deepEqual(await tooWide(page), []);
  assert.equal(await sideways(page), 0);
}

/** What moves. */
function motion(page: Page): Promise<string[]> {
  return page.evaluate(() => [
    ...document.getAnimations().map((animation) => String(animation)),
    ...[...document.querySelectorAll("*")].flatMap((each) => {
      const { scrollBehavior, transitionDuration } = getComputedStyle(each);
      return scrollBehavior === "smooth" || !/^[0s, ]*$/.test(transitionDuration) ? [each.outerHTML.slice(0, 120)] : [];
    }),
  ]);
}
