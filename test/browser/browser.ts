import { existsSync } from "node:fs";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

/** Debian's Chromium, or what the variable names. */
const PROGRAM = [process.env.LINKFENCE_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"].find(
  (path) => path !== undefined && existsSync(path),
);
/** Names lead nowhere: what is on this machine goes by its address. */
const ALONE = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE ::1"];
const FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
const FONTS = fileURLToPath(new URL("fonts.conf", import.meta.url));

/** Why there is no browser to run checks in; false where there is one. */
export const NO_BROWSER: string | false =
  PROGRAM === undefined
    ? "no Chromium here (Debian: chromium); LINKFENCE_CHROMIUM names another"
    : !existsSync(FONT) && `no ${FONT} here (Debian: fonts-dejavu-core)`;

/** Starts a browser without a window. What it draws depends neither on the fonts that are installed nor on a display. */
export function launchBrowser(): Promise<Browser> {
  // Root, as which containers run, has no sandbox; it opens nothing but our own page.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({
    executablePath: PROGRAM ?? "",
    args: [...args, ...ALONE, "--disable-gpu", "--font-render-hinting=none"],
    env: { ...process.env, FONTCONFIG_FILE: FONTS },
  });
}

/**
 * One browser for all tests of a file, which ends with them.
 * @returns opens a page in it
 */
export function browserForTests(): OpenPage {
  let browser: Browser | undefined;
  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser?.close());
  return (options) => {
    if (browser === undefined) throw new Error("the browser starts with the first test");
    return newPage(browser, options);
  };
}

/** Opens a page of its own; see {@link newPage}. */
export type OpenPage = (options?: BrowserContextOptions) => ReturnType<typeof newPage>;

/** A page on which every error is one of the test: `errors` is to stay empty. */
export async function newPage(
  browser: Browser,
  options: BrowserContextOptions = {},
): Promise<{ page: Page; errors: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") errors.push(message.text());
  });
  return { page, errors };
}
