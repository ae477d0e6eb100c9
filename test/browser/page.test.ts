import assert from "node:assert/strict";
import { test } from "node:test";
import { launchBrowser, NO_BROWSER, newPage } from "./browser.js";
import { openPage, servePage } from "./served_page.js";

test("the page shows the machine's picture", { skip: NO_BROWSER }, async (t) => {
  const { url } = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
  const browser = await launchBrowser();
  t.after(() => browser.close());
  const { page, errors } = await newPage(browser);
  await openPage(page, url);
  assert.equal(await page.locator("#picture svg [data-gpu]").count(), 6);
  assert.deepEqual(errors, []);
});
