import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { browserForTests } from "./browser.js";
import { openPage, servePage } from "./served_page.js";

/** What can be reached with Tab. Of radio buttons that belong together one can, and of what is folded up nothing. */
const REACHABLE = "a[href], button:not([disabled]), input, select, textarea, summary, [tabindex='0']";
/** More than there is: who is still on the way then is trapped. */
const MOST_KEYS = 300;

/** What has the focus. */
interface Stop {
  /** Its place among all elements of the page. */
  place: number;
  name: string;
  /** Whether there is a line around it. */
  outlined: boolean;
  /** Whether what of it is in the window has nothing on it. */
  seen: boolean;
}

const newPage = browserForTests();

for (const [screen, options] of Object.entries({
  "a desk": {},
  "a phone": { viewport: { width: 360, height: 740 } },
})) {
  test(`on ${screen} Tab gets to everything, in the order in which it is read, and out again`, async (t) => {
    const { url } = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
    const { page } = await newPage({ reducedMotion: "reduce", ...options });
    await openPage(page, url);
    const stops = await walk(page, "Tab");
    const places = stops.map(({ place }) => place);
    assert.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
    );
    assert.deepEqual(await missing(page, new Set(places)), []);
    assert.deepEqual(named(stops.filter(({ outlined }) => !outlined)), [], "without a line around it");
    assert.deepEqual(named(stops.filter(({ seen }) => !seen)), [], "under something else");
    const back = await walk(page, "Shift+Tab");
    assert.deepEqual(named(back), named(stops.toReversed()));
    assert.deepEqual(named(back.filter(({ seen }) => !seen)), [], "under something else, on the way back");
    await page.context().close();
  });
}

function named(stops: readonly Stop[]): string[] {
  return stops.map(({ name }) => name);
}

/** Presses a key until the focus has left the page, or begins again. */
async function walk(page: Page, key: "Tab" | "Shift+Tab"): Promise<Stop[]> {
  const stops: Stop[] = [];
  for (let press = 0; press < MOST_KEYS; press++) {
    await page.keyboard.press(key);
    const stop = await focused(page);
    if (stop === null || stop.place === stops[0]?.place) return stops;
    stops.push(stop);
  }
  throw new Error(`there is no way out: ${named(stops.slice(-5)).join(", ")}`);
}

/** Where the focus is; null where it is not in the page. */
function focused(page: Page): Promise<Stop | null> {
  return page.evaluate(() => {
    const element = document.activeElement;
    if (element === null || element === document.body) return null;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const [left, right] = [Math.max(0, box.left), Math.min(innerWidth, box.right)];
    const [top, bottom] = [Math.max(0, box.top), Math.min(innerHeight, box.bottom)];
    const there = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return {
      place: [...document.querySelectorAll("*")].indexOf(element),
      name: `${element.tagName} ${(element.getAttribute("aria-label") ?? element.textContent).trim().slice(0, 60)}`,
      outlined: outlineStyle !== "none" && Number.parseFloat(outlineWidth) >= 2,
      seen: right > left && bottom > top && there !== null && (element.contains(there) || there.contains(element)),
    };
  });
}

/** What could be reached and was not. */
function missing(page: Page, places: ReadonlySet<number>): Promise<string[]> {
  return page.evaluate(
    ([reachable, reached]) => {
      const all = [...document.querySelectorAll("*")];
      return [...document.querySelectorAll<HTMLElement>(reachable)]
        .filter((each) => each.checkVisibility() && each.tabIndex >= 0)
        .filter((each) => !(each instanceof HTMLInputElement && each.type === "radio" && !each.checked))
        .filter((each) => !reached.includes(all.indexOf(each)))
        .map((each) => each.outerHTML.slice(0, 120));
    },
    [REACHABLE, [...places]] as const,
  );
}
