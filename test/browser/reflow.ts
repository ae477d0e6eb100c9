import type { Page } from "playwright-core";

/** Unfolds all that is folded up. */
export async function unfold(page: Page): Promise<void> {
  await page.locator("details").evaluateAll((all) => {
    for (const each of all) each.setAttribute("open", "");
  });
}

/** What reaches beyond the right edge of the window without a part of the page that scrolls around it, a line each. */
export function tooWide(page: Page): Promise<string[]> {
  return page.locator("body *").evaluateAll((all) =>
    all
      .filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
      .filter((each) => {
        for (let above = each.parentElement; above !== null; above = above.parentElement) {
          if (getComputedStyle(above).overflowX !== "visible") return false;
        }
        return true;
      })
      .map((each) => each.outerHTML.slice(0, 120)),
  );
}

/** By how much the page can be scrolled to the side, in pixels. */
export function sideways(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
