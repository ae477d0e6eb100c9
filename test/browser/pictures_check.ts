import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { BUILTIN_MACHINES } from "../../src/machine/builtin.js";
import { writeCapture } from "../../src/machine/capture.js";
import { printed, scratchFolder } from "../cli/linkfence.js";
import { boardsOf } from "../made_up_boards.js";
import { launchBrowser } from "./browser.js";
import { forKeeping, pictureDifference } from "./picture_difference.js";
import { assertLooksAs } from "./reference_picture.js";

const THEMES = ["light", "dark"] as const;
const OWNERS = ["--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2"];
/** Of machines with fewer GPUs, or with none of number 0. */
const OTHER_OWNERS: Readonly<Record<string, string[]>> = {
  redbud: ["--assign", "vm1=GPU0", "--assign", "vm2=GPU1"],
  minsky: ["--assign", "vm1=GPU1,GPU2", "--assign", "vm2=GPU3"],
};
const scratch = scratchFolder();

let browser: Browser;
let page: Page;
before(async () => {
  browser = await launchBrowser();
  page = await browser.newPage({ viewport: { width: 1600, height: 1400 } });
});
after(() => browser.close());

for (const { name } of BUILTIN_MACHINES) {
  test(`the picture of ${name}`, async () => {
    await looksAs(name, await drawn("--machine", name, ...(OTHER_OWNERS[name] ?? OWNERS)));
  });
}

test("the picture of 16 GPUs with NVSwitches", async () => {
  const machine = boardsOf(2, { gpus: 8, switches: 6 });
  const file = scratch.file("16-gpus.json", writeCapture(machine, "2026-01-01T00:00:00Z"));
  await looksAs("16-gpus", await drawn("--capture", file, "--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU8"));
});

test("the picture of a machine with links that are cut", async () => {
  const file = scratch.path("fenced.json");
  await printed(0, "fence", "--machine", "sequoia", ...OWNERS, "--out", file);
  await looksAs("sequoia-fenced", await drawn("--capture", file));
});

test("a picture that differs is found, and one that does not is not", async () => {
  const svg = await drawn("--machine", "sequoia", ...OWNERS);
  const kept = forKeeping(await shown(svg, "light"));
  const difference = async (changed: string) => pictureDifference(await shown(changed, "light"), kept);
  const changes = {
    "a label has moved by a pixel": svg.replace(/<text x="(\d+)"/, (_, x) => `<text x="${Number(x) + 1}"`),
    "a letter is another": svg.replace(">GPU0<", ">GPU8<"),
    "a link is missing": svg.replace(/<path [^>]*class="lf-up"[^>]*>/, ""),
    "a bad link looks like a good one": svg.replace('class="lf-bad" fill="none" stroke="#d55e00"', 'stroke="#1b2733"'),
    "a bad link's sign has gone": svg.replace(/<rect [^>]*class="lf-badge"[^>]*>/, ""),
    "two owners have one colour": svg.replaceAll("#f3c766", "#9ad2f2"),
    "it is larger": svg.replace(/ width="(\d+)"/, (_, width) => ` width="${Number(width) + 20}"`),
  };
  assert.equal(await difference(svg), undefined);
  for (const [what, changed] of Object.entries(changes)) {
    assert.notEqual(changed, svg, what);
    assert.ok(await difference(changed), `not found: ${what}`);
  }
});

/** The picture as SVG. */
function drawn(...source: string[]): Promise<string> {
  return printed(0, "topo", ...source, "--format", "svg");
}

async function looksAs(name: string, svg: string): Promise<void> {
  for (const theme of THEMES) assertLooksAs(`picture-${name}-${theme}`, await shown(svg, theme));
}

/** What a browser makes of it. */
async function shown(svg: string, theme: (typeof THEMES)[number]): Promise<Buffer> {
  await page.emulateMedia({ colorScheme: theme });
  await page.setContent(`<!doctype html><body style="margin: 0">${svg}`);
  return page.locator("svg").screenshot();
}
