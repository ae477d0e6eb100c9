import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { builtinMachine } from "../../src/machine/builtin.js";
import { readPage } from "../../src/web/page_file.js";
import { boardsOf } from "../made_up_boards.js";
import { gpu, machineOf, to } from "../made_up_machine.js";
import { resetsOf, snapshotOf, stateOf } from "../made_up_state.js";
import { assertAccessible } from "./axe.js";
import { browserForTests } from "./browser.js";
import { scriptSite } from "./scripted_site.js";
import { openPage } from "./served_page.js";

/** The most that the page may be, in compressed bytes. */
const MOST_BYTES = 150_000;

const ASSIGNMENTS = [{ name: "vm1", members: ["0000:1a:00.0"] }];
const MACHINE = builtinMachine("c4140");

test("the page is small", () => {
  assert.ok(gzipSync(readPage().html, { level: 9 }).length < MOST_BYTES);
});

describe("a page of any server", () => {
  const newPage = browserForTests();

  test("events alone draw no picture again, and links do", async (t) => {
    const site = await scriptSite(t, snapshotOf(MACHINE, ASSIGNMENTS));
    const { page } = await newPage();
    await openPage(page, site.url);
    const svg = page.locator("#picture svg");
    const mark = () => svg.evaluate((element) => element.setAttribute("data-mark", ""));
    await mark();
    const state = stateOf(MACHINE, ASSIGNMENTS);
    const [first] = state.status.functions;
    if (first !== undefined) first.client = { pid: 815, uid: 1, gid: 1, since: new Date().toISOString() };
    site.send("events", resetsOf("GPU0", 3));
    site.send("state", state);
    await page.locator("table.fences", { hasText: "process 815" }).waitFor();
    assert.equal(await page.locator("#picture svg[data-mark]").count(), 1);
    const gpus = state.gpus.map((one) => ({
      ...one,
      links: one.links.map((link) => ({ ...link, far: { kind: "none" as const } })),
    }));
    site.send("state", { ...state, gpus });
    await page.locator("#picture svg[data-mark]").waitFor({ state: "detached" });
    assert.equal(await svg.count(), 1);
  });

  test("a server that cannot look makes everything stale until it can", async (t) => {
    const site = await scriptSite(t, snapshotOf(MACHINE, ASSIGNMENTS, { state: stateOf(MACHINE, ASSIGNMENTS) }));
    const { page, errors } = await newPage();
    await openPage(page, site.url);
    await page.locator("table.fences .tag.good").first().waitFor();
    site.send("blind", { why: "the worker does not answer" });
    await page.locator(".lost", { hasText: "the worker does not answer" }).waitFor();
    site.send("beat", { time: new Date().toISOString() });
    site.send("events", resetsOf("GPU0", 1));
    await page.locator("#timeline td", { hasText: "reset and fenced" }).waitFor();
    assert.equal(await page.locator(".tag.good").count(), 0, "what happens says nothing of what is");
    site.send("state", stateOf(MACHINE, ASSIGNMENTS));
    await page.locator(".lost").waitFor({ state: "detached" });
    assert.deepEqual(errors, []);
  });

  test("what the page does not understand is not taken for what is", async (t) => {
    const site = await scriptSite(t, snapshotOf(MACHINE, ASSIGNMENTS));
    const { page } = await newPage();
    await openPage(page, site.url);
    site.send("state", {} as never);
    await page.locator(".lost", { hasText: "load the page again" }).waitFor();
  });

  test("where there is no clipboard the old way copies", async (t) => {
    const site = await scriptSite(t, snapshotOf(MACHINE, ASSIGNMENTS));
    const { page } = await newPage();
    await page.addInitScript(() => {
      Object.defineProperty(navigator, "clipboard", { value: undefined });
      document.addEventListener("copy", () => {
        document.documentElement.dataset.copied = String(document.getSelection());
      });
    });
    await openPage(page, site.url);
    await page.locator("#attach").getByRole("button", { name: "Copy" }).click();
    await page.locator("#attach", { hasText: "Copied" }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.copied), "-name vm1 \\\n-m 4G");
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "BUTTON");
  });

  const STRANGE = {
    "no GPUs": machineOf([]),
    "names that are long, markup, or written from right to left": machineOf(
      [
        gpu("0000:41:00.0", `<script>alert(1)</script>${"x".repeat(300)}`, [to("0000:42:00.0", 0)]),
        gpu("0000:42:00.0", "כרטיס מסך עברי", [to("0000:41:00.0", 0)], "unknown"),
      ],
      { name: "ü".repeat(256), source: "y".repeat(400) },
    ),
    "72 GPUs": boardsOf(9, { gpus: 8, switches: 6 }),
  };
  for (const [what, machine] of Object.entries(STRANGE)) {
    test(`${what}: readable and accessible`, async (t) => {
      const owned = machine.gpus.slice(0, 1).map(({ address }) => address);
      const assignments = owned.length === 0 ? [] : [{ name: "a".repeat(64), members: owned }];
      const history = machine.gpus.slice(0, 20).flatMap(({ name }, index) => resetsOf(name, 1, 1 + index * 7));
      const site = await scriptSite(t, snapshotOf(machine, assignments, { history }));
      // Of many GPUs a phone shows as much as a desk, and axe takes its time with them.
      for (const width of machine.gpus.length > 16 ? [360] : [1280, 360]) {
        const { page, errors } = await newPage({ viewport: { width, height: 800 } });
        await openPage(page, site.url);
        await assertAccessible(page);
        const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.equal(wide, room, `the page scrolls sideways at ${width}`);
        assert.deepEqual(errors, []);
      }
    });
  }
});
