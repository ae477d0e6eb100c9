import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { linkfence, scratchFolder } from "../cli/linkfence.js";
import { htmlOutline } from "../html_outline.js";
import { launchBrowser, NO_BROWSER, newPage } from "./browser.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { width: 360, height: 740 };
const VIEWS: [string, BrowserContextOptions][] = [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["a phone, light", { viewport: PHONE }],
  ["a phone, dark", { viewport: PHONE, colorScheme: "dark" }],
];

describe("the report in a browser", { skip: NO_BROWSER }, () => {
  const folder = scratchFolder();
  let browser: Browser;
  let file: string;

  before(async () => {
    browser = await launchBrowser();
    const capture = folder.path("fenced.json");
    const machine = ["--machine", "sequoia"];
    await linkfence("fence", ...machine, "--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2", "--out", capture);
    file = folder.path("report.html");
    const assign = ["vm1=GPU0", "vm2=GPU1", "vm3=GPU3"].flatMap((one) => ["--assign", one]);
    await linkfence("audit", "--capture", capture, ...assign, "--format", "html", "--out", file);
  });
  after(() => browser.close());

  for (const [name, options] of VIEWS) {
    test(`has nothing that keeps people out, and fits: ${name}`, async () => {
      const { page, errors } = await newPage(browser, options);
      await page.goto(`file://${file}`);
      await page.evaluate(AXE);
      const violations = await page.evaluate(async () => {
        const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string }[] }> } };
        return (await axe.run()).violations;
      });
      assert.deepEqual(violations, []);
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
    const { page } = await newPage(browser);
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

  test("paper is white, whatever the screen is", async () => {
    const { page } = await newPage(browser, { colorScheme: "dark" });
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
