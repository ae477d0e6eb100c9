import { launchBrowser, NO_BROWSER, newPage } from "../test/browser/browser.js";
import { distribution } from "../test/browser/distribution.js";
import { largePage, pageLoads, smallPage } from "../test/browser/page_loads.js";

const ROUNDS = 15;

/** The page in Chromium, from a server on this machine: from the navigation until the machine is shown. */
export async function run(): Promise<void> {
  if (NO_BROWSER !== false) {
    console.log(`page: ${NO_BROWSER}`);
    return;
  }
  console.log("page in Chromium, from the navigation to the machine shown");
  const browser = await launchBrowser();
  const endings = [() => browser.close()];
  try {
    for (const [what, serve] of Object.entries({ "  6 GPUs": smallPage, " 72 GPUs": largePage })) {
      const url = await serve({ after: (end) => endings.unshift(end as () => Promise<void>) });
      const [first = 0, ...rest] = await pageLoads(() => newPage(browser), url, ROUNDS);
      console.log(`  ${what}  first ${first} ms, then ${distribution(rest).words}`);
    }
  } finally {
    for (const end of endings) await end();
  }
}
