import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { browserForTests } from "./browser.js";
import { openPage, servePage } from "./served_page.js";

const newPage = browserForTests();

test("who hears the page finds its parts by landmarks, headings and names", async (t) => {
  const { url } = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
  const { page } = await newPage();
  await openPage(page, url);

  const spoken = await page.locator("body").ariaSnapshot();
  for (const role of ["banner", "navigation", "main", "contentinfo"])
    assert.equal(spoken.match(new RegExp(`^ *- ${role}\\b`, "gm"))?.length, 1, role);

  const headings = [...spoken.matchAll(/- heading "(.*)" \[level=(\d)\]/g)].map(([, name, level]) => [
    name,
    Number(level),
  ]);
  assert.deepEqual(headings.filter(([, level]) => level === 1).length, 1);
  assert.deepEqual(
    headings.filter(([, level]) => level === 2).map(([name]) => name),
    ["Picture", "Findings", "Fences", "Timeline", "Isolation", "Attach", "Plan"],
  );
  headings.reduce((before, [name, level]) => {
    assert.ok(Number(level) <= before + 1, `no level is left out before ${name}`);
    return Number(level);
  }, 0);

  // Each part of the page is a region with a name, and so is whatever can be operated or looked at.
  for (const role of ["region", "img", "table", "button", "link", "radio", "textbox", "combobox"] as const) {
    assert.deepEqual(await nameless(page, role), [], role);
  }
  assert.equal(await page.getByRole("img", { name: /^NVLink topology of sequoia \(virtual\)/ }).count(), 1);
});

/** What has this role and no name, a line each. */
async function nameless(page: Page, role: Parameters<Page["getByRole"]>[0]): Promise<string[]> {
  const all = page.getByRole(role);
  const named = page.getByRole(role, { name: /\S/ });
  if ((await all.count()) === (await named.count())) return [];
  const known = await named.evaluateAll((elements) => elements.map((each) => each.outerHTML));
  const found = await all.evaluateAll((elements) => elements.map((each) => each.outerHTML));
  return found.filter((html) => !known.includes(html)).map((html) => html.slice(0, 160));
}
