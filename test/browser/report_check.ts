import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, describe, test } from "node:test";
import type { BrowserContextOptions } from "playwright-core";
import { linkfence, scratchFolder } from "../cli/linkfence.js";
import { htmlOutline } from "../html_outline.js";
import { assertAccessible } from "./axe.js";
import { browserForTests } from "./browser.js";
import { assertLooksAs } from "./reference_picture.js";

const PHONE = { width: 360, height: 740 };
const VIEWS: [string, BrowserContextOptions][] = [
  ["light", {}],
  ["a phone, dark", { viewport: PHONE, colorScheme: "dark" }],
];

describe("the report in a browser", () => {
  const newPage = browserForTests();
  const folder = scratchFolder();
  let file: string;

  before(async () => {
    const capture = folder.path("fenced.json");
    const machine = ["--machine", "sequoia"];
    await linkfence("fence", ...machine, "--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2", "--out", capture);
    file = folder.path("report.html");
    const assign = ["vm1=GPU0", "vm2=GPU1", "vm3=GPU3"].flatMap((one) => ["--assign", one]);
    await linkfence("audit", "--capture", capture, ...assign, "--format", "html", "--out", file);
  });

  for (const [name, options] of VIEWS) {
    test(`has nothing that keeps people out, and fits: ${name}`, async () => {
      const { page, errors } = await newPage(options);
      await page.goto(`file://${file}`);
      await assertAccessible(page);
      const { beside, paper } = (await page.evaluate(`({
        beside: document.documentElement.scrollWidth - innerWidth,
        paper: getComputedStyle(document.body).backgroundColor,
      })`)) as { beside: number; paper: string };
      assert.ok(beside <= 0, "nothing is beside the window");
      assert.equal(paper === "rgb(255, 255, 255)", options.colorScheme !== "dark");
      assert.deepEqual(errors, []);
      await page.context().close();
    });
  }

  test("the browser reads the elements that are written, and mends nothing", async () => {
    const { page } = await newPage();
    await page.goto(`file://${file}`);
    const seen = await page.evaluate(`(() => {
      const outline = [];
      const walk = (element, depth) => {
        outline.push(depth + " " + element.localName);
        for (const child of element.children) walk(child, depth + 1);
      };
      walk(document.documentElement, 0);
      return outline;
    })()`);
    assert.deepEqual(seen, htmlOutline(readFileSync(file, "utf8")));
    assert.equal(await page.evaluate("document.compatMode"), "CSS1Compat");
    await page.context().close();
  });

  test("looks as it always does", async () => {
    const always = folder.file("always.html", frozen(readFileSync(file, "utf8")));
    // So high that all of it is drawn.
    const { page } = await newPage({ viewport: { width: 1280, height: 6000 } });
    await page.goto(`file://${always}`);
    assertLooksAs("report-sequoia", await page.locator("body").screenshot());
    await page.context().close();
  });

  test("paper is white, whatever the screen is", async () => {
    const { page } = await newPage({ colorScheme: "dark" });
    await page.goto(`file://${file}`);
    await page.emulateMedia({ media: "print" });
    const colours = await page.evaluate(`[
      getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.querySelector(".lf-paper")).fill,
      getComputedStyle(document.querySelector("nav")).display,
    ]`);
    assert.deepEqual(colours, ["rgb(255, 255, 255)", "rgb(255, 255, 255)", "none"]);
    await page.context().close();
  });
});

/** The report without what is different each time: moments, and folders. */
function frozen(html: string): string {
  return html
    .replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "2026-01-31 12:00:00")
    .replaceAll(/[^\s"'<>]*linkfence-cli-[^/\s]+\//g, "");
}
