import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { LINK_DISABLE } from "../../src/machine/part.js";
import type { Snapshot } from "../../src/web/snapshot.js";
import { Guest } from "../serving/guest.js";
import { browserForTests } from "./browser.js";
import { FROZEN_NOW, frozen, snapshotAt } from "./frozen_snapshot.js";
import { assertLooksAs, assertLooksAsInDocs } from "./reference_picture.js";
import { scriptSite } from "./scripted_site.js";
import { openPage, servePage, socketOf } from "./served_page.js";

const DESK = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 } };
const LIGHT = { colorScheme: "light" } as const;
const DARK = { colorScheme: "dark" } as const;

const newPage = browserForTests();

test("the page of sequoia, with a guest in one of its GPUs", async (t) => {
  const snapshot = await snapshotWithGuest(t, "sequoia", ["vm1=GPU0,GPU1", "vm2=GPU2"], "GPU2");
  const looks = (name: string, options: BrowserContextOptions) => looksAs(t, `page-sequoia-${name}`, snapshot, options);
  await looks("light", { ...DESK, ...LIGHT });
  await looks("phone", { ...PHONE, ...LIGHT });
  const part = async (what: string, options: BrowserContextOptions, look: (page: Page) => Promise<void>) => {
    await t.test(what, async () => {
      const page = await opened(t, snapshot, options);
      await look(page);
      await page.context().close();
    });
  };
  await part("in forced colours", { ...DESK, forcedColors: "active" }, async (page) => {
    await page.getByRole("link", { name: "Timeline" }).click();
    assertLooksAs("page-sequoia-forced-colours", await page.screenshot());
  });
  // So high that the bar above is not over the plan.
  await part("a plan", { viewport: { width: 1280, height: 8000 }, ...LIGHT }, async (page) => {
    await page.getByLabel("Owner of GPU3").selectOption("vm2");
    await page.getByLabel("Owner of GPU1").selectOption("host");
    assertLooksAs("page-sequoia-plan", await page.locator("#plan").screenshot());
  });
  await part("the README's picture", { viewport: { width: 1200, height: 1180 }, ...LIGHT }, async (page) => {
    assertLooksAsInDocs("page", await page.screenshot());
  });
});

test("the page of dgx1v", async (t) => {
  const snapshot = await snapshotWithGuest(t, "dgx1v", ["vm1=GPU0,GPU1,GPU2,GPU3", "vm2=GPU4"], "GPU0");
  await looksAs(t, "page-dgx1v", snapshot, { ...DESK, ...LIGHT });
});

test("the page of redbud", async (t) => {
  const snapshot = await snapshotWithGuest(t, "redbud", ["vm1=GPU0"], "GPU0");
  await looksAs(t, "page-redbud", snapshot, { ...DESK, ...DARK });
});

/** What a real server tells after a guest has come, has reset its GPU twice, and has tried to open its fence. */
async function snapshotWithGuest(
  t: TestContext,
  machine: string,
  assign: readonly string[],
  gpu: string,
): Promise<Snapshot> {
  const served = await servePage(t, machine, ...assign);
  const guest = new Guest(socketOf(served, gpu));
  guest.reset();
  guest.reset();
  guest.setRegister(LINK_DISABLE, 0);
  await served.server.event("fence", ({ step }) => step === "guarded write");
  const snapshot = frozen(await snapshotAt(served.url));
  guest.close();
  return snapshot;
}

async function looksAs(
  t: TestContext,
  name: string,
  snapshot: Snapshot,
  options: BrowserContextOptions,
): Promise<void> {
  await t.test(name, async () => {
    const page = await opened(t, snapshot, options);
    assertLooksAs(name, await page.screenshot({ fullPage: true }));
    await page.context().close();
  });
}

/** The page as it always is at this moment. */
async function opened(t: TestContext, snapshot: Snapshot, options: BrowserContextOptions): Promise<Page> {
  const { url } = await scriptSite(t, snapshot);
  const { page, errors } = await newPage({ timezoneId: "UTC", reducedMotion: "reduce", ...options });
  await page.clock.setFixedTime(FROZEN_NOW);
  await openPage(page, url);
  assert.deepEqual(errors, []);
  return page;
}
